"""How often a model solves a question: what difficulty is made of."""

from __future__ import annotations

from collections.abc import Sequence

from m2r_train.api.chains import Difficulty
from m2r_train.core.records import Sample
from m2r_train.core.rewards import RewardConfig, score
from m2r_train.core.rng import derive_seed
from m2r_train.rollout.base import SamplingParams
from m2r_train.stages.context import Context
from m2r_train.stages.feeding import lay_out, request
from m2r_train.stages.rollouts import rollout_engine

_REWARDS = RewardConfig()


class Meter:
    """The difficulty model, loaded when the first question comes."""

    def __init__(self, ctx: Context, difficulty: Difficulty) -> None:
        self._seed = ctx.seed
        self._policy = ctx.policy("difficulty.model", difficulty.model)
        self._engine = rollout_engine("inprocess", self._policy)
        self._params = SamplingParams(
            difficulty.rollouts, difficulty.temperature, difficulty.max_completion_tokens
        )

    def accuracies(self, samples: Sequence[Sample]) -> list[list[float]]:
        """The accuracy of every rollout, [samples][rollouts]: a function of seed and sample."""
        prompts = lay_out(self._policy, samples)
        requests = [request(p, s) for p, s in zip(prompts, samples, strict=True)]
        seeds = [derive_seed(self._seed, "difficulty", s.id) for s in samples]
        groups = self._engine.generate(requests, seeds, self._params)
        return [
            [self._accuracy(s, self._policy.decode(c.tokens)) for c in group]
            for s, group in zip(samples, groups, strict=True)
        ]

    def _accuracy(self, s: Sample, text: str) -> float:
        return score(s.task, s.reward, s.answer, s.answer_type, text, _REWARDS).accuracy
