"""Axes: round tick values, and numbers written as people write them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps [low, high] in data to [start, end] in pixels."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    @classmethod
    def around(
        cls,
        values: Iterable[float],
        start: float,
        end: float,
        *,
        count: int = 4,
        floor: float | None = None,
        ceiling: float | None = None,
        tight: bool = False,
    ) -> Axis:
        """An axis that holds every value, widened to round ticks unless ``tight``.

        ``floor`` and ``ceiling`` are values that the axis must reach (0 for a ratio).
        """
        inside = [value for value in (*values, floor, ceiling) if value is not None]
        low, high = min(inside, default=0.0), max(inside, default=1.0)
        if math.isclose(low, high, rel_tol=1e-9, abs_tol=1e-300):
            pad = abs(low) / 2 or 0.5
            low, high = low - pad, high + pad
        step = tick_step(high - low, count)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        ticks = tuple(index * step for index in range(first, last + 1))
        if tight:
            return cls(low, high, start, end, tuple(t for t in ticks if low <= t <= high))
        return cls(ticks[0], ticks[-1], start, end, ticks)


def tick_step(width: float, count: int) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that needs at most ``count`` intervals."""
    raw = width / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= raw * (1 - 1e-9))


def tick_text(value: float, step: float) -> str:
    """A tick's label with as many decimals as its axis needs: ``0.25``, ``12k``, ``2e-6``."""
    if abs(value) < step * 1e-6:
        return "0"
    if abs(value) >= 10_000:
        return f"{value / 1000:.6g}k"
    if step < 1e-4:
        return f"{value:.3g}".replace("e-0", "e-")
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    has_half = not math.isclose(step * 10**decimals, round(step * 10**decimals), rel_tol=1e-6)
    return f"{value:.{decimals + has_half}f}"


def number(value: float) -> str:
    """A figure for people: three significant digits, thousands separated."""
    size = abs(value)
    if 0 < size < 0.001:
        return f"{value:.1e}".replace("e-0", "e-")
    for least, decimals in ((100, 0), (10, 1), (0.1, 2)):
        if size >= least:
            return f"{value:,.{decimals}f}"
    return f"{value:.4f}".rstrip("0").rstrip(".")
