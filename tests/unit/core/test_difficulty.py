"""Difficulty and what it drops: the worked examples of the synthesis notes, and the borders."""

from __future__ import annotations

import pytest

from m2r_train.core.difficulty import difficulty_of, drop_reason
from m2r_train.core.records import RewardKind

THREE_OF_EIGHT = [1.0] * 3 + [0.0] * 5
SPREAD = [0.9, 0.9, 0.7, 0.7, 0.5, 0.5, 0.3, 0.3]


@pytest.mark.parametrize(
    ("accuracies", "accuracy", "difficulty"),
    [
        (THREE_OF_EIGHT, 0.375, 0.625),
        ([1.0] * 8, 1.0, 0.0),
        (SPREAD, 0.6, 0.4),
        ([0.0], 0.0, 1.0),
    ],
)
def test_the_worked_difficulties(
    accuracies: list[float], accuracy: float, difficulty: float
) -> None:
    assert difficulty_of(accuracies) == pytest.approx((accuracy, difficulty), abs=1e-12)


CASES: list[tuple[str, RewardKind, list[float], str | None]] = [
    ("three of eight are right", "exact", THREE_OF_EIGHT, None),
    ("all are right", "exact", [1.0] * 8, "solved"),
    ("all are wrong", "exact", [0.0] * 8, "unsolved"),
    ("one is wrong", "exact", [1.0] * 7 + [0.0], None),
    ("one is right", "exact", [1.0] + [0.0] * 7, None),
    ("numbers near and far", "ednm", SPREAD, None),
    ("numbers all near", "ednm", [0.995, 0.99, 1.0], "no-spread"),
    ("numbers all far", "ednm", [0.0, 0.004, 0.009], "no-spread"),
    ("numbers all exact", "ednm", [1.0] * 4, "no-spread"),
    ("numbers equally half right", "ednm", [0.5, 0.505, 0.5], "no-spread"),
    ("one number just outside", "ednm", [0.3, 0.3, 0.311], None),
]


@pytest.mark.parametrize(
    ("kind", "accuracies", "reason"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_what_is_dropped_and_why(
    kind: RewardKind, accuracies: list[float], reason: str | None
) -> None:
    assert drop_reason(kind, accuracies) == reason


@pytest.mark.parametrize("kind", ["exact", "ednm"])
@pytest.mark.parametrize("keep", ["solved", "unsolved"])
def test_each_side_can_be_kept_on_its_own(kind: RewardKind, keep: str) -> None:
    easy, hard = [1.0] * 4, [0.0] * 4
    kept, dropped = (easy, hard) if keep == "solved" else (hard, easy)
    flags = {"drop_solved": keep != "solved", "drop_unsolved": keep != "unsolved"}
    assert drop_reason(kind, kept, **flags) is None
    assert drop_reason(kind, dropped, **flags) is not None
