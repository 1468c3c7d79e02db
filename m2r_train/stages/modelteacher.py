"""A teacher that the run's own pods load."""

from __future__ import annotations

from collections.abc import Sequence

from m2r_train.api.datasynthesis import DataSynthesisSpec
from m2r_train.core.records import Sample
from m2r_train.core.rng import derive_seed
from m2r_train.rollout.base import SamplingParams
from m2r_train.stages.context import Context
from m2r_train.stages.speaking import Speaker
from m2r_train.stages.support import refuse_videos


class ModelTeacher:
    """Implements ``Teacher``: a Qwen2.5-VL folder, by vLLM or the in-process sampler."""

    def __init__(self, ctx: Context, spec: DataSynthesisSpec) -> None:
        generator = spec.generator
        assert generator.model is not None
        self._seed, self._engine = ctx.seed, generator.engine
        self._speaker = Speaker(ctx, "generator.model", generator.model, generator.engine)
        self._params = SamplingParams(
            generator.chains_per_question, generator.temperature, generator.max_completion_tokens
        )

    def write(self, samples: Sequence[Sample]) -> list[list[str]]:
        """See ``Teacher.write``: a function of the seed and the sample.

        Raises ConfigError for a video that the engine cannot be shown.
        """
        refuse_videos("generator.engine", self._engine, samples)
        seeds = [derive_seed(self._seed, "teach", s.id) for s in samples]
        return list(self._speaker.say(samples, seeds, self._params))
