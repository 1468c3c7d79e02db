"""Rewards: the tables of rewards.md sections 4 and 5."""

from __future__ import annotations

import math

import pytest

from m2r_train.api.errors import DataError
from m2r_train.core import rewards
from m2r_train.core.rewards import (
    EdnmOverride,
    OwnTerm,
    Reward,
    RewardConfig,
    ednm,
    score,
    with_own,
)


def completion(answer: str, thought: str = "a") -> str:
    return f"<think>{thought}</think>\n<answer>\n\\boxed{{{answer}}}\n</answer>"


TABLE = [
    (16, 16, 1.000000),
    (14, 16, 0.778801),
    (2.0, 2.5, 0.670320),
    (30, 20, 0.367879),
    (40, 20, 0.135335),
    (60, 20, 0.018316),
    (0, 20, 0.135335),
    (3, 0, 0.000000),
]


@pytest.mark.parametrize(("x", "truth", "reward"), TABLE)
def test_ednm_gives_the_worked_values(x: float, truth: float, reward: float) -> None:
    assert ednm(x, truth) == pytest.approx(reward, abs=5e-7)


@pytest.mark.parametrize(("x", "truth", "reward"), TABLE)
def test_a_completion_with_that_number_earns_that_reward(
    x: float, truth: float, reward: float
) -> None:
    got = score("RoomSize", "ednm", str(truth), "number", completion(f"{x} m"), RewardConfig())
    assert got.task == pytest.approx(reward, abs=5e-7)
    assert got.total == pytest.approx(reward + 0.1, abs=5e-7)


def test_a_truth_of_zero_gives_gamma_for_zero() -> None:
    assert ednm(0.0, 0.0) == 1.0
    assert ednm(0.0, 0.0, gamma=1.5) == 1.5


@pytest.mark.parametrize("x", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_earns_nothing(x: float) -> None:
    assert ednm(x, 5.0) == 0.0


@pytest.mark.parametrize("truth", [math.nan, math.inf])
def test_a_truth_that_is_not_finite_raises(truth: float) -> None:
    with pytest.raises(ValueError, match="finite truth"):
        ednm(5.0, truth)


def test_errors_beyond_the_doubles_earn_nothing() -> None:
    assert ednm(1.7e308, -1.7e308) < 1e-1
    assert ednm(1e308, 0.0) == 0.0
    assert ednm(1e308, 0.0, lambda_=0.0) == 1.0  # and not nan


def test_the_total_is_the_task_reward_and_the_weighted_format() -> None:
    config = RewardConfig(format_weight=0.25)
    right = score("maths", "exact", "7", "number", completion("7"), config)
    assert right == Reward(task=1.0, format=1.0, total=1.25, extracted="7", accuracy=1.0)
    wrong = score("maths", "exact", "7", "number", completion("8"), config)
    assert wrong == Reward(task=0.0, format=1.0, total=0.25, extracted="8", accuracy=0.0)
    bare = score("maths", "exact", "7", "number", "<answer>7</answer>", config)
    assert bare == Reward(task=1.0, format=0.0, total=1.0, extracted="7", accuracy=1.0)


def test_the_default_format_weight_is_a_tenth() -> None:
    got = score("maths", "exact", "7", "number", completion("7"), RewardConfig())
    assert got.total == 1.1
    assert got.accuracy == 1.0  # the format never counts into the accuracy


@pytest.mark.parametrize("reward", ["exact", "ednm"])
def test_a_truncated_completion_earns_nothing(reward: rewards.RewardKind) -> None:
    cut = completion("7").removesuffix("</answer>")
    got = score("RoomSize", reward, "7", "number", cut, RewardConfig())
    assert got == Reward(task=0.0, format=0.0, total=0.0, extracted=None, accuracy=0.0)


@pytest.mark.parametrize("answer", ["no idea", "", "1e400", "nan", "5 or 6"])
def test_no_number_earns_nothing_where_a_number_is_asked_for(answer: str) -> None:
    got = score("RoomSize", "ednm", "7", "number", completion(answer), RewardConfig())
    assert got.task == 0.0
    assert got.extracted == answer


def test_strict_format_also_asks_for_a_box() -> None:
    text = "<think>a</think><answer>7</answer>"
    for strict, form in ((False, 1.0), (True, 0.0)):
        config = RewardConfig(strict_format=strict)
        assert score("maths", "exact", "7", "number", text, config).format == form


def test_binary_scores_numbers_as_right_or_wrong() -> None:
    config = RewardConfig(kind="Binary", gamma=1.5)
    for answer, task in (("7.0 m", 1.0), ("6.9 m", 0.0)):
        got = score("RoomSize", "ednm", "7", "number", completion(answer), config)
        assert got.task == got.accuracy == task


def test_a_task_can_have_its_own_parameters() -> None:
    config = RewardConfig(
        lambda_=2.0,
        per_task={
            "RoomSize": EdnmOverride(lambda_=1.0),
            "ObjectCount": EdnmOverride(kind="Binary"),
        },
    )

    def task_reward(task: str) -> float:
        return score(task, "ednm", "20", "number", completion("30"), config).task

    assert task_reward("AbsoluteDistance") == pytest.approx(math.exp(-1.0))
    assert task_reward("RoomSize") == pytest.approx(math.exp(-0.5))
    assert task_reward("ObjectCount") == 0.0


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 1.5])
def test_gamma_scales_the_reward_and_leaves_the_accuracy_alone(gamma: float) -> None:
    config = RewardConfig(gamma=gamma)
    got = score("RoomSize", "ednm", "20", "number", completion("30"), config)
    assert got.accuracy == pytest.approx(math.exp(-1.0))
    assert got.task == pytest.approx(gamma * math.exp(-1.0))


