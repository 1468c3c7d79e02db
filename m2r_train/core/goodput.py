"""Goodput: the share of a run's time that went into steps which count."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

NOT_WORK: Final = ("step", "checkpoint", "mfu")
"""Keys of a step's timings that are no seconds of work; waiting for a save is none."""


def goodput(
    timings: Iterable[Mapping[str, float | int | str]], started: float, now: float
) -> float:
    """Seconds of work in steps that are kept, over all seconds since the run's first start, 0..1.

    ``timings``: seconds by phase of each step that is kept, once each, by whatever attempt
    (``telemetry.history``). What an attempt computed and lost is not among them, but its time has
    passed; so has that of starting, waiting for pods and restoring. ``started``, ``now``: Unix
    time; the two may come from clocks that differ, so the result is held within its bounds.
    """
    passed = now - started
    if passed <= 0:
        return 0.0
    work = sum(
        float(seconds)
        for step in timings
        for phase, seconds in step.items()
        if phase not in NOT_WORK
    )
    return min(1.0, work / passed)
