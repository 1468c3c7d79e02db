"""Figures with errors: values worked out by hand, and the edges."""

from __future__ import annotations

import math

import pytest

from m2r_train.core.estimates import (
    UNDEFINED,
    Figure,
    difference,
    mean,
    mean_of,
    mean_of_draws,
)


def figure(bits: str, prefix: str = "q") -> Figure:
    """One question a character, right or wrong."""
    return mean([float(bit) for bit in bits], [f"{prefix}{i}" for i in range(len(bits))])


def test_the_mean_and_its_standard_error() -> None:
    got = figure("11010")
    assert (got.value, got.n, got.freedom) == (0.6, 5, 4)
    assert got.stderr == pytest.approx(0.547723 / math.sqrt(5), abs=1e-6)


def test_one_score_does_not_tell_its_error() -> None:
    assert mean([0.25], ["a"]) == Figure(0.25, 1)
    assert (Figure(0.25, 1).stderr, Figure(0.25, 1).interval()) == (None, None)


def test_one_cluster_does_not_tell_its_error() -> None:
    assert mean([1.0, 0.0], ["a", "a"]).stderr is None


def test_no_scores_have_no_mean() -> None:
    assert mean([], []) is UNDEFINED
    assert UNDEFINED.percent() == {"value": None, "n": 0, "stderr": None}
    assert UNDEFINED.percent_interval() is None


def test_every_score_needs_a_cluster() -> None:
    with pytest.raises(ValueError, match="2 values but 1"):
        mean([1.0, 0.0], ["a"])


def test_a_clustered_error_computed_by_hand() -> None:
    # mean .5; sums of deviations by cluster: a 1, b -1
    got = mean([1.0, 1.0, 0.0, 0.0], ["a", "a", "b", "b"])
    assert got.stderr == pytest.approx(math.sqrt(2 * (1 + 1)) / 4)


def test_copies_of_a_score_in_its_cluster_add_no_certainty() -> None:
    copies = mean(
        [v for v in (1.0, 0.0, 1.0) for _ in range(4)], [c for c in "abc" for _ in "1234"]
    )
    assert copies.stderr == pytest.approx(figure("101").stderr)
    assert copies.freedom == 2


def test_the_mean_of_independent_parts_adds_their_variances() -> None:
    a, b = figure("1100", "a"), figure("1000", "b")
    got = mean_of([a, b])
    assert (got.value, got.n) == (0.375, 8)
    assert a.stderr is not None and b.stderr is not None
    assert got.stderr == pytest.approx(math.hypot(a.stderr, b.stderr) / 2)
    # Satterthwaite: variances 1/12 and 1/16 with 3 degrees each
    assert got.freedom == pytest.approx((1 / 12 + 1 / 16) ** 2 / ((1 / 144 + 1 / 256) / 3))


def test_parts_that_share_their_scenes_are_not_independent() -> None:
    """The same scenes right in both tasks: twice the same evidence is no more evidence."""
    assert mean_of([figure("1100"), figure("1100")]).stderr == pytest.approx(figure("1100").stderr)
    opposite = mean_of([figure("1100"), figure("0011")])
    assert (opposite.value, opposite.stderr) == (0.5, pytest.approx(0.0, abs=1e-12))


def test_a_part_without_a_value_or_an_error_leaves_the_whole_without() -> None:
    assert mean_of([figure("10"), UNDEFINED]) == Figure(None, 2)
    assert mean_of([figure("10", "a"), figure("1", "b")]) == Figure(0.75, 3)
    assert mean_of([]) == Figure(None, 0)


def test_draws_of_the_same_questions_keep_their_number() -> None:
    got = mean_of_draws([figure("1100"), figure("1010")])
    by_question = mean([1.0, 0.5, 0.5, 0.0], ["q0", "q1", "q2", "q3"])
    assert (got.value, got.n, got.freedom) == (0.5, 4, 3)
    assert got.stderr == pytest.approx(by_question.stderr)


def test_the_interval_of_right_and_wrong_answers_is_that_of_wilson() -> None:
    got = mean([1.0] * 60 + [0.0] * 40, range(100)).interval()
    z2, size = 1.9842169515086827**2, 99  # t of 99 degrees of freedom; n - 1 as in the variance
    centre = (0.6 + z2 / (2 * size)) / (1 + z2 / size)
    half = math.sqrt(z2 * (0.24 / size + z2 / (4 * size * size))) / (1 + z2 / size)
    assert got == pytest.approx((centre - half, centre + half), abs=1e-9)


@pytest.mark.parametrize(("bits", "low", "high"), [("1" * 20, 0.82, 1.0), ("0" * 20, 0.0, 0.18)])
def test_all_right_is_not_certain_for_ever(bits: str, low: float, high: float) -> None:
    got = figure(bits).interval()
    assert got == pytest.approx((low, high), abs=0.002)


def test_percent_is_what_results_hold() -> None:
    got = figure("11010")
    assert got.percent() == {"value": 60.0, "n": 5, "stderr": pytest.approx(24.494897)}
    assert got.percent_interval() == pytest.approx([13.124362, 93.708194])


def test_a_paired_difference_is_the_t_test_of_the_differences() -> None:
    a, b = figure("1111010011"), figure("1101000010")
    got = difference(a, b)
    # differences 0 0 1 0 0 1 0 0 0 1: mean .3, variance 7/30
    assert got is not None
    assert (got.value, got.n) == (pytest.approx(0.3), 10)
    assert got.stderr == pytest.approx(math.sqrt(7 / 300))
    assert got.low == pytest.approx(0.3 - 2.262157 * math.sqrt(7 / 300), abs=1e-6)
    assert got.high == pytest.approx(0.3 + 2.262157 * math.sqrt(7 / 300), abs=1e-6)
    assert got.p == pytest.approx(0.081126, abs=1e-6)  # t = 1.963961, 9 degrees of freedom


def test_equal_answers_show_no_difference() -> None:
    got = difference(figure("1101"), figure("1101"))
    assert got is not None
    assert (got.value, got.stderr, got.low, got.high, got.p) == (0.0, 0.0, 0.0, 0.0, 1.0)


def test_a_constant_gap_proves_no_more_than_a_sign_test() -> None:
    got = difference(figure("111"), figure("000"))
    assert got is not None
    assert (got.value, got.low, got.high, got.p) == (1.0, 1.0, 1.0, 0.25)


def test_undefined_figures_have_no_difference_and_unknown_errors_no_interval() -> None:
    assert difference(UNDEFINED, figure("10")) is None
    got = difference(figure("1"), figure("0"))
    assert got is not None
    assert (got.value, got.stderr, got.low, got.p) == (1.0, None, None, None)


def test_a_difference_stays_within_what_shares_can_differ_by() -> None:
    got = difference(figure("110"), figure("000"))
    assert got is not None
    assert got.high == 1.0
