"""A sweep without a file: ``m2r sweep -f FILE --set PATH=V1,V2 --set …``, one arm a combination."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from m2r_train.api.manifests import load_manifests
from m2r_train.api.problems import SpecErrors
from m2r_train.api.resource import Resource
from m2r_train.api.sweep import FIELD_FORM, Sweep

OPTION: Final = Path("--set")  # what messages about its arms begin with
_NAME: Final = "ablation"
_MOST_ARMS: Final = 64


def ablation(files: Sequence[Path], sets: Sequence[str]) -> Sweep:
    """The sweep of all combinations of the values that ``sets`` list.

    ``sets``: ``RESOURCE.spec.FIELD=V1,V2``, values as YAML writes them; ``spec.FIELD`` where
    ``files`` hold one resource. An arm is called after its fields' last words and its values.
    Raises SpecErrors for a text of another form, and for two arms of one name.
    """
    resources = load_manifests(files)
    lists = [_field_and_values(one, resources) for one in sets]
    fields = [field for field, _ in lists]
    if len(set(fields)) < len(fields):
        raise SpecErrors([f"{OPTION}: names a field twice; list all of its values in one"])
    arms: dict[str, dict[str, Any]] = {}
    for values in itertools.product(*(values for _, values in lists)):
        name = "-".join(_slug(f, v) for f, v in zip(fields, values, strict=True))
        if name in arms:
            raise SpecErrors(
                [f"{OPTION}: two combinations are called {name}; write a sweep file with names"]
            )
        arms[name] = dict(zip(fields, values, strict=True))
    if len(arms) > _MOST_ARMS:
        raise SpecErrors([f"{OPTION}: {len(arms)} combinations, {_MOST_ARMS} are allowed"])
    return Sweep(name=_NAME, manifests=tuple(str(file.absolute()) for file in files), arms=arms)


def _field_and_values(text: str, resources: Sequence[Resource]) -> tuple[str, list[Any]]:
    field, found, listed = text.partition("=")
    if field.startswith("spec.") and len(resources) == 1:
        field = f"{resources[0].name}.{field}"
    if not found or not FIELD_FORM.match(field):
        remedy = "write RESOURCE.spec.FIELD=V1,V2"
        raise SpecErrors([f"{OPTION} {text}: is no field with values; {remedy}"])
    try:
        values = yaml.safe_load(f"[{listed}]")
    except yaml.YAMLError:
        raise SpecErrors([f"{OPTION} {text}: the values are no YAML; quote them"]) from None
    if not values:
        raise SpecErrors([f"{OPTION} {text}: has no value; write at least one behind ="])
    return field, values


def _slug(field: str, value: Any) -> str:
    told = "none" if value is None else str(value)
    words = f"{field.rpartition('.')[2]}-{told}".lower()
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-")
