"""Groups of a benchmark's rows and the names of their figures; the maths is `core.estimates`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from m2r_train.core.estimates import Figure

T = TypeVar("T")


def grouped(items: Iterable[T], key: Callable[[T], str]) -> dict[str, list[T]]:
    """Items by a key, keys in alphabetical order."""
    groups: dict[str, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return dict(sorted(groups.items()))


def prefixed(prefix: str, figures: Mapping[str, Figure]) -> dict[str, Figure]:
    """Figures under ``prefix/name``."""
    return {f"{prefix}/{name}": figure for name, figure in figures.items()}
