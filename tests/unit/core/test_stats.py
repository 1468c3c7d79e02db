"""Scores with errors, MRA (benchmarks.md section 8) and the paired bootstrap."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from m2r_train.api.errors import DataError
from m2r_train.core.records import Sample
from m2r_train.core.stats import (
    Estimate,
    clustered_stderr,
    mean_relative_accuracy,
    mean_with_stderr,
    paired_bootstrap,
    sample_accuracy,
)


def test_the_mean_and_its_standard_error() -> None:
    got = mean_with_stderr([1.0, 1.0, 0.0, 1.0, 0.0])
    assert got.value == 0.6
    assert got.n == 5
    assert got.stderr == pytest.approx(0.547723 / math.sqrt(5), abs=1e-6)


def test_one_score_does_not_tell_its_error() -> None:
    assert mean_with_stderr([0.25]) == Estimate(0.25, 1, None)


def test_no_scores_have_no_mean() -> None:
    with pytest.raises(ValueError, match="no scores"):
        mean_with_stderr([])


def test_clusters_of_one_give_the_plain_standard_error() -> None:
    values = [1.0, 1.0, 0.0, 1.0, 0.0]
    plain = mean_with_stderr(values).stderr
    assert clustered_stderr(values, "abcde") == pytest.approx(plain)


def test_copies_of_a_score_in_its_cluster_add_no_certainty() -> None:
    values = [1.0, 0.0, 1.0]
    copies = [v for v in values for _ in range(4)]
    clusters = [c for c in "abc" for _ in range(4)]
    assert clustered_stderr(copies, clusters) == pytest.approx(mean_with_stderr(values).stderr)
    naive = mean_with_stderr(copies).stderr
    assert naive is not None and naive < 0.6 * (clustered_stderr(copies, clusters) or 0)


def test_a_clustered_error_computed_by_hand() -> None:
    # mean .5; cluster sums of deviations: a: .5 + .5 = 1, b: -.5 + -.5 + ... = -1
    values, clusters = [1.0, 1.0, 0.0, 0.0], ["a", "a", "b", "b"]
    assert clustered_stderr(values, clusters) == pytest.approx(math.sqrt(2 * (1 + 1)) / 4)


def test_one_cluster_does_not_tell_its_error() -> None:
    assert clustered_stderr([1.0, 0.0], ["a", "a"]) is None


def test_every_score_needs_a_cluster() -> None:
    with pytest.raises(ValueError, match="2 values but 1"):
        clustered_stderr([1.0, 0.0], ["a"])


MRA = [
    (10.8, 10, 0.9),
    (7, 10, 0.5),
    (16, 10, 0.0),
    # edges that depend on the rounding of doubles
    (11, 10, 0.9),
    (12, 10, 0.6),
    (13, 10, 0.5),
    (10, 10, 1.0),
    (5, 10, 0.1),  # an error of one half is still inside of the first threshold
    (0, 10, 0.0),
    (math.nan, 10, 0.0),
    (math.inf, 10, 0.0),
]


@pytest.mark.parametrize(("x", "truth", "score"), MRA)
def test_mean_relative_accuracy(x: float, truth: float, score: float) -> None:
    assert mean_relative_accuracy(x, truth) == score


@pytest.mark.parametrize("truth", [0.0, -1.0, math.nan, math.inf])
def test_relative_accuracy_needs_a_positive_truth(truth: float) -> None:
    with pytest.raises(ValueError, match="positive truth"):
        mean_relative_accuracy(1.0, truth)


ROOM = Sample(
    id="room-1",
    domain="spatial",
    task="RoomSize",
    source="test",
    question="What is the size of this room?",
    answer="10",
    answer_type="number",
    reward="ednm",
)
CHOICE = replace(ROOM, task="RelativeDistance", answer="C", answer_type="choice", reward="exact")


@pytest.mark.parametrize(
    ("sample", "answer", "score"),
    [
        (ROOM, "10.8 m^2", 0.9),
        (ROOM, "10", 1.0),
        (ROOM, "large", 0.0),
        (CHOICE, "C. chair", 1.0),
        (CHOICE, "D", 0.0),
    ],
)
def test_a_sample_is_scored_by_its_kind(sample: Sample, answer: str, score: float) -> None:
    assert sample_accuracy(sample, f"<think>a</think><answer>\\boxed{{{answer}}}</answer>") == score


@pytest.mark.parametrize("sample", [ROOM, CHOICE])
def test_a_truncated_completion_scores_nothing(sample: Sample) -> None:
    assert sample_accuracy(sample, "<think>a</think><answer>10") == 0.0


@pytest.mark.parametrize("answer", ["large", "-3", "0"])
def test_a_truth_that_cannot_be_scored_is_an_error(answer: str) -> None:
    with pytest.raises(DataError, match="sample room-1: answer"):
        sample_accuracy(ROOM.with_(answer=answer), "<answer>10</answer>")


def scores(bits: str) -> dict[str, float]:
    return {f"q{i}": float(bit) for i, bit in enumerate(bits)}


def test_the_bootstrap_of_equal_scores_sees_no_difference() -> None:
    same = paired_bootstrap(scores("1101001"), scores("1101001"), 200, seed=1)
    assert (same.difference, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)


def test_the_bootstrap_of_a_constant_gap_is_certain() -> None:
    gap = paired_bootstrap(scores("1" * 20), scores("0" * 20), 999, seed=1)
    assert (gap.difference, gap.low, gap.high) == (1.0, 1.0, 1.0)
    assert gap.p == pytest.approx(2 / 1000)  # never 0


def test_the_bootstrap_interval_is_that_of_the_normal_approximation() -> None:
    a, b = scores("11101" * 80), scores("10101" * 80)  # gap 1 at every fifth question
    got = paired_bootstrap(a, b, 4000, seed=3)
    assert got.difference == pytest.approx(0.2)
    half = 1.96 * math.sqrt(0.2 * 0.8 / 400)
    assert got.low == pytest.approx(0.2 - half, abs=0.006)
    assert got.high == pytest.approx(0.2 + half, abs=0.006)


def test_the_bootstrap_is_a_function_of_scores_and_seed_alone() -> None:
    a, b = scores("110100111010"), scores("100101110010")
    first = paired_bootstrap(a, b, 500, seed=5)
    assert paired_bootstrap(dict(reversed(a.items())), b, 500, seed=5) == first
    assert paired_bootstrap(a, b, 500, seed=6) != first
    mirrored = paired_bootstrap(b, a, 500, seed=5)
    assert mirrored.difference == -first.difference
    assert (mirrored.low, mirrored.high) == pytest.approx((-first.high, -first.low))
    assert mirrored.p == first.p


def test_chunks_do_not_change_the_number_of_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m2r_train.core.stats._BOOTSTRAP_ELEMENTS", 100)
    gap = paired_bootstrap(scores("1" * 20), scores("0" * 20), 999, seed=1)
    assert gap.p == pytest.approx(2 / 1000)


@pytest.mark.parametrize(("a", "b"), [("", ""), ("11", "1")])
def test_only_the_same_questions_can_be_compared(a: str, b: str) -> None:
    with pytest.raises(ValueError, match="same questions"):
        paired_bootstrap(scores(a), scores(b))
