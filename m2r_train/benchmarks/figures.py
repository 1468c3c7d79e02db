"""Figures of a benchmark: means with n and standard error, groups of them, means of means.

Values are shares, 0..1; who prints them multiplies by 100. An undefined figure has no value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from m2r_train.core.stats import clustered_stderr, mean_with_stderr

T = TypeVar("T")


class Figure(NamedTuple):
    """A share with the number of cases behind it and its standard error (None: unknown)."""

    value: float | None
    n: int
    stderr: float | None

    def percent(self) -> dict[str, float | int | None]:
        """As the papers print it: in percent."""
        value = None if self.value is None else 100.0 * self.value
        stderr = None if self.stderr is None else 100.0 * self.stderr
        return {"value": value, "n": self.n, "stderr": stderr}


UNDEFINED = Figure(None, 0, None)


def mean(values: Sequence[float]) -> Figure:
    """The mean of independent scores; `UNDEFINED` without any."""
    if not values:
        return UNDEFINED
    estimate = mean_with_stderr(values)
    return Figure(estimate.value, estimate.n, estimate.stderr)


def clustered_mean(values: Sequence[float], clusters: Sequence[Hashable]) -> Figure:
    """The mean of scores that come in clusters (variants of a question): their error says so."""
    if not values:
        return UNDEFINED
    return mean(values)._replace(stderr=clustered_stderr(values, clusters))


def mean_of(figures: Iterable[Figure]) -> Figure:
    """The unweighted mean of independent figures; undefined where one of them is."""
    parts = list(figures)
    values = [part.value for part in parts if part.value is not None]
    n = sum(part.n for part in parts)
    if not parts or len(values) < len(parts):
        return Figure(None, n, None)
    errors = [part.stderr for part in parts if part.stderr is not None]
    stderr = (
        math.sqrt(math.fsum(e * e for e in errors)) / len(parts)
        if len(errors) == len(parts)
        else None
    )
    return Figure(math.fsum(values) / len(parts), n, stderr)


def grouped(items: Iterable[T], key: Callable[[T], str]) -> dict[str, list[T]]:
    """Items by a key, keys in alphabetical order."""
    groups: dict[str, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return dict(sorted(groups.items()))


def prefixed(prefix: str, figures: Mapping[str, Figure]) -> dict[str, Figure]:
    """Figures under ``prefix/name``."""
    return {f"{prefix}/{name}": figure for name, figure in figures.items()}
