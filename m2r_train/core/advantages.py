"""Group-relative advantages of GRPO and their weight by difficulty (rewards.md 6 and 7)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

StdKind = Literal["Population", "Sample", "None"]

DEFAULT_EPSILON = 1e-4
"""Added to the standard deviation (the delta of rewards.md section 6)."""


@dataclass(frozen=True, slots=True)
class GroupAdvantages:
    """One group's advantages, and what they were made of.

    ``advantages`` G values, weighted; ``weight`` Eq. 6 (1 where it is off); ``mean_accuracy`` 0..1.
    """

    advantages: list[float]
    weight: float
    mean_accuracy: float

    @property
    def has_signal(self) -> bool:
        """False when every advantage is 0: such a group can stay out of the backward pass."""
        return any(self.advantages)


def group_advantages(
    rewards_G: Sequence[float], std: StdKind = "Population", epsilon: float = DEFAULT_EPSILON
) -> list[float]:
    """A_i = (R_i - mean) / (std + epsilon) over one group of G completions of a prompt.

    ``std``: Population divides by G, Sample by G - 1 (as TRL does), None leaves the division out.
    A group whose rewards are all equal, or a group of one, gives exact zeros.
    Raises ValueError for an empty group or a reward that is not finite.
    """
    if not rewards_G or not all(map(math.isfinite, rewards_G)):
        raise ValueError(f"a group needs one finite reward or more, got {list(rewards_G)}")
    if min(rewards_G) == max(rewards_G):
        return [0.0] * len(rewards_G)
    mean = math.fsum(rewards_G) / len(rewards_G)
    centred_G = [reward - mean for reward in rewards_G]
    if std == "None":
        return centred_G
    freedom = len(rewards_G) - (1 if std == "Sample" else 0)
    deviation = math.sqrt(math.fsum(c * c for c in centred_G) / freedom)
    return [c / (deviation + epsilon) for c in centred_G]


def advantage_weight(mean_accuracy: float, sigma: float = 4.0) -> float:
    """Eq. 6: w = sigma * m * (1 - m), largest (sigma / 4) where half of the answers are right.

    ``mean_accuracy`` is the group's mean online task reward on the scale 0..1, never the total with
    the format reward. Raises ValueError outside of 0..1, where the weight would turn the sign.
    """
    if not 0.0 <= mean_accuracy <= 1.0 + 1e-9:
        raise ValueError(f"mean accuracy must be in 0..1, got {mean_accuracy}")
    mean_accuracy = min(mean_accuracy, 1.0)
    return sigma * mean_accuracy * (1.0 - mean_accuracy)


def weighted_advantages(
    rewards_G: Sequence[float],
    accuracies_G: Sequence[float],
    *,
    sigma: float | None = 4.0,
    std: StdKind = "Population",
    epsilon: float = DEFAULT_EPSILON,
) -> GroupAdvantages:
    """A'_i = w * A_i: advantages from the total rewards, the weight from the accuracies (Eq. 6).

    ``sigma`` None turns the weight off. Raises ValueError when the lengths differ.
    """
    if len(rewards_G) != len(accuracies_G):
        raise ValueError(f"{len(rewards_G)} rewards but {len(accuracies_G)} accuracies in a group")
    advantages_G = group_advantages(rewards_G, std, epsilon)
    mean_accuracy = math.fsum(accuracies_G) / len(accuracies_G)
    weight = 1.0 if sigma is None else advantage_weight(mean_accuracy, sigma)
    return GroupAdvantages([weight * a for a in advantages_G], weight, mean_accuracy)
