"""A teacher that the run's own pods load."""

from __future__ import annotations

from collections.abc import Sequence

from m2r_train.api.datasynthesis import DataSynthesisSpec
from m2r_train.core.records import Sample
from m2r_train.core.rng import derive_seed
from m2r_train.rollout.base import SamplingParams
from m2r_train.stages.context import Context
from m2r_train.stages.feeding import lay_out, request
from m2r_train.stages.rollouts import rollout_engine

_AT_A_TIME = 64  # questions that the model is asked together


class ModelTeacher:
    """Implements ``Teacher``: a Qwen2.5-VL folder, by vLLM or the in-process sampler."""

    def __init__(self, ctx: Context, spec: DataSynthesisSpec) -> None:
        generator = spec.generator
        assert generator.model is not None
        self._seed = ctx.seed
        self._policy = ctx.policy("generator.model", generator.model)
        self._engine = rollout_engine(generator.engine, self._policy)
        self._samples = generator.chains_per_question
        self._params = SamplingParams(
            generator.chains_per_question, generator.temperature, generator.max_completion_tokens
        )

    def write(self, samples: Sequence[Sample]) -> list[list[str]]:
        """See ``Teacher.write``: a function of the seed and the sample."""
        out: list[list[str]] = []
        for i in range(0, len(samples), _AT_A_TIME):
            some = samples[i : i + _AT_A_TIME]
            prompts = lay_out(self._policy, some)
            requests = [request(p, s) for p, s in zip(prompts, some, strict=True)]
            seeds = [derive_seed(self._seed, "teach", s.id) for s in some]
            groups = self._engine.generate(requests, seeds, self._params)
            out += [[self._policy.decode(c.tokens) for c in group] for group in groups]
        return out
