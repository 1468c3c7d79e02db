"""The file of ``m2r sweep``: base manifests, named arms that change fields of them, and seeds.

Never sent to a cluster: its manifests are. Hence no kind and no CRD.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field

from m2r_train.api.problems import SpecErrors
from m2r_train.api.schema import MAX_INT, ItemName, LongText, Model, RunName, unique_items
from m2r_train.api.singlefile import load_single

SWEEP_LABEL: Final = "m2r.dev/sweep"
ARM_LABEL: Final = "m2r.dev/arm"
SEED_LABEL: Final = "m2r.dev/seed"

Seed = Annotated[int, Field(ge=0, le=MAX_INT)]
Patch = Mapping[LongText, Any]

FIELD_FORM: Final = re.compile(
    r"^[a-z][-a-z0-9]*\.spec(\.[A-Za-z0-9][-A-Za-z0-9_/]*(\[[0-9]+\])*)+$"
)
_SEEDS: Final = re.compile(r"^[0-9]{1,10}(-[0-9]{1,10})?(,[0-9]{1,10}(-[0-9]{1,10})?)*$")
_MOST_SEEDS: Final = 1000


class Sweep(Model):
    """A comparison to run: every arm with every seed."""

    name: ItemName = Field(description="Name of the sweep; the value of the label m2r.dev/sweep.")
    manifests: Annotated[tuple[LongText, ...], Field(min_length=1, max_length=64)] = Field(
        description="Files and folders of base manifests, from the folder of this file."
    )
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=_MOST_SEEDS)] = Field(
        default=(0,), description="Seed of every resource that is not fixed, a run for each."
    )
    fixed: Annotated[tuple[RunName, ...], Field(max_length=64)] = Field(
        default=(),
        description="Resources that keep their own seed and run once for all arms and seeds.",
    )
    arms: Annotated[Mapping[ItemName, Patch], Field(min_length=1, max_length=64)] = Field(
        description="What each arm changes: RESOURCE.spec.FIELD and the value; {} is the base."
    )
    rules = (unique_items("seeds", "seeds"), unique_items("fixed", "fixed"))


def load_sweep(path: Path) -> Sweep:
    """Reads a sweep. Raises SpecErrors, a line for each problem: file, field, remedy."""
    sweep = load_single(path, Sweep, nulls=True)
    wrong = [
        f"{path}: arms.{arm}: {field}: is no field; write RESOURCE.spec.FIELD"
        for arm, patch in sweep.arms.items()
        for field in patch
        if not FIELD_FORM.match(field)
    ]
    if wrong:
        raise SpecErrors(wrong)
    return sweep


def parse_seeds(text: str) -> tuple[int, ...]:
    """``0-4`` or ``0,3,8-9`` as seeds. Raises SpecErrors for any other text."""
    if not _SEEDS.match(text):
        raise SpecErrors([f"--seeds {text}: is no list of seeds; write 0-4 or 0,3,8"])
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if high < low or high > MAX_INT or high - low >= _MOST_SEEDS:
            raise SpecErrors([f"--seeds {part}: must rise, within {_MOST_SEEDS}; write 0-4"])
        seeds += range(low, high + 1)
    if len(set(seeds)) < len(seeds) or len(seeds) > _MOST_SEEDS:
        raise SpecErrors(
            [f"--seeds {text}: holds a seed twice or over {_MOST_SEEDS}; leave some out"]
        )
    return tuple(seeds)
