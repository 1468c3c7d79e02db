"""Figures with their errors: means, means of means, and paired differences of two evaluations.

Every figure keeps the pull of each cluster of scores (a question, or all variants of one): the
first-order change of the figure that is owed to this cluster, the influence function of the delta
method. Scaled for small samples, the sum of the squared pulls is the variance of the figure. So a
composite needs no formula of its own: pulls are added as the values are. Parts of different
questions then count as independent, and parts that share questions as correlated; and the
difference of two evaluations of the same questions has the differences of their pulls, which is
the paired standard error.

Values are shares, 0..1. An undefined figure has no value.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from m2r_train.core.student import two_sided_p, two_sided_quantile

LEVEL = 0.95

_NO_SPREAD = 1e-9  # a smaller standard error is what rounding leaves of equal scores


@dataclass(frozen=True, slots=True)
class Figure:
    """A share with the number of scores behind it.

    ``pulls`` by cluster are None where the scores cannot tell the error (fewer than two clusters);
    ``freedom`` is the degrees of freedom of the standard error.
    """

    value: float | None
    n: int
    pulls: Mapping[Hashable, float] | None = None
    freedom: float = 0.0

    @property
    def stderr(self) -> float | None:
        """The standard error, None where it is unknown."""
        return None if self.pulls is None else _norm(self.pulls.values())

    def interval(self, level: float = LEVEL) -> tuple[float, float] | None:
        """Confidence interval inside of 0..1, None where the error is unknown.

        Wilson's interval for the number of independent right and wrong answers that would have
        this standard error (as of a survey's design: Kott and Carr, 1997), with Student's t. A
        figure without spread, such as 20 of 20 right, has the interval of so many answers.
        """
        stderr = self.stderr
        if self.value is None or stderr is None:
            return None
        p = self.value
        t2 = two_sided_quantile(level, self.freedom) ** 2
        size = p * (1 - p) / stderr**2 if stderr > _NO_SPREAD else self.freedom + 1
        centre = (p + t2 / (2 * size)) / (1 + t2 / size)
        half = math.sqrt(t2 * (p * (1 - p) / size + t2 / (4 * size**2))) / (1 + t2 / size)
        return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))

    def percent(self) -> dict[str, float | int | None]:
        """As the papers print it: in percent."""
        return {"value": _percent(self.value), "n": self.n, "stderr": _percent(self.stderr)}

    def percent_interval(self) -> list[float] | None:
        """The 95 % interval in percent."""
        interval = self.interval()
        return None if interval is None else [100.0 * end for end in interval]


UNDEFINED = Figure(None, 0)


@dataclass(frozen=True, slots=True)
class Difference:
    """One evaluation less another of the same questions, in shares: -1..1.

    ``stderr``, ``low``, ``high`` (95 %) and the two-sided ``p`` are None where unknown.
    """

    value: float
    n: int
    stderr: float | None
    low: float | None
    high: float | None
    p: float | None

    def percent(self) -> dict[str, float | int | None]:
        """In points of percent, but for ``p``."""
        return {
            "value": 100.0 * self.value,
            "n": self.n,
            "stderr": _percent(self.stderr),
            "low": _percent(self.low),
            "high": _percent(self.high),
            "p": self.p,
        }


def mean(values: Sequence[float], clusters: Sequence[Hashable]) -> Figure:
    """The mean of scores with its standard error by clusters; `UNDEFINED` without any.

    Its square is g / (g - 1) * sum_c (sum_{i in c} (v_i - mean))^2 / n^2 for g clusters (Miller,
    arXiv 2411.00640, equation 4, with the small-sample factor): with one score a cluster the plain
    standard error. Raises ValueError where the numbers of values and clusters differ.
    """
    n = len(values)
    if n != len(clusters):
        raise ValueError(f"{n} values but {len(clusters)} cluster labels")
    if not n:
        return UNDEFINED
    value = math.fsum(values) / n
    sums: dict[Hashable, float] = {}
    for one, cluster in zip(values, clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + (one - value)
    groups = len(sums)
    if groups < 2:
        return Figure(value, n)
    scale = math.sqrt(groups / (groups - 1)) / n
    return Figure(value, n, {c: scale * s for c, s in sums.items()}, groups - 1)


def mean_of(figures: Iterable[Figure]) -> Figure:
    """The unweighted mean of figures of different scores; undefined where one of them is."""
    parts = list(figures)
    return _average(parts, sum(part.n for part in parts))


def mean_of_draws(figures: Sequence[Figure]) -> Figure:
    """The mean of a figure over several draws of an answer to each question: n stays theirs."""
    return _average(figures, figures[0].n) if len(figures) > 1 else figures[0]


def difference(a: Figure, b: Figure) -> Difference | None:
    """``a`` less ``b``, paired by their clusters; None where one of them is undefined.

    Both must be the same figure of the same questions: who calls sees to that. A cluster that one
    side does not count (a rate among some of the problems) pulls nothing there. ``p`` is that of
    the t-test, but never below 2^(1-g): no sign test of g clusters could tell more.
    """
    if a.value is None or b.value is None:
        return None
    value, n = a.value - b.value, max(a.n, b.n)
    if a.pulls is None or b.pulls is None:
        return Difference(value, n, None, None, None, None)
    pulls = _added([(1.0, a.pulls), (-1.0, b.pulls)])
    stderr, freedom = _norm(pulls.values()), min(a.freedom, b.freedom)
    half = two_sided_quantile(LEVEL, freedom) * stderr
    if value == 0.0 and stderr == 0.0:
        p = 1.0
    else:
        t = abs(value) / stderr if stderr > 0.0 else math.inf
        p = max(two_sided_p(t, freedom), 2.0 ** max(1 - len(pulls), -1000))
    return Difference(value, n, stderr, max(-1.0, value - half), min(1.0, value + half), p)


def _average(parts: Sequence[Figure], n: int) -> Figure:
    values = [part.value for part in parts if part.value is not None]
    if not parts or len(values) < len(parts):
        return Figure(None, n)
    value, weight = math.fsum(values) / len(parts), 1 / len(parts)
    known = [part.pulls for part in parts if part.pulls is not None]
    if len(known) < len(parts):
        return Figure(value, n)
    pulls = _added([(weight, own) for own in known])
    apart = len(pulls) == sum(map(len, known))
    return Figure(value, n, pulls, _freedom(parts) if apart else min(p.freedom for p in parts))


def _freedom(parts: Sequence[Figure]) -> float:
    """Degrees of freedom of a sum of independent errors, one weight for all (Satterthwaite)."""
    variances = [(part.stderr or 0.0) ** 2 for part in parts]
    whole = math.fsum(variances)
    if whole == 0.0:
        return math.fsum(part.freedom for part in parts)
    shares = [v / whole for v in variances]
    return 1 / math.fsum(s * s / part.freedom for s, part in zip(shares, parts, strict=True))


def _added(weighted: Sequence[tuple[float, Mapping[Hashable, float]]]) -> dict[Hashable, float]:
    added: dict[Hashable, float] = {}
    for weight, pulls in weighted:
        for cluster, pull in pulls.items():
            added[cluster] = added.get(cluster, 0.0) + weight * pull
    return added


def _norm(pulls: Iterable[float]) -> float:
    return math.sqrt(math.fsum(pull * pull for pull in pulls))


def _percent(share: float | None) -> float | None:
    return None if share is None else 100.0 * share
