"""Several seeds of an arm as one line with a band, and as one number a run. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from m2r_train.api.claim import Measure
from m2r_train.report.series import Point, curves, curves_by_task, smooth

SHOWN = (  # of the histories of training, what is drawn for every arm: key, title, unit
    ("reward", "Reward", "mean of the step"),
    ("accuracy", "Accuracy", "mean of the step"),
    ("completion_tokens", "Completion length", "mean tokens"),
    ("kl", "KL to the reference", "nats per token"),
    ("entropy", "Entropy", "nats per token"),
    ("repetition", "Repetition", "share"),
    ("zero_signal", "Groups without signal", "share"),
    ("loss", "Loss", "its own unit"),
)


@dataclass(frozen=True, slots=True)
class Band:
    """A quantity over steps: mean, lowest and highest over the seeds, each smoothed before."""

    steps: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    seeds: int

    def as_json(self) -> dict[str, Any]:
        return {
            "steps": list(self.steps),
            "mean": list(self.mean),
            "low": list(self.low),
            "high": list(self.high),
            "seeds": self.seeds,
        }


def band(lines: Sequence[Sequence[Point]], *, smoothed: bool = True) -> Band:
    """The steps that every seed has. The band is the range: with few seeds an interval of their
    mean would be wider than the chart, and all seeds lie in the range.
    """
    drawn = [dict(smooth(line) if smoothed and line else line) for line in lines]
    steps = sorted(set.intersection(*map(set, drawn))) if drawn else []
    columns = [[own[step] for own in drawn] for step in steps]
    return Band(
        tuple(steps),
        tuple(fmean(one) for one in columns),
        tuple(min(one) for one in columns),
        tuple(max(one) for one in columns),
        len(drawn),
    )


def points_of(history: Sequence[Mapping[str, Any]], key: str, task: str | None) -> Sequence[Point]:
    """A curve of a run: of all tasks, or of one; empty where it has none."""
    if task is None:
        return curves(history).columns.get(key, ())
    own = curves_by_task(history).get(task)
    return own.columns.get(key, ()) if own is not None else ()


def statistic(points: Sequence[Point], measure: Measure) -> float | None:
    """The number that a measure makes of a curve; None without a point."""
    limit = measure.up_to_step
    values = [y for step, y in points if limit is None or step <= limit]
    if not values:
        return None
    if measure.statistic == "Mean":
        return fmean(values)
    if measure.statistic == "Max":
        return max(values)
    if measure.statistic == "Min":
        return min(values)
    return fmean(values[-max(1, round(measure.last * len(values))) :])


def spread(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean of the seeds' values and their standard deviation (None for one)."""
    return {
        "mean": fmean(values),
        "deviation": stdev(values) if len(values) > 1 else None,
        "n": len(values),
    }
