"""Group advantages and Eq. 6: the worked numbers of rewards.md sections 6 and 7."""

from __future__ import annotations

import math

import pytest

from m2r_train.core.advantages import (
    StdKind,
    advantage_weight,
    group_advantages,
    weighted_advantages,
)

GROUP = [1.0, 1.0, 0.0, 1.0, 0.0]

WORKED: list[tuple[StdKind, float, float]] = [
    ("Population", 0.816497, -1.224745),
    ("Sample", 0.730297, -1.095445),
    ("None", 0.4, -0.6),
]


@pytest.mark.parametrize(("std", "right", "wrong"), WORKED)
def test_the_worked_group(std: StdKind, right: float, wrong: float) -> None:
    expected = [right if reward else wrong for reward in GROUP]
    assert group_advantages(GROUP, std, epsilon=0.0) == pytest.approx(expected, abs=5e-7)


def test_epsilon_is_added_to_the_deviation() -> None:
    assert group_advantages(GROUP)[0] == pytest.approx(0.4 / (math.sqrt(0.24) + 1e-4), rel=1e-12)


@pytest.mark.parametrize("std", ["Population", "Sample", "None"])
@pytest.mark.parametrize("rewards", [[0.1 + 0.2] * 7, [0.0] * 8, [1.1], [1e-300] * 3])
def test_equal_rewards_give_exact_zeros(std: StdKind, rewards: list[float]) -> None:
    assert group_advantages(rewards, std, epsilon=0.0) == [0.0] * len(rewards)


@pytest.mark.parametrize("rewards", [[], [1.0, math.nan], [math.inf, 0.0]])
def test_a_group_without_finite_rewards_is_an_error(rewards: list[float]) -> None:
    with pytest.raises(ValueError, match="finite reward"):
        group_advantages(rewards)


@pytest.mark.parametrize(
    ("mean", "weight"),
    [(0, 0), (1, 0), (0.1, 0.36), (0.9, 0.36), (0.3, 0.84), (0.7, 0.84), (0.5, 1.0), (0.6, 0.96)],
)
def test_the_weight_by_accuracy(mean: float, weight: float) -> None:
    assert advantage_weight(mean) == pytest.approx(weight, abs=1e-12)
    assert advantage_weight(mean, sigma=2.0) == pytest.approx(weight / 2, abs=1e-12)


@pytest.mark.parametrize("mean", [-0.01, 1.01, math.nan])
def test_an_accuracy_outside_of_its_scale_is_an_error(mean: float) -> None:
    with pytest.raises(ValueError, match=r"0\.\.1"):
        advantage_weight(mean)


def test_rounding_above_one_does_not_turn_the_sign() -> None:
    assert advantage_weight(1.0 + 1e-12) == 0.0


def test_the_worked_group_weighted() -> None:
    group = weighted_advantages(GROUP, GROUP, epsilon=0.0)
    expected = [0.783837 if reward else -1.175755 for reward in GROUP]
    assert group.advantages == pytest.approx(expected, abs=5e-7)
    assert group.weight == pytest.approx(0.96)
    assert group.mean_accuracy == 0.6
    assert group.has_signal


def test_the_weight_reads_the_accuracy_and_the_advantage_the_total() -> None:
    totals = [1.1, 0.1, 0.0, 1.1]  # one wrong answer was well formed
    group = weighted_advantages(totals, [1.0, 0.0, 0.0, 1.0], epsilon=0.0)
    assert group.weight == 1.0
    assert group.advantages == pytest.approx(group_advantages(totals, epsilon=0.0))


def test_the_weight_can_be_off() -> None:
    group = weighted_advantages(GROUP, GROUP, sigma=None, epsilon=0.0)
    assert group.weight == 1.0
    assert group.advantages == group_advantages(GROUP, epsilon=0.0)


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_a_group_all_right_or_all_wrong_has_no_signal(accuracy: float) -> None:
    # Format rewards differ, so the advantages do: the weight of 0 takes the signal away.
    assert not weighted_advantages([accuracy, accuracy + 0.1], [accuracy] * 2).has_signal


def test_rewards_and_accuracies_must_pair() -> None:
    with pytest.raises(ValueError, match="2 rewards but 1 accuracies"):
        weighted_advantages([1.0, 0.0], [1.0])
