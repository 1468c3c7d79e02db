"""Chains by a model teacher: written, verified, judged, the best one kept (paper section 2.1.1).

A part of questions is one entry of the journal. What becomes of each chain is counted, so that
``written`` is the sum of the chain outcomes, and ``asked`` that of the question outcomes.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any, Protocol

from m2r_train.api.chains import Quality
from m2r_train.api.datasynthesis import DataSynthesisSpec
from m2r_train.core import quality as rules
from m2r_train.core.records import Quality as Scores
from m2r_train.core.records import Sample
from m2r_train.core.repetition import has_repetition
from m2r_train.stages import tallying
from m2r_train.stages.context import Context
from m2r_train.stages.endpoints import EndpointGrader, EndpointTeacher, teacher_prompt
from m2r_train.stages.gathering import Gathered
from m2r_train.stages.grading import ChainJudge, judge_prompt
from m2r_train.stages.making import chain_fault, judged_after
from m2r_train.stages.sharing import parts

_PART_QUESTIONS = 512  # of a part at most: they are in memory together
_JUDGED = ("unjudged", "quality", "not-best", "kept")  # outcomes of chains that came to the judge


class Teacher(Protocol):
    """Writes chains."""

    def write(self, samples: Sequence[Sample]) -> list[list[str]]:
        """Chains for each question, [samples][chains]; empty where the teacher gave no text."""
        ...


Judge = Callable[[int, Sequence[tuple[Sample, str]]], list[Scores | None]]
"""Scores of chains, given the part's number; None where no verdict could be had."""


def lesson_count(spec: DataSynthesisSpec, questions: int = 0) -> int:
    """Parts in which so many questions are taught, and again as many where a model in the run's
    pods judges after all is written.
    """
    return _part_count(spec, questions) * (2 if judged_after(spec) else 1)


