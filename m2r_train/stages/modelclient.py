"""A model folder that replies as a judge inside the run's own pods.

There is no system turn: that of training asks for tags around the answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from m2r_train.api.common import Engine
from m2r_train.api.refs import ModelRef
from m2r_train.core import judging
from m2r_train.core.records import Sample
from m2r_train.core.rng import derive_seed
from m2r_train.rollout.base import SamplingParams
from m2r_train.stages.context import Context
from m2r_train.stages.grading import VERDICT_TOKENS, Turn
from m2r_train.stages.replies import Question
from m2r_train.stages.speaking import speaker

_SCHEMA = json.dumps(judging.SCHEMA)


class ModelClient:
    """Implements ``Client``: a model folder by vLLM or the in-process sampler.

    Replies are a function of the seed and the question.
    """

    def __init__(self, ctx: Context, path: str, ref: ModelRef, engine: Engine) -> None:
        """Raises ConfigError for a folder that is no such model."""
        self._seed = ctx.seed
        self._speaker = speaker(ctx, path, ref, engine, system=None)

    def answer(self, requests: Sequence[Question], keep: Callable[[int, str], None]) -> None:
        """See ``Client.answer``."""
        by_params: dict[tuple[float, int], list[int]] = {}
        for i, asked in enumerate(requests):
            by_params.setdefault((asked.temperature, asked.max_tokens), []).append(i)
        for (temperature, most), numbers in by_params.items():
            some = [requests[i] for i in numbers]
            replies = self._speaker.say(
                [_sample(question.key, question.prompt) for question in some],
                [derive_seed(self._seed, *question.path) for question in some],
                SamplingParams(1, temperature, most),
            )
            for number, [reply] in zip(numbers, replies, strict=True):
                keep(number, reply)


class ModelGrader:
    """Implements ``Grader``: a judge of chains, shown the question's pictures.

    vLLM binds its output to the verdict's schema.
    """

    def __init__(self, ctx: Context, path: str, ref: ModelRef, engine: Engine) -> None:
        """Raises ConfigError for a folder that is no such model."""
        self._seed = ctx.seed
        self._speaker = speaker(ctx, path, ref, engine, system=None)

    def __call__(self, turns: Sequence[Turn]) -> list[str]:
        """See ``Grader``."""
        warmth = max((t.temperature for t in turns), default=0.0)  # one round's: all have the same
        replies = self._speaker.say(
            [_shown(turn) for turn in turns],
            [derive_seed(self._seed, *turn.path) for turn in turns],
            SamplingParams(1, warmth, VERDICT_TOKENS, _SCHEMA),
        )
        return [reply for [reply] in replies]


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
