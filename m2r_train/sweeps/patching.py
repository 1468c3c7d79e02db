"""One field of a manifest set by its path: ``rollout.groupSize``, ``sources[0].simulator.scenes``.

Pure, on plain values as YAML gives them. Whether the field exists is for the parser to say.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any, Final

_PART: Final = re.compile(r"([^.\[\]]+)((?:\[[0-9]+\])*)")


class PatchError(Exception):
    """A path that leads nowhere in this manifest; the message is for people."""


def patched(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``document`` with each path set; a None leaves the field out.

    Maps on the way are made where they are missing. Raises `PatchError` for an item that a list
    does not have, and for a path through a plain value.
    """
    made = copy.deepcopy(dict(document))
    for path, value in changes.items():
        _set(made, path, copy.deepcopy(value))
    return made


def _set(document: dict[str, Any], path: str, value: Any) -> None:
    *way, last = steps(path)
    at: Any = document
    for step, after in zip(way, [*way, last][1:], strict=True):
        if isinstance(step, str) and isinstance(at, dict) and step not in at:
            if isinstance(after, int):
                raise PatchError("there is no such list; add it to the base manifest")
            at[step] = {}
        at = _item(at, step)
    if isinstance(last, int):
        _item(at, last)
        at[last] = value
    elif not isinstance(at, dict):
        raise PatchError("leads through a plain value; set the field above it")
    elif value is None:
        at.pop(last, None)
    else:
        at[last] = value


def _item(at: Any, step: str | int) -> Any:
    if isinstance(step, int):
        if not isinstance(at, list) or step >= len(at):
            raise PatchError(f"there is no item [{step}]; name one that the base manifest has")
        return at[step]
    if not isinstance(at, dict):
        raise PatchError("leads through a plain value; set the field above it")
    return at[step]


def steps(path: str) -> list[str | int]:
    """``a.b[0].c`` as ``["a", "b", 0, "c"]``."""
    found: list[str | int] = []
    for name, items in _PART.findall(path):
        found.append(name)
        found += [int(number) for number in re.findall(r"[0-9]+", items)]
    return found
