"""Laws of relative accuracy and of the repetition test."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2r_train.core.repetition import has_repetition
from m2r_train.core.stats import mean_relative_accuracy


@given(st.floats(0.01, 1e6), st.floats(-3, 3))
def test_relative_accuracy_is_a_staircase_of_tenths_that_falls_with_the_error(
    truth: float, error: float
) -> None:
    score = mean_relative_accuracy(truth * (1 + error), truth)
    assert score in {i / 10 for i in range(11)}
    assert score >= mean_relative_accuracy(truth * (1 + 1.01 * error), truth)
    # the staircase: one tenth for every threshold up to 1 - |error|
    assert score == pytest.approx(min(max(10.5 - 20 * abs(error), 0), 10.0) / 10, abs=0.1)


def brute_force(text: str, segment: int, repeats: int) -> bool:
    """Every segment of the text, searched for from the left."""
    for at in range(len(text) - segment + 1):
        piece, found, start = text[at : at + segment], 0, 0
        while (start := text.find(piece, start)) >= 0:
            found, start = found + 1, start + segment
        if found >= repeats:
            return True
    return False


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from(["a", "b", " ", "ab c", "abab", "  ", "\n"]), max_size=30).map(
        "".join
    ),
    st.integers(2, 7),
    st.integers(2, 4),
)
def test_repetition_is_what_a_search_for_every_segment_finds(
    text: str, segment: int, repeats: int
) -> None:
    assert has_repetition(text, segment, repeats) is brute_force(text, segment, repeats)
