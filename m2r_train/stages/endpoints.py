"""A teacher and a judge behind an endpoint: what they are asked, and many requests at a time."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from m2r_train.api.common import API_KEY, EndpointRef, key_variable
from m2r_train.api.datasynthesis import Generator, Judge
from m2r_train.api.errors import ConfigError
from m2r_train.core import judging
from m2r_train.core.backoff import Backoff
from m2r_train.core.quality import NOTHING, grade
from m2r_train.core.records import Quality, Sample
from m2r_train.core.rng import derive_seed
from m2r_train.model.prompts import SYSTEM_PROMPT, messages
from m2r_train.rollout.endpoint import EndpointChat

_SEED_BITS = 31  # endpoints take a signed 32-bit seed
_VERDICT_TOKENS = 1024

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


class EndpointJudge:
    """Implements ``Judge``: output bound to a schema, canaries mixed in, asked again on rubbish.

    What the rules see to be no chain, or to speak to its judge, gets 0 and is not sent.
    """

    def __init__(self, seed: int, asked: Judge, ref: EndpointRef) -> None:
        """Raises ConfigError without the key that the spec names."""
        self._seed, self._asked, self._ref = seed, asked, ref
        self._chat = chat("quality.judge.endpoint", ref)

    def __call__(self, part: int, pairs: Sequence[tuple[Sample, str]]) -> list[Quality | None]:
        """Scores in order.

        Raises:
            ConfigError: the judge missed too many of the part's canaries; else as the endpoint.
        """
        if not pairs:
            return []
        places = judging.canary_places(
            self._seed, part, len(pairs), self._asked.canary_every, len(judging.CANARIES)
        )
        before: dict[int, list[judging.Canary]] = {}
        for at, kind in places:
            before.setdefault(at, []).append(judging.CANARIES[kind])
        items: list[tuple[Sample, str] | judging.Canary] = []
        for i in range(len(pairs) + 1):
            items += before.get(i, [])
            items += pairs[i : i + 1]
        numbered = enumerate(items)
        verdicts = _all(lambda one: self._score(part, *one), numbered, self._ref.concurrency)
        told = list(zip(items, verdicts, strict=True))
        found = [judging.finds(x, q) for x, q in told if isinstance(x, judging.Canary)]
        if fault := judging.judge_fault(found, self._asked.canaries_missed):
            raise ConfigError(f"spec.quality.judge: {fault}")
        return [q for x, q in told if not isinstance(x, judging.Canary)]

    def _score(
        self, part: int, at: int, item: tuple[Sample, str] | judging.Canary
    ) -> Quality | None:
        if isinstance(item, judging.Canary):
            text = self._prompt(item.question, item.answer, item.chain)
            return self._verdict([{"type": "text", "text": text}], part, at)
        sample, chain = item
        by_rules = grade(
            chain,
            question=sample.question,
            answer=sample.answer,
            answer_type=sample.answer_type,
            options=sample.options or (),
        )
        if by_rules.quality == NOTHING:
            return NOTHING
        text = self._prompt(question(sample), sample.answer, chain)
        return self._verdict([*pictures(sample), {"type": "text", "text": text}], part, at)

    def _prompt(self, question: str, answer: str, chain: str) -> str:
        template = judge_prompt(self._asked)
        return judging.prompt(template, question=question, answer=answer, chain=chain)

    def _verdict(self, content: list[dict[str, Any]], part: int, at: int) -> Quality | None:
        answers: list[bool] = []
        verdict: judging.Verdict | None = None
        while (move := judging.next_move(answers, self._asked.retries)) == "ask":
            path = ("judge", part, at, len(answers))
            request = {
                "messages": [{"role": "user", "content": content}],
                "temperature": 0.0,
                "max_tokens": _VERDICT_TOKENS,
                "seed": _seed(self._seed, *path),
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "verdict", "strict": True, "schema": judging.SCHEMA},
                },
            }
            text = self._chat.answer(request, self._seed, *path)
            try:
                verdict = judging.parse_verdict(text)
            except judging.BadVerdict:
                verdict = None
            answers.append(verdict is not None)
        return verdict.quality if move == "take" and verdict is not None else None


def teacher_prompt(generator: Generator) -> str:
    """The system prompt of an endpoint's teacher."""
    return generator.prompt or SYSTEM_PROMPT


def judge_prompt(asked: Judge) -> str:
    """The template of what an endpoint's judge is asked."""
    return asked.prompt or judging.TEMPLATE


def user_turn(sample: Sample) -> list[dict[str, Any]]:
    """The user's turn as training has it: pictures as data URLs, then the question's text."""
    return [*pictures(sample), {"type": "text", "text": question(sample)}]


def question(sample: Sample) -> str:
    """The question with its lettered options."""
    text: str = messages(sample)[1]["content"][-1]["text"]
    return text


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
