"""A teacher that the run's own pods load."""

from __future__ import annotations

from collections.abc import Sequence

from m2r_train.api.datasynthesis import DataSynthesisSpec
from m2r_train.api.errors import ConfigError
from m2r_train.core.records import Sample
from m2r_train.core.rng import derive_seed
from m2r_train.rollout.base import SamplingParams
from m2r_train.stages.context import Context
from m2r_train.stages.endpoints import teacher_prompt
from m2r_train.stages.speaking import speaker


class ModelTeacher:
    """Implements ``Teacher``: a model folder, by vLLM or the in-process sampler."""

    def __init__(self, ctx: Context, spec: DataSynthesisSpec) -> None:
        """Raises ConfigError for a folder that is no such model, or that would drop the prompt."""
        generator = spec.generator
        assert generator.model is not None
        self._seed = ctx.seed
        self._speaker = speaker(
            ctx,
            "generator.model",
            generator.model,
            generator.engine,
            system=teacher_prompt(generator),
        )
        if generator.prompt is not None and not self._speaker.reads_system:
            raise ConfigError(
                "spec.generator.prompt: the chat template of generator.model leaves the system "
                "turn out; remove the prompt, or give a folder whose template has that turn"
            )
        self._params = SamplingParams(
            generator.chains_per_question, generator.temperature, generator.max_completion_tokens
        )

    def write(self, samples: Sequence[Sample]) -> list[list[str]]:
        """See ``Teacher.write``: a function of the seed and the sample."""
        seeds = [derive_seed(self._seed, "teach", s.id) for s in samples]
        return list(self._speaker.say(samples, seeds, self._params))
