"""Answers judged by a model: after all are there, where a published protocol asks for one.

A part of the run's answers is one entry of the journal, and so is each reply on the way to it. What
the judge was asked and what it said stands beside each answer; what the rules said of it, too.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Literal

from m2r_train.api.evaljob import JUDGED, AnswerJudge
from m2r_train.benchmarks.base import Judged
from m2r_train.benchmarks.inquiries import PROMPTS, Ask, Inquiry, Unreadable, inquiry
from m2r_train.stages.asking import Questions
from m2r_train.stages.context import Context
from m2r_train.stages.endpoints import EndpointClient
from m2r_train.stages.replies import Client, Question, Replies
from m2r_train.stages.sharing import parts

Row = dict[str, Any]
By = Literal["rules", "judge", "fallback", "unread"]

MODES = ("sampled", "greedy")


class Chunk:
    """Answered questions of one benchmark, from its record ``start`` on."""

    def __init__(self, questions: Questions, start: int, rows: Sequence[Row]) -> None:
        self.questions, self.start, self.rows = questions, start, rows


def asks_a_judge(judge: AnswerJudge | None, benchmark: str) -> bool:
    """Whether answers to a benchmark are judged by a model in this run."""
    return judge is not None and benchmark in JUDGED


def judged(
    ctx: Context, judge: AnswerJudge, chunks: Sequence[Chunk], first: int, total: int
) -> dict[int, list[Row]]:
    """The chunks' rows with the judge's verdicts, by the chunk's number, as far as they are ours.

    ``first`` is the number of the first chunk's part, of the run's ``total``.
    """
    client: Client | None = None

    def make(numbers: Sequence[int]) -> Generator[bytes, None, None]:
        nonlocal client
        for n in numbers:
            client = client or client_of(ctx, judge)
            with ctx.phase("reward"):
                rows = _verdicts(chunks[n], judge, Replies(ctx, first + n, client))
            yield b"".join(json.dumps(row, sort_keys=True).encode() + b"\n" for row in rows)

    found: dict[int, list[Row]] = {}
    keys = [f"s{first + n}/judged" for n in range(len(chunks))]
    for n, entry in parts(ctx, keys, make, all_of_them=False):
        found[n] = [json.loads(line) for line in entry.splitlines()]
        ctx.show_step(first + len(found), total)
    return found


def client_of(ctx: Context, judge: AnswerJudge) -> Client:
    """Whoever the spec names. Raises ConfigError without its key or its model."""
    if judge.endpoint is not None:
        return EndpointClient("judge.endpoint", judge.endpoint, ctx.seed)
    assert judge.model is not None, "exactly one of them is set"
    from m2r_train.stages.modelclient import ModelClient  # noqa: PLC0415 - torch

    return ModelClient(ctx, "judge.model", judge.model, judge.engine)


def told(ctx: Context, judge: AnswerJudge, benchmark: str, rows: Sequence[Row]) -> dict[str, Any]:
    """What the results say of a benchmark's judge: who, by which prompts, and with what success."""
    by = Counter(a["judged"]["by"] for row in rows for mode in MODES for a in row[mode])
    if judge.endpoint is not None:
        name, where = judge.endpoint.model, judge.endpoint.url
    else:
        assert judge.model is not None
        given = ctx.run_spec.inputs.get("judge.model")
        name, where = "a model", given.uri if given else f"preset {judge.model.preset}"
    return {
        "judge": f"{name} ({where})",
        "answer": "tagged; the whole text where there is no tag",
        "judging": {
            "prompts": dict(PROMPTS[benchmark]),
            "wording": "ours, after the published protocol",
            "retries": judge.retries,
            "maxCompletionTokens": judge.max_completion_tokens,
            "fallback": judge.fallback,
            "answers": dict(sorted(by.items())),
        },
    }


def _verdicts(chunk: Chunk, judge: AnswerJudge, replies: Replies) -> list[Row]:
    """The chunk's rows, each answer with its verdict: all that can be asked at once is."""
    rows = [dict(row) | {mode: list(row[mode]) for mode in MODES} for row in chunk.rows]
    places = [
        (i, mode, k) for i, row in enumerate(rows) for mode in MODES for k in range(len(row[mode]))
    ]
    cases = [
        _Case(_inquiry(chunk, i, rows[i][mode][k]["text"], judge.retries)) for i, mode, k in places
    ]
    while open_cases := [(case, case.ask) for case in cases if case.ask is not None]:
        asked = [
            Question(ask.prompt, ask.temperature, judge.max_completion_tokens)
            for _, ask in open_cases
        ]
        for (case, _), reply in zip(open_cases, replies.to(asked), strict=True):
            case.hear(reply)
    for (i, mode, k), case in zip(places, cases, strict=True):
        rows[i][mode][k] = case.told(rows[i][mode][k], judge.fallback == "Rules")
    return rows


def _inquiry(chunk: Chunk, number: int, text: str, retries: int) -> Inquiry:
    asked = chunk.questions.asked
    record = chunk.questions.records[chunk.start + number]
    return inquiry(asked.name, asked.rule, record, text, retries)


class _Case:
    """One answer before the judge: what is to be asked next, and what was said so far."""

    def __init__(self, steps: Inquiry) -> None:
        self._steps = steps
        self._exchange: list[dict[str, Any]] = []
        self._verdict: Judged | None = None
        self.ask: Ask | None = None
        self._go(None)

    def hear(self, reply: str) -> None:
        assert self.ask is not None
        said = {"step": self.ask.step, "asked": self.ask.prompt, "said": reply}
        self._exchange.append(said | {"temperature": self.ask.temperature})
        self._go(reply)

    def _go(self, reply: str | None) -> None:
        self.ask = None
        try:
            self.ask = next(self._steps) if reply is None else self._steps.send(reply)
        except StopIteration as end:
            self._verdict = end.value
        except Unreadable:
            pass

    def told(self, answer: Mapping[str, Any], by_rules: bool) -> Row:
        """The answer with the verdict; the rules' score goes beside it."""
        by: By = "judge" if self._exchange else "rules"
        verdict = self._verdict
        if verdict is None:
            by = "fallback" if by_rules else "unread"
            verdict = Judged(None, answer["score"] if by_rules else 0.0)
        said = {"by": by, "extracted": verdict.extracted, "exchange": self._exchange}
        scores = {"score": verdict.score, "rules_score": answer["score"]}
        return {**answer, **scores, "judged": said}
