"""Laws of EDNM (rewards.md section 4) and of group advantages (sections 6 and 7)."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from m2r_train.core.advantages import advantage_weight, group_advantages, weighted_advantages
from m2r_train.core.rewards import RewardConfig, ednm, score

sizes = st.floats(1e-2, 1e6)
numbers = st.floats(-1e6, 1e6)
gammas = st.floats(0.01, 10)
lambdas = st.floats(0, 10)


@given(st.floats(), st.floats(allow_nan=False, allow_infinity=False), gammas, lambdas)
def test_the_reward_is_between_zero_and_gamma(
    x: float, truth: float, gamma: float, lambda_: float
) -> None:
    assert 0.0 <= ednm(x, truth, gamma, lambda_) <= gamma


@given(numbers, gammas, lambdas)
def test_the_reward_is_gamma_at_the_truth(truth: float, gamma: float, lambda_: float) -> None:
    assert ednm(truth, truth, gamma, lambda_) == gamma


@given(sizes, st.floats(0, 20))
def test_the_reward_is_symmetric_in_the_relative_error(truth: float, error: float) -> None:
    over, under = ednm(truth * (1 + error), truth), ednm(truth * (1 - error), truth)
    assert over == pytest.approx(under, rel=1e-6)
    assert over == pytest.approx(math.exp(-2 * error), rel=1e-4)


@given(numbers, numbers)
def test_the_reward_is_symmetric_in_the_sign(x: float, truth: float) -> None:
    assert ednm(-x, -truth) == ednm(x, truth)


@given(sizes, sizes, st.sampled_from([0.3048, 0.01, 100.0, 1000.0, 2.54]))
def test_the_reward_does_not_depend_on_the_unit(x: float, truth: float, unit: float) -> None:
    assume(abs(x - truth) / truth < 50)
    assert ednm(x * unit, truth * unit) == pytest.approx(ednm(x, truth), rel=1e-2)
    # without the guard of the denominator it is the same to rounding
    tiny = 1e-30
    assert ednm(x * unit, truth * unit, 1, 2, tiny) == pytest.approx(
        ednm(x, truth, 1, 2, tiny), rel=1e-12
    )


@given(sizes, st.floats(0, 10), st.floats(1e-3, 10), st.booleans())
def test_the_reward_falls_strictly_with_the_error(
    truth: float, error: float, more: float, above: bool
) -> None:
    sign = 1 if above else -1
    near, far = truth * (1 + sign * error), truth * (1 + sign * (error + more))
    assert ednm(far, truth) < ednm(near, truth)


@given(st.floats(-1e3, 1e3, allow_subnormal=False).filter(lambda x: abs(x) > 1e-5))
def test_beside_a_truth_of_zero_only_zero_earns(x: float) -> None:
    assert ednm(x, 0.0) < 1e-100


@given(st.decimals("0.01", "1000", places=2), st.decimals("0.01", "1000", places=2))
def test_a_scored_completion_earns_what_the_formula_says(truth: object, x: object) -> None:
    text = f"<think>a</think><answer>\\boxed{{{x} m}}</answer>"
    got = score("RoomSize", "ednm", str(truth), "number", text, RewardConfig())
    assert got.task == got.accuracy == ednm(float(str(x)), float(str(truth)))
    assert got.total == got.task + 0.1


groups = st.lists(st.floats(0, 1.1), min_size=1, max_size=16)
kinds = st.sampled_from(["Population", "Sample", "None"])


@given(groups, kinds)
def test_advantages_sum_to_zero_and_keep_the_order(rewards: list[float], std: str) -> None:
    advantages = group_advantages(rewards, std)  # type: ignore[arg-type]
    assert math.fsum(advantages) == pytest.approx(0.0, abs=1e-9)
    order = sorted(range(len(rewards)), key=rewards.__getitem__)
    assert all(advantages[a] <= advantages[b] for a, b in pairwise(order))


@given(groups, st.floats(-100, 100), st.floats(0.5, 100))
def test_normalised_advantages_ignore_shift_and_scale(
    rewards: list[float], shift: float, scale: float
) -> None:
    assume(max(rewards) - min(rewards) > 1e-3)
    plain = group_advantages(rewards, epsilon=0.0)
    moved = group_advantages([shift + scale * r for r in rewards], epsilon=0.0)
    assert moved == pytest.approx(plain, rel=1e-6, abs=1e-6)


@given(groups)
def test_population_advantages_have_unit_variance(rewards: list[float]) -> None:
    assume(max(rewards) - min(rewards) > 1e-3)
    advantages = group_advantages(rewards, epsilon=0.0)
    assert math.fsum(a * a for a in advantages) / len(rewards) == pytest.approx(1.0)


@given(st.floats(0, 1), st.floats(0.1, 10))
def test_the_weight_is_symmetric_and_at_most_a_quarter_of_sigma(mean: float, sigma: float) -> None:
    weight = advantage_weight(mean, sigma)
    assert 0.0 <= weight <= sigma / 4 + 1e-12
    assert weight == pytest.approx(advantage_weight(1.0 - mean, sigma), abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=16))
def test_weighted_advantages_are_the_weight_times_the_advantages(rewards: list[float]) -> None:
    group = weighted_advantages(rewards, rewards)
    assert group.advantages == [group.weight * a for a in group_advantages(rewards)]
