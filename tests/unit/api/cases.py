"""Manifests for tests: the design's four, the smallest good one a kind, and a table of bad ones.

Plain data, so that a test against a real API server can use the same table.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

DESIGN: Final = Path(__file__).with_name("design.yaml")
GONE: Final = object()
"""As a new value: take the field away."""

_SMALL_SPECS: Final = {
    "DataSynthesisJob": "{sources: [{name: rooms, simulator: {tasks: [RoomSize], scenes: 9}}]}",
    "SFTJob": "{model: {preset: tiny}, dataset: {uri: 'file:///data'}}",
    "RLVRJob": "{model: {preset: tiny}, dataset: {uri: 'file:///data'}}",
    "EvalJob": (
        "{model: {preset: tiny}, benchmarks: [{name: synthetic, data: {uri: 'file:///data'}}]}"
    ),
}


def small(kind: str) -> dict[str, Any]:
    """The least that a kind needs."""
    return {
        "apiVersion": "m2r.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": "x"},
        "spec": yaml.safe_load(_SMALL_SPECS[kind]),
    }


def changed(manifest: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with the field at a path such as ``spec.sources[0].name`` set, or taken away."""
    result = copy.deepcopy(manifest)
    parts = [int(p) if p.isdigit() else p for p in re.findall(r"[^.\[\]]+", path)]
    holder: Any = result
    for part in parts[:-1]:
        holder = holder.setdefault(part, {}) if isinstance(holder, dict) else holder[part]
    if value is GONE:
        del holder[parts[-1]]
    elif isinstance(holder, list) and parts[-1] == len(holder):
        holder.append(value)
    else:
        holder[parts[-1]] = value
    return result


@dataclass(frozen=True)
class Bad:
    """A manifest with one mistake, and the line that is printed after the file's name."""

    manifest: dict[str, Any]
    line: str

    @property
    def is_dropped(self) -> bool:
        """Whether the API server drops the mistake with a warning instead of refusing it."""
        return ": unknown " in self.line


def _bad(entry: dict[str, Any]) -> Bad:
    manifest = small(entry["kind"])
    for path, value in entry.get("set", {entry.get("remove"): GONE}).items():
        manifest = changed(manifest, path, value)
    return Bad(manifest, entry["line"])


BAD: Final = [
    _bad(entry)
    for entry in yaml.safe_load(Path(__file__).with_name("bad_manifests.yaml").read_text("utf-8"))
]
