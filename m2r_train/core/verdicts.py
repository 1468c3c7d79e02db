"""From figures of two arms over seeds to a sentence about a claim. Pure; the rule is ADR 13's.

A run's seed is the unit: two runs of one seed share data and cold start, and the luck of training
differs from seed to seed, which no number of questions can tell. So the difference is taken within
each seed, and its mean has Student's t over the seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from m2r_train.core.student import two_sided_p, two_sided_quantile

Word = Literal["holds", "falsified", "undecided"]

_ROUNDING = 1e-12  # a smaller spread, of the size of the values, is what rounding leaves


@dataclass(frozen=True, slots=True)
class Effect:
    """The mean of paired differences with its interval and two-sided p; None where unknown.

    Unit: that of the differences. ``n`` counts them.
    """

    value: float | None
    n: int
    stderr: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the figures say of a claim, and why."""

    word: Word
    why: str


def effect(differences: Sequence[float], *, level: float = 0.95) -> Effect:
    """Student's t of paired differences.

    Without any spread the t-test would be certain of anything: there is no interval then, and p is
    that of the sign test, 2^(1-n), the least that n differences of one sign can have.
    """
    n = len(differences)
    if n == 0:
        return Effect(None, 0)
    value = fmean(differences)
    if n == 1:
        return Effect(value, 1)
    stderr = stdev(differences) / math.sqrt(n)
    if stderr <= _ROUNDING * max(map(abs, differences)):
        return Effect(value, n, 0.0, p=1.0 if value == 0.0 else 2.0 ** (1 - n))
    half = two_sided_quantile(level, n - 1) * stderr
    return Effect(value, n, stderr, value - half, value + half, two_sided_p(value / stderr, n - 1))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values adjusted for being several (Holm, 1979): compare each with the level itself.

    The i-th smallest of m, from 1, becomes (m - i + 1) p, but no less than the one before.
    """
    adjusted: dict[str, float] = {}
    running = 0.0
    ordered = sorted(p_values.items(), key=lambda item: item[1])
    for place, (name, p) in enumerate(ordered):
        running = max(running, min(1.0, (len(ordered) - place) * p))
        adjusted[name] = running
    return {name: adjusted[name] for name in p_values}


def verdict(
    advantage: Effect, *, margin: float, adjusted_p: float | None, control: str, level: float = 0.95
) -> Verdict:
    """What the ``advantage`` of the treatment over one control says (positive: treatment better).

    Falsified: the interval excludes an advantage above ``margin``, so the control reaches the
    treatment. Holds: it excludes every advantage up to ``margin``, and ``adjusted_p`` (Holm) is
    below 1 - ``level``. Else undecided.
    """
    low, high = advantage.low, advantage.high
    if advantage.value is None or low is None or high is None:
        seeds = f"{advantage.n} seed{'' if advantage.n == 1 else 's'}"
        spread = " without any spread" if advantage.n > 1 else ""
        why = f"against {control}: {seeds}{spread} cannot tell luck from effect"
        return Verdict("undecided", why)
    told = (
        f"against {control}: advantage {advantage.value:+.4g}, {100 * level:g} % interval "
        f"[{low:+.4g}, {high:+.4g}] over {advantage.n} seeds"
    )
    if high <= margin:
        return Verdict("falsified", f"{told}, which excludes more than the margin {margin:g}")
    if low <= margin:
        return Verdict("undecided", f"{told}, which has the margin {margin:g} inside: too wide")
    if adjusted_p is None or adjusted_p >= round(1 - level, 12):
        p = "unknown" if adjusted_p is None else f"{adjusted_p:.2g}"
        return Verdict("undecided", f"{told}, above the margin {margin:g}, but Holm's p is {p}")
    return Verdict("holds", f"{told}, above the margin {margin:g}; Holm's p {adjusted_p:.2g}")


def tested(text: str, *, arm: str, value: float, least: float) -> Verdict | None:
    """Undecided where an arm does not show on the mean what the claim needs to be tested."""
    if value >= least:
        return None
    shown = f"{arm} shows {value:.4g} on the mean, and {least:g} is the least"
    return Verdict("undecided", f"not tested: {text.rstrip('.')}: {shown}")


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Of several controls: one that falsifies is enough, and all must let the claim hold."""
    words = [one.word for one in verdicts]
    word: Word = "undecided"
    if "falsified" in words:
        word = "falsified"
    elif words and all(one == "holds" for one in words):
        word = "holds"
    telling = [one.why for one in verdicts if word != "falsified" or one.word == "falsified"]
    return Verdict(word, "; ".join(telling) or "nothing was compared")
