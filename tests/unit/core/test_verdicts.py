"""The rule from figures to a verdict: a table, and Student's t and Holm against known numbers."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from m2r_train.core.verdicts import Effect, Verdict, effect, holm, together, verdict


@pytest.mark.parametrize(
    ("low", "high", "margin", "p", "word"),
    [
        (0.5, 3.0, 0.0, 0.01, "holds"),
        (1.5, 3.0, 1.0, 0.01, "holds"),
        (1.5, 3.0, 1.0, 0.05, "undecided"),  # Holm says that it may be chance
        (1.5, 3.0, 1.0, None, "undecided"),
        (0.5, 3.0, 1.0, 0.01, "undecided"),  # real, but perhaps too small to count
        (1.0, 3.0, 1.0, 0.01, "undecided"),  # the margin itself counts as none
        (-1.0, 3.0, 0.0, 0.50, "undecided"),
        (-9.0, 9.0, 5.0, 0.90, "undecided"),
        (-1.0, 0.9, 1.0, 0.90, "falsified"),
        (-1.0, 1.0, 1.0, 0.90, "falsified"),
        (0.2, 0.8, 1.0, 0.01, "falsified"),  # significant, and no advantage that counts
        (-3.0, -1.0, 0.0, 0.01, "falsified"),  # the control is better
        (-3.0, 0.0, 0.0, 0.10, "falsified"),
    ],
)
def test_the_verdict_by_interval_margin_and_p(
    low: float, high: float, margin: float, p: float | None, word: str
) -> None:
    found = Effect((low + high) / 2, 5, 0.1, low, high, p)
    told = verdict(found, margin=margin, adjusted_p=p, control="binary")
    assert told.word == word
    assert told.why.startswith("against binary: advantage ")
    assert f"margin {margin:g}" in told.why
    assert "5 seeds" in told.why


@pytest.mark.parametrize("differences", [[], [9.0], [0.0, 0.0, 0.0]])
def test_too_few_seeds_and_no_spread_decide_nothing(differences: list[float]) -> None:
    told = verdict(effect(differences), margin=0.0, adjusted_p=None, control="binary")
    assert told.word == "undecided"
    assert "cannot tell luck from effect" in told.why


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["holds"], "holds"),
        (["holds", "holds"], "holds"),
        (["holds", "undecided"], "undecided"),
        (["holds", "falsified"], "falsified"),
        (["undecided", "falsified"], "falsified"),
        ([], "undecided"),
    ],
)
def test_one_control_that_falsifies_is_enough_and_all_must_hold(
    words: list[str], word: str
) -> None:
    told = together([Verdict(one, f"why {one}") for one in words])  # type: ignore[arg-type]
    assert told.word == word
    assert told.why
    if word == "falsified":
        assert told.why == "why falsified"


def test_the_effect_is_students_t_of_the_differences() -> None:
    differences = [1.2, 0.4, 2.1, -0.3, 0.9]
    found = effect(differences)
    peer = stats.ttest_1samp(differences, 0.0)
    low, high = peer.confidence_interval(0.95)
    assert found.p == pytest.approx(peer.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)
    assert found.n == 5


def test_differences_without_spread_are_no_proof() -> None:
    """Three equal differences would have p = 0 by t; signs alone give a quarter."""
    assert effect([0.5, 0.5, 0.5]).p == 0.25
    assert effect([0.0, 0.0]).p == 1.0
    assert verdict(effect([0.5] * 3), margin=0.0, adjusted_p=0.25, control="c").word == "undecided"


def test_holm_by_hand() -> None:
    """Ordered .01 .02 .03 .04 become .04 .06 .06 .06: times 4, 3, 2, 1, never falling."""
    adjusted = holm({"c": 0.03, "a": 0.01, "d": 0.04, "b": 0.02})
    assert list(adjusted) == ["c", "a", "d", "b"]
    expected = {"a": 0.04, "b": 0.06, "c": 0.06, "d": 0.06}
    assert adjusted == pytest.approx(expected)
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_a_wider_level_never_turns_a_decision_into_its_opposite() -> None:
    differences = [0.8, 1.1, 1.6, 1.3]
    words = []
    for level in (0.5, 0.8, 0.95, 0.999):
        found = effect(differences, level=level)
        assert found.p is not None
        words.append(verdict(found, margin=0.2, adjusted_p=found.p, control="c", level=level).word)
    assert words[0] == "holds"
    assert words[-1] == "undecided"
    assert "falsified" not in words
    assert math.isclose(effect(differences).value or 0.0, 1.2)
