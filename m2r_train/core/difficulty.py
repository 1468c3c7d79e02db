"""Difficulty from rollouts, and which samples it drops (synthesis.md section 4).

accuracy = mean task reward of n rollouts (0..1)        difficulty = 1 - accuracy
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from m2r_train.core.records import RewardKind

EDNM_SPREAD = 0.01 + 1e-9  # numeric rewards this close give a group no signal; 1.00 and 0.99 are


def difficulty_of(accuracies: Sequence[float]) -> tuple[float, float]:
    """(accuracy, difficulty) of one sample's rollouts, both in 0..1."""
    accuracy = fmean(accuracies)
    return accuracy, 1.0 - accuracy


def drop_reason(
    kind: RewardKind,
    accuracies: Sequence[float],
    *,
    drop_unsolved: bool = True,
    drop_solved: bool = True,
) -> str | None:
    """Why a sample has nothing to teach (``unsolved``, ``solved``, ``no-spread``), or None.

    Exact answers: all rollouts wrong, or all right. Numeric ones: all rewards within 0.01 of each
    other, counted as solved when they are high and as unsolved when they are low.
    """
    if kind == "exact":
        if drop_unsolved and max(accuracies) == 0.0:
            return "unsolved"
        if drop_solved and min(accuracies) == 1.0:
            return "solved"
        return None
    if max(accuracies) - min(accuracies) > EDNM_SPREAD:
        return None
    high = fmean(accuracies) >= 0.5
    return "no-spread" if (drop_solved if high else drop_unsolved) else None