def _part_count(spec: DataSynthesisSpec, questions: int) -> int:
    """One a shard, or more where questions are many."""
    return max(spec.shards, -(-questions // _PART_QUESTIONS)) if spec.generator.teaches else 0


def pupils(spec: DataSynthesisSpec, samples: Gathered, usable: Sequence[int]) -> array[int]:
    """The numbers of those samples that may feed SFT: only for them chains are written."""
    feeding = {s.name for s in spec.sources if "sft" in s.splits}
    return array("q", (n for n in usable if samples.roster.sources[n] in feeding))


def taught(
    ctx: Context,
    spec: DataSynthesisSpec,
    asked: Sequence[int],
    samples: Gathered,
    first: int,
    total: int,
) -> dict[str, dict[str, int]]:
    """Gives the samples with these numbers the teacher's best chain, or none.

    ``first`` is the number of the first part, of the run's ``total``. Returns what became of
    questions and of chains.
    """
    count = _part_count(spec, len(asked))
    edges = [len(asked) * k // count for k in range(count + 1)]
    chunks = [asked[a:b] for a, b in pairwise(edges)]
    drafts = None
    if judged_after(spec):
        drafts = [f"s{first + k}/written" for k in range(count)]
        _write(ctx, spec, samples, chunks, drafts, first, total)
        first += count
    school = _School(ctx, spec, drafts)

    def make(numbers: Sequence[int]) -> Generator[bytes, None, None]:
        for k in numbers:
            with ctx.phase("generate"):
                entry = school.part(k, list(samples.those(chunks[k])))
            yield json.dumps(entry, sort_keys=True).encode()

    counts = {"questions": Counter[str](), "chains": Counter[str]()}
    for done, (k, data) in enumerate(
        parts(ctx, [f"s{first + k}/chains" for k in range(count)], make), start=1
    ):
        entry = json.loads(data)
        for what, counted in counts.items():
            counted.update(entry[what])
        _tell(ctx, entry["chains"])
        for number, one in zip(chunks[k], entry["best"], strict=True):
            chain = None if one is None else one["chain"]
            scores = None if one is None else Scores(**one["quality"])
            samples.teach(number, samples[number].with_(chain=chain, quality=scores))
        ctx.show_step(first + done, total, chains=counts["chains"]["kept"])
    return {what: {k: n for k, n in sorted(own.items()) if n} for what, own in counts.items()}


def _tell(ctx: Context, chains: Mapping[str, int]) -> None:
    """What became of a part's chains."""
    judged = sum(chains.get(outcome, 0) for outcome in _JUDGED)
    tallying.count(ctx, "generate", chains.get("written", 0), judged)
    tallying.count(ctx, "quality", judged, chains.get("kept", 0))


def _write(
    ctx: Context,
    spec: DataSynthesisSpec,
    samples: Gathered,
    chunks: Sequence[Sequence[int]],
    keys: Sequence[str],
    first: int,
    total: int,
) -> None:
    """All chains, unjudged, in the journal under ``keys``. The teacher is gone when this returns:
    a device has room for one engine at a time.
    """
    teacher: Teacher | None = None

    def make(numbers: Sequence[int]) -> Generator[bytes, None, None]:
        nonlocal teacher
        for k in numbers:
            teacher = teacher or _teacher(ctx, spec)
            with ctx.phase("generate"):
                written = teacher.write(list(samples.those(chunks[k])))
            yield json.dumps(written).encode()

    for done, _ in enumerate(parts(ctx, keys, make), start=1):
        ctx.show_step(first + done, total)


class _School:
    """The teacher and the judge of a spec, made when the first part needs them.

    ``drafts`` are journal keys of the parts' chains, where those were written before.
    """

    def __init__(
        self, ctx: Context, spec: DataSynthesisSpec, drafts: Sequence[str] | None = None
    ) -> None:
        self._ctx, self._spec, self._drafts = ctx, spec, drafts
        self._teacher: Teacher | None = None
        self._judge: Judge | None = None

    def part(self, number: int, samples: Sequence[Sample]) -> dict[str, Any]:
        """The best chain of each question with its scores, and the counts."""
        if not samples:
            return {"best": [], "questions": {}, "chains": {}}
        if self._teacher is None and self._drafts is None:
            self._teacher = _teacher(self._ctx, self._spec)
        self._judge = judge = self._judge or _judge(self._ctx, self._spec)
        written = self._written(number, samples)
        chains: Counter[str] = Counter(written=sum(map(len, written)))
        sound: list[list[str]] = []
        for sample, own in zip(samples, written, strict=True):
            faults = [_fault(sample, chain) for chain in own]
            chains.update(fault for fault in faults if fault is not None)
            sound.append([c for c, f in zip(own, faults, strict=True) if f is None])
        pairs = [(s, c) for s, own in zip(samples, sound, strict=True) for c in own]
        scores = iter(judge(number, pairs))
        best = [
            best_of([(c, next(scores)) for c in own], self._spec.quality, chains) for own in sound
        ]
        kept = sum(one is not None for one in best)
        questions = {"asked": len(best), "taught": kept, "untaught": len(best) - kept}
        return {"best": best, "questions": questions, "chains": dict(chains)}

    def _written(self, number: int, samples: Sequence[Sample]) -> list[list[str]]:
        if self._teacher is not None:
            return self._teacher.write(samples)
        assert self._drafts is not None
        entry = self._ctx.run.journal_get(self._drafts[number])
        if entry is None:
            raise RuntimeError(f"journal entry {self._drafts[number]} is gone; start the run again")
        written: list[list[str]] = json.loads(entry)
        return written


def best_of(
    scored: Sequence[tuple[str, Scores | None]], bar: Quality, counts: Counter[str]
) -> dict[str, Any] | None:
    """The chain with the highest mean over the bar, the first of equals; None if there is none.

    Counts each chain as ``kept``, ``not-best``, ``quality`` (below the bar) or ``unjudged``.
    """
    counts["unjudged"] += sum(scores is None for _, scores in scored)
    good: list[tuple[str, Scores]] = []
    for chain, scores in scored:
        if scores is None:
            continue
        if bar.filter == "Off" or rules.passes(scores, bar.min_each, bar.min_mean):
            good.append((chain, scores))
        else:
            counts["quality"] += 1
    if not good:
        return None
    counts["kept"] += 1
    counts["not-best"] += len(good) - 1
    chain, scores = max(good, key=lambda pair: sum(asdict(pair[1]).values()))
    return {"chain": chain, "quality": asdict(scores)}


def _fault(sample: Sample, chain: str) -> str | None:
    """Why a chain is not worth a judge's time; None if it is."""
    if not chain.strip():
        return "no-text"
    if (fault := chain_fault(sample.with_(chain=chain))) is not None:
        return fault
    return "repetition" if has_repetition(chain) else None


def _teacher(ctx: Context, spec: DataSynthesisSpec) -> Teacher:
    if spec.generator.endpoint is not None:
        return EndpointTeacher(ctx.seed, spec.generator, spec.generator.endpoint)
    from m2r_train.stages.modelteacher import ModelTeacher  # noqa: PLC0415 - torch, for this alone

    return ModelTeacher(ctx, spec)


def _judge(ctx: Context, spec: DataSynthesisSpec) -> Judge:
    asked = spec.quality.judge
    if asked is None:
        return lambda _part, pairs: [graded(sample, chain) for sample, chain in pairs]
    if asked.endpoint is not None:
        return ChainJudge(ctx.seed, asked, EndpointGrader(ctx.seed, asked.endpoint))
    assert asked.model is not None, "exactly one of them is set"
    from m2r_train.stages.modelclient import ModelGrader  # noqa: PLC0415 - torch, for this alone

    grader = ModelGrader(ctx, "quality.judge.model", asked.model, asked.engine)
    return ChainJudge(ctx.seed, asked, grader)


def graded(sample: Sample, chain: str) -> Scores:
    """The built-in rules' scores."""
    return rules.grade(
        chain,
        question=sample.question,
        answer=sample.answer,
        answer_type=sample.answer_type,
        options=sample.options or (),
    ).quality


def prompts(spec: DataSynthesisSpec) -> Mapping[str, str]:
    """The prompts in use, in full, for the manifest."""
    found = {}
    if spec.generator.teaches:
        found["teacher"] = teacher_prompt(spec.generator)
    if spec.quality.judge is not None:
        found["judge"] = judge_prompt(spec.quality.judge)
    return found
