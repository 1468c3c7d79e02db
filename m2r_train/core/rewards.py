"""Task and format rewards: exact match (Eq. 8), EDNM (Eq. 9), and their sum (rewards.md 2 to 5).

Pure and total over completions: whatever a model writes gets a number. A sample whose *truth*
cannot be scored raises: a failure turned into 0 would be learnt from.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

from m2r_train.api.errors import DataError
from m2r_train.core.answers import equivalent
from m2r_train.core.contract import read_completion
from m2r_train.core.numerals import parse_number
from m2r_train.core.records import AnswerType, RewardKind

EdnmKind = Literal["Ednm", "Binary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EdnmOverride:
    """What one task does differently from the rest; None keeps the value of `RewardConfig`."""

    kind: EdnmKind | None = None
    gamma: float | None = None
    lambda_: float | None = None
    epsilon: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardConfig:
    """How completions are scored. Defaults are the paper's where it states them.

    ``kind`` Binary scores the numeric spatial tasks by exact match too (the ablation of Eq. 9).
    ``gamma`` >= 0 is the highest EDNM reward, ``lambda_`` >= 0 its decay over the relative error,
    ``epsilon`` > 0 guards a truth of zero. ``per_task`` overrides them by task name.
    ``format_weight`` is w_fmt; ``strict_format`` asks for a box as well.
    Raises ValueError for values outside these bounds.
    """

    kind: EdnmKind = "Ednm"
    gamma: float = 1.0
    lambda_: float = 2.0
    epsilon: float = 1e-8
    per_task: Mapping[str, EdnmOverride] = field(default_factory=dict)
    format_weight: float = 0.1
    strict_format: bool = False

    def __post_init__(self) -> None:
        for task in (None, *self.per_task):
            _, gamma, lambda_, epsilon = self.for_task(task)
            if not (0 <= gamma < math.inf and 0 <= lambda_ < math.inf and 0 < epsilon < math.inf):
                where = f"perTask.{task}" if task else "ednm"
                raise ValueError(
                    f"rewards.{where}: gamma and lambda must not be negative, epsilon positive, "
                    f"all finite; got gamma {gamma}, lambda {lambda_}, epsilon {epsilon}"
                )

    def for_task(self, task: str | None) -> tuple[EdnmKind, float, float, float]:
        """(kind, gamma, lambda, epsilon) that hold for a task."""
        own = self.per_task.get(task) if task is not None else None
        if own is None:
            return self.kind, self.gamma, self.lambda_, self.epsilon
        return (
            self.kind if own.kind is None else own.kind,
            self.gamma if own.gamma is None else own.gamma,
            self.lambda_ if own.lambda_ is None else own.lambda_,
            self.epsilon if own.epsilon is None else own.epsilon,
        )


@dataclass(frozen=True, slots=True)
class Reward:
    """The rewards of one completion.

    ``task`` is R_gen or R_EDNM, ``format`` is R_fmt (0 or 1), ``total`` = task + w_fmt * format.
    ``extracted`` is the answer that was scored, None where there was none. ``accuracy`` is the task
    reward before gamma, on the scale 0..1: what difficulty and Eq. 6 read (with the paper's gamma
    of 1 it is the task reward itself). The format never counts into it. ``own`` are the values of
    the user's rewards by name, before their weights; ``replaced``: one of them stands for the task
    reward and the accuracy.
    """

    task: float
    format: float
    total: float
    extracted: str | None
    accuracy: float
    own: Mapping[str, float] = field(default_factory=dict)
    replaced: bool = False


@dataclass(frozen=True, slots=True)
class OwnTerm:
    """How a reward of the user's counts: ``weight`` times its value is added to the total, or
    stands for the task reward."""

    name: str
    weight: float = 1.0
    replaces: bool = False


def with_own(
    reward: Reward, values: Mapping[str, float], terms: Sequence[OwnTerm], format_weight: float
) -> Reward:
    """``reward`` with the user's ``values`` (0..1, by name), before any penalty.

    total = task + w_fmt * format + sum of weight * value over the terms that add. One that
    replaces makes task = weight * value and accuracy = value.
    """
    task, accuracy = reward.task, reward.accuracy
    for term in terms:
        if term.replaces:
            task, accuracy = term.weight * values[term.name], values[term.name]
    added = math.fsum(t.weight * values[t.name] for t in terms if not t.replaces)
    return replace(
        reward,
        task=task,
        accuracy=accuracy,
        total=task + format_weight * reward.format + added,
        own=dict(values),
        replaced=any(term.replaces for term in terms),
    )


def ednm(
    x: float, truth: float, gamma: float = 1.0, lambda_: float = 2.0, epsilon: float = 1e-8
) -> float:
    """Exponential Decay Numeric Matching, Eq. 9.

    gamma * exp(-lambda |x - truth| / (|truth| + epsilon)): a function of the relative error alone,
    in (0, gamma] (0 by underflow), gamma exactly at x = truth. 0 for an x that is not finite.
    Raises ValueError for a truth that is not finite.
    """
    if not math.isfinite(truth):
        raise ValueError(f"EDNM needs a finite truth, got {truth}")
    if not math.isfinite(x):
        return 0.0
    error = abs(x - truth) / (abs(truth) + epsilon)
    # Capped, because an overflow to inf would make a lambda of 0 give nan.
    return gamma * math.exp(-lambda_ * min(error, sys.float_info.max))


def score(
    sample_task: str,
    reward_kind: RewardKind,
    answer: str,
    answer_type: AnswerType,
    completion: str,
    config: RewardConfig,
) -> Reward:
    """Rewards of one completion for a sample's task, reward kind, answer and answer type.

    No extracted answer (a truncated completion has none): task reward 0. Raises DataError when an
    ednm sample's truth is not a finite number.
    """
    extracted, is_valid = read_completion(completion, config.strict_format)
    kind, gamma, lambda_, epsilon = config.for_task(sample_task)
    if reward_kind == "ednm" and kind == "Ednm":
        truth = _truth(answer, sample_task)
        x = None if extracted is None else parse_number(extracted)
        accuracy = 0.0 if x is None else ednm(x, truth, 1.0, lambda_, epsilon)
        task = gamma * accuracy
    else:
        compare_as: AnswerType = "number" if reward_kind == "ednm" else answer_type
        right = extracted is not None and equivalent(extracted, answer, compare_as)
        task = accuracy = 1.0 if right else 0.0
    form = 1.0 if is_valid else 0.0
    return Reward(task, form, task + config.format_weight * form, extracted, accuracy)


@lru_cache(maxsize=4096)  # the completions of a group share their truth
def _truth(answer: str, task: str) -> float:
    truth = parse_number(answer)
    if truth is None:
        raise DataError(
            f"task {task}: answer {answer[:80]!r} is not a finite number, which an ednm reward "
            "needs; correct the answer or set the sample's reward to exact"
        )
    return truth
