"""Teachers and judges behind an endpoint: many requests at a time."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, TypeVar

from m2r_train.api.chains import Generator
from m2r_train.api.common import API_KEY, EndpointRef, key_variable
from m2r_train.api.errors import ConfigError
from m2r_train.core import judging
from m2r_train.core.backoff import Backoff
from m2r_train.core.records import Sample
from m2r_train.core.rng import derive_seed
from m2r_train.model.prompts import SYSTEM_PROMPT
from m2r_train.rollout.endpoint import EndpointChat
from m2r_train.stages.grading import VERDICT_TOKENS, Turn, question
from m2r_train.stages.replies import Question

_SEED_BITS = 31  # endpoints take a signed 32-bit seed
_WARMEST = 2.0  # what OpenAI's API takes; it refuses more

T = TypeVar("T")
R = TypeVar("R")


def chat(path: str, ref: EndpointRef) -> EndpointChat:
    """The client of the endpoint that ``spec.<path>`` sets, with its key from the environment.

    Raises:
        ConfigError: the spec names a Secret and the environment has no key.
    """
    key = os.environ.get(key_variable(path))
    if ref.secret_ref is not None and not key:
        raise ConfigError(
            f"spec.{path}.secretRef: no key; put it under {API_KEY} in the Secret "
            f"{ref.secret_ref.name}, or without a cluster set {key_variable(path)}"
        )
    return EndpointChat(
        url=ref.url,
        model=ref.model,
        key=key or None,
        timeout=float(ref.timeout_seconds),
        backoff=Backoff(retries=ref.retries),
        where=path,
    )


class EndpointTeacher:
    """Implements ``Teacher``: one request a chain, each with a seed of its own."""

    def __init__(self, seed: int, generator: Generator, ref: EndpointRef) -> None:
        """Raises ConfigError without the key that the spec names."""
        self._seed, self._generator, self._ref = seed, generator, ref
        self._chat = chat("generator.endpoint", ref)

    def write(self, samples: Sequence[Sample]) -> list[list[str]]:
        """See ``Teacher.write``. Raises as ``EndpointChat.answer``."""
        n = self._generator.chains_per_question
        turns = ((s, g) for s in samples for g in range(n))
        texts = _all(lambda turn: self._ask(*turn), turns, self._ref.concurrency)
        return [texts[i : i + n] for i in range(0, len(texts), n)]

    def _ask(self, sample: Sample, which: int) -> str:
        request = {
            "messages": [
                {"role": "system", "content": teacher_prompt(self._generator)},
                {"role": "user", "content": user_turn(sample)},
            ],
            "temperature": self._generator.temperature,
            "max_tokens": self._generator.max_completion_tokens,
            "seed": _seed(self._seed, "teach", sample.id, which),
        }
        return self._chat.answer(request, self._seed, "teach", sample.id, which)


class EndpointGrader:
    """Implements ``Grader``: an endpoint whose output is bound to the verdict's schema."""

    def __init__(self, seed: int, ref: EndpointRef) -> None:
        """Raises ConfigError without the key that the spec names."""
        self._seed, self._ref = seed, ref
        self._chat = chat("quality.judge.endpoint", ref)

    def __call__(self, turns: Sequence[Turn]) -> list[str]:
        """See ``Grader``. Raises as ``EndpointChat.answer``."""
        return _all(self._ask, turns, self._ref.concurrency)

    def _ask(self, turn: Turn) -> str:
        shown = pictures(turn.sample) if turn.sample is not None else []
        request = {
            "messages": [
                {"role": "user", "content": [*shown, {"type": "text", "text": turn.text}]}
            ],
            "temperature": min(turn.temperature, _WARMEST),
            "max_tokens": VERDICT_TOKENS,
            "seed": _seed(self._seed, *turn.path),
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "verdict", "strict": True, "schema": judging.SCHEMA},
            },
        }
        return self._chat.answer(request, self._seed, *turn.path)


class EndpointClient:
    """Implements ``Client``: requests to an endpoint, some at a time."""

    def __init__(self, path: str, ref: EndpointRef, seed: int) -> None:
        """Raises ConfigError without the key that the spec names."""
        self._ref, self._seed = ref, seed
        self._chat = chat(path, ref)

    def answer(self, requests: Sequence[Question], keep: Callable[[int, str], None]) -> None:
        """See ``Client.answer``. Raises as ``EndpointChat.answer``, once all under way is done."""
        pool = ThreadPoolExecutor(self._ref.concurrency)
        asked = [
            pool.submit(lambda i, r: keep(i, self._ask(r)), i, r) for i, r in enumerate(requests)
        ]
        try:
            for future in as_completed(asked):
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _ask(self, asked: Question) -> str:
        request = {
            "messages": [{"role": "user", "content": asked.prompt}],
            "temperature": min(asked.temperature, _WARMEST),
            "max_tokens": asked.max_tokens,
            "seed": _seed(self._seed, *asked.path),
        }
        return self._chat.answer(request, self._seed, *asked.path)


def teacher_prompt(generator: Generator) -> str:
    """The system prompt of a teacher."""
    return generator.prompt or SYSTEM_PROMPT


def user_turn(sample: Sample) -> list[dict[str, Any]]:
    """The user's turn as training has it: pictures as data URLs, then the question's text."""
    return [*pictures(sample), {"type": "text", "text": question(sample)}]


def pictures(sample: Sample) -> list[dict[str, Any]]:
    """Pictures, or a video's frames in order, as the chat API takes them."""
    return [
        {"type": "image_url", "image_url": {"url": _data_url(data)}}
        for data in (*sample.images, *(sample.video or ()))
    ]


def _data_url(data: bytes) -> str:
    kind = "png"
    if not data.startswith(b"\x89PNG"):
        kind = "jpeg" if data.startswith(b"\xff\xd8") else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _seed(*path: int | str) -> int:
    return derive_seed(int(path[0]), *path[1:]) >> (64 - _SEED_BITS)


def _all(ask: Callable[[T], R], items: Iterable[T], at_a_time: int) -> list[R]:
    """``ask`` of every item in order, so many at a time; the first error ends what is waiting."""
    pool = ThreadPoolExecutor(at_a_time)
    try:
        return [future.result() for future in [pool.submit(ask, item) for item in items]]
    finally:
        pool.shutdown(cancel_futures=True)
