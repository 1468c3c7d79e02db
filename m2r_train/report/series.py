"""From step records to lines that can be drawn: select, smooth, thin. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Point = tuple[float, float]
ALL_TASKS = ("all", "overall", "")


@dataclass(frozen=True, slots=True)
class Line:
    """A named line of a chart; ``dots`` are the raw values behind a smoothed one, ``band`` is
    (x, low, high) of an area around it.
    """

    name: str
    points: tuple[Point, ...]
    dots: tuple[Point, ...] = ()
    colour: int = 0
    band: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Curves:
    """Step records as columns: ``columns[key]`` is [(step, value)], finite values only."""

    columns: Mapping[str, tuple[Point, ...]] = field(default_factory=dict)
    nonfinite_steps: int = 0


def curves(records: Iterable[Mapping[str, Any]]) -> Curves:
    """Split records into columns; several records of one step are averaged by ``prompts``.

    A record of all tasks (``task`` missing, or one of `ALL_TASKS`) wins over its step's parts.
    """
    steps: dict[float, list[Mapping[str, Any]]] = {}
    for record in records:
        steps.setdefault(float(record["step"]), []).append(record)
    columns: dict[str, list[Point]] = {}
    nonfinite = 0
    for step in sorted(steps):
        group = steps[step]
        whole = [one for one in group if one.get("task", "") in ALL_TASKS]
        finite = True
        for key, value in _means(whole or group).items():
            if math.isfinite(value):
                columns.setdefault(key, []).append((step, value))
            else:
                finite = False
        nonfinite += not finite
    return Curves({key: tuple(points) for key, points in columns.items()}, nonfinite)


def curves_by_task(records: Iterable[Mapping[str, Any]]) -> dict[str, Curves]:
    """`curves` of each task that has records of its own, in order of name."""
    by_task: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        task = str(record.get("task", ""))
        if task not in ALL_TASKS:
            by_task.setdefault(task, []).append({**record, "task": ""})
    return {task: curves(by_task[task]) for task in sorted(by_task)}


def smooth(points: Sequence[Point], span: float | None = None) -> tuple[Point, ...]:
    """Two-sided exponential average; ``span`` in points (default n / 20, at least 5).

    Two-sided, so a falling loss is not drawn later than it fell; each value is normalised by the
    weight it really has, so the ends are not pulled to zero and a constant stays constant.
    """
    width = max(5.0, len(points) / 20 if span is None else span)
    keep = 1 - 2 / (width + 1)
    values = [y for _, y in points]
    before, after = _decayed(values, keep), _decayed(values[::-1], keep)[::-1]
    weights = _decayed([1.0] * len(values), keep)
    return tuple(
        (x, (past + future - y) / (weight + other - 1))
        for (x, y), past, future, weight, other in zip(
            points, before, after, weights, weights[::-1], strict=True
        )
    )


def _decayed(values: Sequence[float], keep: float) -> list[float]:
    """Sums of each value and its decayed predecessors."""
    total, sums = 0.0, []
    for value in values:
        total = keep * total + value
        sums.append(total)
    return sums


def sparse(points: Sequence[Point], limit: int = 160) -> tuple[Point, ...]:
    """At most ``limit`` evenly spaced points, with both ends: for lines that are smooth already."""
    if len(points) <= limit:
        return tuple(points)
    last = len(points) - 1
    return tuple(points[round(place * last / (limit - 1))] for place in range(limit))


def thin(points: Sequence[Point], limit: int = 240) -> tuple[Point, ...]:
    """At most ``limit`` points that look the same: the lowest and highest of each bucket.

    The first and last point stay, and so does every spike, which a plain stride would lose.
    """
    if len(points) <= limit:
        return tuple(points)
    buckets = max(1, (limit - 2) // 2)
    inner = points[1:-1]
    kept = [points[0]]
    for bucket in range(buckets):
        part = inner[len(inner) * bucket // buckets : len(inner) * (bucket + 1) // buckets]
        if part:
            ends = {min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])}
            kept.extend(sorted(ends))
    return (*kept, points[-1])


def smoothed_line(name: str, points: Sequence[Point], colour: int, *, dots: bool = True) -> Line:
    """A smoothed line, with its raw values as dots."""
    return Line(name, sparse(smooth(points)), thin(points) if dots else (), colour)


def raw_line(name: str, points: Sequence[Point], colour: int) -> Line:
    """A line through the values as they are: for schedules and other exact quantities."""
    return Line(name, thin(points), (), colour)


def phase_bars(
    timings: Sequence[Mapping[str, Any]], phases: Sequence[str], limit: int = 48
) -> list[tuple[float, dict[str, float]]]:
    """Mean seconds per step in each phase, as at most ``limit`` bars of (first step, seconds)."""
    rows = [one for one in timings if any(isinstance(one.get(p), int | float) for p in phases)]
    count = min(limit, len(rows))
    bars = []
    for bar in range(count):
        part = rows[len(rows) * bar // count : len(rows) * (bar + 1) // count]
        mean = {p: sum(float(one.get(p, 0.0)) for one in part) / len(part) for p in phases}
        bars.append((float(part[0]["step"]), mean))
    return bars


def _means(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean of every numeric key, each record weighted by its ``prompts`` (default 1)."""
    totals: dict[str, float] = {}
    weights: dict[str, float] = {}
    for record in records:
        weight = float(record.get("prompts", 1) or 1)
        for key, value in record.items():
            if key != "step" and isinstance(value, int | float) and not isinstance(value, bool):
                totals[key] = totals.get(key, 0.0) + weight * value
                weights[key] = weights.get(key, 0.0) + weight
    return {key: totals[key] / weights[key] for key in totals}
