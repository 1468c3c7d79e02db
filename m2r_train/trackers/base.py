"""What a tracker is told of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from m2r_train.api.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Point:
    """What is known of one step: numbers, and texts, by name."""

    step: int
    scalars: Mapping[str, float]
    texts: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """A run as trackers take it. ``id`` is the run's own, the same in each export.

    ``points`` are in the order of their steps, ``scores`` those of a finished evaluation.
    """

    id: str
    name: str
    kind: str
    params: Mapping[str, str]
    points: Sequence[Point]
    scores: Mapping[str, float]


class Tracker(Protocol):
    """Where runs are written to. What is there already is not written again."""

    def write(self, run: Tracked) -> int:
        """Add what is not there yet; the number of steps that were added."""

    def where(self) -> str:
        """What to open, for people."""


class MissingClientError(ConfigError):
    """A tracker's client is not installed."""
