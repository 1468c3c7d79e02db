"""A model that speaks in the run's own pods: as a teacher, or as a judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from m2r_train.api.common import Engine
from m2r_train.api.refs import ModelRef
from m2r_train.core.records import Sample
from m2r_train.rollout.base import SamplingParams
from m2r_train.stages.context import Context
from m2r_train.stages.feeding import lay_out, request
from m2r_train.stages.rollouts import rollout_engine

_ANY = Sample(
    id="any",
    domain="general",
    task="any",
    source="any",
    question="",
    answer="",
    answer_type="text",
    reward="exact",
)
_TOGETHER = 64  # questions that are answered at a time, which bounds memory


class Speaker:
    """A Qwen2.5-VL folder that replies, by vLLM or the in-process sampler."""

    def __init__(
        self,
        ctx: Context,
        path: str,
        ref: ModelRef,
        engine: Engine,
        system: str | None,
    ) -> None:
        """Raises ConfigError, naming ``spec.<path>``, for a folder that is no such model."""
        self._system = system
        self._policy = ctx.policy(path, ref)
        self._policy.freeze_vision()
        self._engine = rollout_engine(engine, self._policy)

    @property
    def reads_system(self) -> bool:
        """Whether the model's chat template shows it the system turn."""
        with_it, without = (lay_out(self._policy, [_ANY], text)[0] for text in (self._system, None))
        return with_it.tokens != without.tokens

    def say(
        self, samples: Sequence[Sample], seeds: Sequence[int], params: SamplingParams
    ) -> Iterator[list[str]]:
        """The replies to each sample, in order: functions of its seed alone."""
        for start in range(0, len(samples), _TOGETHER):
            some = samples[start : start + _TOGETHER]
            prompts = lay_out(self._policy, some, self._system)
            requests = [request(p, s) for p, s in zip(prompts, some, strict=True)]
            self._policy.show([image for r in requests for image in r.images])
            drawn = self._engine.generate(requests, seeds[start : start + _TOGETHER], params)
            yield from ([self._policy.decode(one.tokens) for one in group] for group in drawn)
