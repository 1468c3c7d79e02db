"""A model folder that replies as a judge inside the run's own pods.

There is no system turn: that of training asks for tags around the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from m2r_train.api.common import Engine
from m2r_train.api.refs import ModelRef
from m2r_train.core.records import Sample
from m2r_train.core.rng import derive_seed
from m2r_train.rollout.base import SamplingParams
from m2r_train.stages.context import Context
from m2r_train.stages.feeding import lay_out, request
from m2r_train.stages.grading import VERDICT_TOKENS, Turn
from m2r_train.stages.replies import Question
from m2r_train.stages.rollouts import rollout_engine
from m2r_train.stages.support import refuse_videos

_TOGETHER = 64  # questions that are answered at a time, which bounds memory


class ModelClient:
    """Implements ``Client``: a Qwen2.5-VL folder by vLLM or the in-process sampler.

    Replies are a function of the seed and the question.
    """

    def __init__(self, ctx: Context, path: str, ref: ModelRef, engine: Engine) -> None:
        """Raises ConfigError for a folder that is no such model."""
        self._seed = ctx.seed
        self._speaker = _Speaker(ctx, path, ref, engine)

    def answer(self, requests: Sequence[Question], keep: Callable[[int, str], None]) -> None:
        """See ``Client.answer``."""
        by_params: dict[tuple[float, int], list[int]] = {}
        for i, asked in enumerate(requests):
            by_params.setdefault((asked.temperature, asked.max_tokens), []).append(i)
        for (temperature, most), numbers in by_params.items():
            params = SamplingParams(1, temperature, most)
            for start in range(0, len(numbers), _TOGETHER):
                some = numbers[start : start + _TOGETHER]
                said = self._say([requests[i] for i in some], params)
                for number, reply in zip(some, said, strict=True):
                    keep(number, reply)

    def _say(self, asked: Sequence[Question], params: SamplingParams) -> list[str]:
        samples = [_sample(question.key, question.prompt) for question in asked]
        seeds = [derive_seed(self._seed, *question.path) for question in asked]
        return self._speaker.say(samples, seeds, params)


class ModelGrader:
    """Implements ``Grader``: a judge of chains, shown the question's pictures.

    A verdict that could not be read is drawn again half a degree of temperature warmer, as the
    same draw would be the same verdict.
    """

    def __init__(self, ctx: Context, path: str, ref: ModelRef, engine: Engine) -> None:
        """Raises ConfigError for a folder that is no such model."""
        self._seed, self._engine = ctx.seed, engine
        self._speaker = _Speaker(ctx, path, ref, engine)

    def __call__(self, turns: Sequence[Turn]) -> list[str]:
        """See ``Grader``. Raises ConfigError for a video that the engine cannot be shown."""
        refuse_videos("quality.judge.engine", self._engine, [t.sample for t in turns if t.sample])
        replies: list[str] = []
        for start in range(0, len(turns), _TOGETHER):
            some = turns[start : start + _TOGETHER]
            attempt = max(turn.attempt for turn in some)  # turns of one round, so all have the same
            params = SamplingParams(1, 0.5 * attempt, VERDICT_TOKENS)
            seeds = [derive_seed(self._seed, *turn.path) for turn in some]
            replies += self._speaker.say([_shown(turn) for turn in some], seeds, params)
        return replies


class _Speaker:
    def __init__(self, ctx: Context, path: str, ref: ModelRef, engine: Engine) -> None:
        self._policy = ctx.policy(path, ref)
        self._policy.freeze_vision()
        self._engine = rollout_engine(engine, self._policy)

    def say(
        self, samples: Sequence[Sample], seeds: Sequence[int], params: SamplingParams
    ) -> list[str]:
        prompts = lay_out(self._policy, samples, system=None)
        requests = [request(p, s) for p, s in zip(prompts, samples, strict=True)]
        self._policy.show([image for r in requests for image in r.images])
        groups = self._engine.generate(requests, seeds, params)
        return [self._policy.decode(one.tokens) for [one] in groups]


def _shown(turn: Turn) -> Sample:
    name = "/".join(map(str, turn.path))
    if turn.sample is None:
        return _sample(name, turn.text)
    return turn.sample.with_(id=name, question=turn.text, options=None)


def _sample(name: str, prompt: str) -> Sample:
    return Sample(
        id=name,
        domain="general",
        task="judge",
        source="judge",
        question=prompt,
        answer="",
        answer_type="text",
        reward="exact",
    )
