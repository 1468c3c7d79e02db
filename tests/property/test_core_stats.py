"""Laws of the scores' statistics and of the repetition test."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2r_train.core.repetition import has_repetition
from m2r_train.core.stats import (
    clustered_stderr,
    mean_relative_accuracy,
    mean_with_stderr,
    paired_bootstrap,
)

scores = st.lists(st.floats(0, 1), min_size=2, max_size=30)


@given(scores)
def test_clusters_of_one_give_the_plain_standard_error(values: list[float]) -> None:
    plain = mean_with_stderr(values).stderr
    assert clustered_stderr(values, range(len(values))) == pytest.approx(plain, abs=1e-12)


@given(st.floats(0.01, 1e6), st.floats(-3, 3))
def test_relative_accuracy_is_a_staircase_of_tenths_that_falls_with_the_error(
    truth: float, error: float
) -> None:
    score = mean_relative_accuracy(truth * (1 + error), truth)
    assert score in {i / 10 for i in range(11)}
    assert score >= mean_relative_accuracy(truth * (1 + 1.01 * error), truth)
    # the staircase: one tenth for every threshold up to 1 - |error|
    assert score == pytest.approx(min(max(10.5 - 20 * abs(error), 0), 10.0) / 10, abs=0.1)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20))
def test_the_interval_holds_the_difference_or_touches_it(pairs: list[tuple[float, float]]) -> None:
    a = {f"q{i}": x for i, (x, _) in enumerate(pairs)}
    b = {f"q{i}": y for i, (_, y) in enumerate(pairs)}
    gap = paired_bootstrap(a, b, 200, seed=1)
    gaps = [x - y for x, y in pairs]
    assert min(gaps) - 1e-12 <= gap.low <= gap.high <= max(gaps) + 1e-12
    assert 0.0 < gap.p <= 1.0


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