@pytest.mark.parametrize("answer", ["a lot", "", "1e400"])
def test_a_truth_that_is_no_number_is_an_error_and_not_a_reward_of_zero(answer: str) -> None:
    with pytest.raises(DataError, match=r"task RoomSize: answer .* is not a finite number"):
        score("RoomSize", "ednm", answer, "number", completion("7"), RewardConfig())


def test_a_bad_truth_is_found_even_when_the_completion_has_no_answer() -> None:
    with pytest.raises(DataError):
        score("RoomSize", "ednm", "a lot", "number", "<think>", RewardConfig())


def test_a_crash_in_a_reward_is_not_turned_into_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> bool:
        raise RuntimeError("broken rule")

    monkeypatch.setattr(rewards, "equivalent", crash)
    with pytest.raises(RuntimeError, match="broken rule"):
        score("maths", "exact", "7", "number", completion("7"), RewardConfig())


@pytest.mark.parametrize(
    "wrong",
    [
        {"gamma": -1.0},
        {"lambda_": -0.1},
        {"epsilon": 0.0},
        {"gamma": math.nan},
        {"lambda_": math.inf},
        {"per_task": {"RoomSize": EdnmOverride(epsilon=-1.0)}},
    ],
)
def test_parameters_out_of_bounds_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="rewards"):
        RewardConfig(**wrong)  # type: ignore[arg-type]


OWN = [OwnTerm("brief", 0.5), OwnTerm("units", 0.25)]


@pytest.mark.parametrize(
    ("terms", "task", "total", "accuracy"),
    [
        (OWN, 0.0, 0.0 + 0.1 + 0.5 * 0.4 + 0.25 * 1.0, 0.0),
        ([OwnTerm("brief", 3.0, replaces=True), OwnTerm("units", 0.25)], 1.2, 1.55, 0.4),
        ([OwnTerm("brief", 0.0), OwnTerm("units", 0.0)], 0.0, 0.1, 0.0),
    ],
    ids=["both add", "one replaces", "no weight"],
)
def test_own_rewards_add_or_stand_for_the_task(
    terms: list[OwnTerm], task: float, total: float, accuracy: float
) -> None:
    wrong = Reward(task=0.0, format=1.0, total=0.1, extracted="8", accuracy=0.0)
    values = {"brief": 0.4, "units": 1.0}
    got = with_own(wrong, values, terms, 0.1)
    assert (got.task, got.accuracy) == (pytest.approx(task), pytest.approx(accuracy))
    assert got.total == pytest.approx(total)
    assert got.own == values
    assert got.replaced == any(term.replaces for term in terms)
    assert (got.format, got.extracted) == (1.0, "8")
