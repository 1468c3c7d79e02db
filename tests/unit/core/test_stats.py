"""The score of an answer: exact match, or MRA (benchmarks.md section 8)."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from m2r_train.api.errors import DataError
from m2r_train.core.records import Sample
from m2r_train.core.stats import mean_relative_accuracy, sample_accuracy

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
