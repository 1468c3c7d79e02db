"""Student's t against printed tables (NIST/SEMATECH e-Handbook 1.3.6.7.2) and closed forms."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from m2r_train.core.student import two_sided_p, two_sided_quantile

TABLE = [  # level, degrees of freedom, t
    (0.95, 1, 12.706),
    (0.95, 2, 4.303),
    (0.95, 10, 2.228),
    (0.95, 100, 1.984),
    (0.90, 5, 2.015),
    (0.99, 30, 2.750),
    (0.998, 3, 10.215),
    (0.95, 1e7, 1.960),
]


@pytest.mark.parametrize(("level", "freedom", "t"), TABLE)
def test_quantiles_are_those_of_the_table(level: float, freedom: float, t: float) -> None:
    assert two_sided_quantile(level, freedom) == pytest.approx(t, abs=6e-4)


@given(st.floats(-50, 50))
@example(1e-8)
def test_one_and_two_degrees_of_freedom_have_closed_forms(t: float) -> None:
    cauchy = 1 - 2 * math.atan(abs(t)) / math.pi
    assert two_sided_p(t, 1) == pytest.approx(cauchy, rel=1e-9)
    assert two_sided_p(t, 2) == pytest.approx(
        1 - abs(t) / math.sqrt(2 + t * t), rel=1e-7, abs=1e-12
    )


@given(st.floats(0, 30), st.floats(0.5, 1e6))
def test_tails_shrink_with_t_and_with_degrees_of_freedom(t: float, freedom: float) -> None:
    p = two_sided_p(t, freedom)
    assert 0.0 <= p <= 1.0
    assert two_sided_p(t + 0.1, freedom) <= p
    assert two_sided_p(t, 2 * freedom) <= p + 1e-5


@given(st.floats(0.5, 0.999), st.floats(0.5, 1e6))
def test_the_quantile_is_the_inverse_of_the_tail(level: float, freedom: float) -> None:
    t = two_sided_quantile(level, freedom)
    assert two_sided_p(t, freedom) == pytest.approx(1 - level, rel=1e-6)


def test_the_normal_distribution_takes_over_without_a_step() -> None:
    assert two_sided_p(2.0, 0.99e5) == pytest.approx(two_sided_p(2.0, 1.01e5), rel=1e-4)


@pytest.mark.parametrize("freedom", [0.0, -1.0, math.nan])
def test_degrees_of_freedom_are_positive(freedom: float) -> None:
    with pytest.raises(ValueError, match="degrees of freedom"):
        two_sided_p(1.0, freedom)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_is_a_share(level: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        two_sided_quantile(level, 10)
