"""Student's t: tail probabilities and quantiles, for any positive real degrees of freedom."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

_NORMAL_FROM = 1e5  # degrees of freedom beyond which t is the normal distribution to five digits
_TINY = 1e-300


def two_sided_p(t: float, freedom: float) -> float:
    """P(|T| >= |t|). Raises ValueError unless ``freedom`` is positive."""
    if not freedom > 0:
        raise ValueError(f"degrees of freedom must be positive, got {freedom}")
    if math.isinf(t):
        return 0.0
    if freedom > _NORMAL_FROM:
        return math.erfc(abs(t) / math.sqrt(2))
    squares = freedom + t * t
    return _incomplete_beta(freedom / 2, 0.5, freedom / squares, t * t / squares)


@lru_cache(maxsize=1024)
def two_sided_quantile(level: float, freedom: float) -> float:
    """The t with P(|T| <= t) = ``level``, e.g. 1.96 for 0.95 and many degrees of freedom.

    Raises ValueError for a level outside of 0..1 (ends excluded) or ``freedom`` not positive.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    if freedom > _NORMAL_FROM:
        return NormalDist().inv_cdf((1 + level) / 2)
    # The tail is convex and falls, so that Newton's steps from 0 approach its root from below.
    t = 0.0
    for _ in range(200):
        step = (two_sided_p(t, freedom) - (1 - level)) / (2 * _density(t, freedom))
        t += step
        if step <= 1e-10 * t:
            break
    return t


def _density(t: float, freedom: float) -> float:
    log_scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    log_scale -= math.log(freedom * math.pi) / 2
    return math.exp(log_scale - (freedom + 1) / 2 * math.log1p(t * t / freedom))


def _incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """I_x(a, b), regularised (NIST Digital Library of Mathematical Functions, 8.17).

    ``rest`` is 1 - x, whose digits are lost where it is worked out from an x near 1.
    """
    if x <= 0.0 or rest <= 0.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1) / (a + b + 2):  # where the fraction of the other tail converges fast
        return 1.0 - _incomplete_beta(b, a, rest, x)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    log_front += a * math.log(x) + b * math.log(rest)
    return math.exp(log_front) / (a * _fraction(a, b, x))


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction 1 + d1/(1 + d2/(1 + ..)) of DLMF 8.17.22, by Lentz's method."""
    value, c, d = 1.0, 1.0, 0.0
    for step in range(1, 10_000):
        m = step // 2
        if step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1.0 / _not_zero(1.0 + term * d)
        c = _not_zero(1.0 + term / c)
        value *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return value


def _not_zero(x: float) -> float:
    return x if abs(x) > _TINY else _TINY
