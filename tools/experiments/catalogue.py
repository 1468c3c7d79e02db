"""Which experiments there are, and the runs of each by what they are made of.

A run's recipe is its spec with every reference replaced by the recipe of what it refers to. So it
is known before anything has run, and runs of two experiments that are the same have the same one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from m2r_train.api.claim import Claim, load_claim
from m2r_train.api.graph import references
from m2r_train.api.problems import SpecErrors, nearest
from m2r_train.api.runspec import canonical_json, recipe
from m2r_train.api.sweep import load_sweep
from m2r_train.sweeps.command import planned
from m2r_train.sweeps.expansion import Planned

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "examples" / "experiments"
KEPT_KINDS: Final = ("RLVRJob", "EvalJob")  # the others make inputs: their figures are none

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Experiment:
    """A folder with ``sweep.yaml``, ``claim.yaml`` and ``README.md``."""

    name: str
    folder: Path

    @property
    def sweep(self) -> Path:
        return self.folder / "sweep.yaml"

    @property
    def claim(self) -> Claim:
        return load_claim(self.folder / "claim.yaml")

    @property
    def cannot_tell(self) -> str:
        """The paragraph of the README that says what the outcome does not tell."""
        text = (self.folder / "README.md").read_text()
        _, _, after = text.partition("**What it cannot:** ")
        return " ".join(after.partition("\n\n")[0].split()).replace("../../../docs/", "")

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those that the experiment asks for."""
        return load_sweep(self.sweep).seeds

    def runs(self, seed: int) -> list[Run]:
        """The runs of a seed, the fixed ones among them, in order of references."""
        return list(_runs(self.sweep, seed))


@dataclass(frozen=True, slots=True)
class Run:
    """A planned run with its recipe (hex digits), and those of the runs that it is made from."""

    planned: Planned
    recipe: str
    needs: tuple[str, ...]

    @property
    def kind(self) -> str:
        return self.planned.resource.kind

    @property
    def name(self) -> str:
        return self.planned.resource.name

    @property
    def is_kept(self) -> bool:
        """Whether its figures go to a JSON file."""
        return self.kind in KEPT_KINDS


def experiments(names: Sequence[str] = (), folder: Path = FOLDER) -> list[Experiment]:
    """Those of ``names``, or all; SpecErrors for a name that there is not."""
    found = {
        p.parent.name: Experiment(p.parent.name, p.parent) for p in folder.glob("*/sweep.yaml")
    }
    lines = []
    for name in names:
        if name not in found:
            guess = nearest(name, found)
            remedy = f"did you mean {guess}?" if guess else f"there are {', '.join(sorted(found))}"
            lines.append(f"{name}: no such experiment; {remedy}")
    if lines:
        raise SpecErrors(lines)
    return [found[name] for name in (names or sorted(found))]


@cache
def _runs(sweep: Path, seed: int) -> tuple[Run, ...]:
    """Read once a process: reading and checking manifests is most of what a plan takes."""
    return tuple(identified(planned(sweep, str(seed))))


def identified(runs: Iterable[Planned]) -> list[Run]:
    """Each with its recipe; ``runs`` are in order of references."""
    recipes: dict[_Key, str] = {}
    found = []
    for one in runs:
        resource = one.resource
        needs = tuple(recipes[ref.kind, ref.name] for ref in references(resource))
        spec = _without_names(recipe(resource.spec), recipes)
        text = canonical_json({"kind": resource.kind, "spec": spec})
        digest = hashlib.sha256(text.encode()).hexdigest()
        recipes[resource.kind, resource.name] = digest
        found.append(Run(one, digest, needs))
    return found


def with_ancestors(runs: Sequence[Run], wanted: Iterable[str]) -> list[Run]:
    """Those with a wanted recipe, and all that they are made from, in the order of ``runs``."""
    needed = set(wanted)
    for one in reversed(runs):
        if one.recipe in needed:
            needed.update(one.needs)
    return [one for one in runs if one.recipe in needed]


def _without_names(value: Any, recipes: Mapping[_Key, str]) -> Any:
    """The value with the recipe of what it refers to where a reference stood."""
    if isinstance(value, dict):
        source = value.get("from")
        if isinstance(source, dict):
            return {**value, "from": recipes[source["kind"], source["name"]]}
        return {key: _without_names(own, recipes) for key, own in value.items()}
    if isinstance(value, list):
        return [_without_names(own, recipes) for own in value]
    return value
