"""Chains by a model teacher: written, verified, judged, the best one kept (paper section 2.1.1).

A part of questions is one entry of the journal. What becomes of each chain is counted, so that
``written`` is the sum of the chain outcomes, and ``asked`` that of the question outcomes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any, Protocol

from m2r_train.api.datasynthesis import DataSynthesisSpec, Quality
from m2r_train.core import quality as rules
from m2r_train.core.records import Quality as Scores
from m2r_train.core.records import Sample
from m2r_train.core.repetition import has_repetition
from m2r_train.core.rng import derive_seed
from m2r_train.rollout.base import SamplingParams
from m2r_train.stages.context import Context
from m2r_train.stages.endpoints import EndpointJudge, EndpointTeacher, judge_prompt, teacher_prompt
from m2r_train.stages.feeding import lay_out, request
from m2r_train.stages.making import chain_fault
from m2r_train.stages.rollouts import rollout_engine
from m2r_train.stages.sharing import parts

_AT_A_TIME = 64  # questions that a model in this process is asked together


class Teacher(Protocol):
    """Writes chains."""

    def write(self, samples: Sequence[Sample]) -> list[list[str]]:
        """Chains for each question, [samples][chains]; empty where the teacher gave no text."""
        ...


Judge = Callable[[int, Sequence[tuple[Sample, str]]], list[Scores | None]]
"""Scores of chains, given the part's number; None where no verdict could be had."""


class ModelTeacher:
    """A Hugging Face Qwen2.5-VL folder, by vLLM or the in-process sampler."""

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


def taught(
    ctx: Context, spec: DataSynthesisSpec, samples: Sequence[Sample], first: int, total: int
) -> tuple[list[Sample], dict[str, dict[str, int]]]:
    """The samples in order, those that may feed SFT with the teacher's best chain or without one.

    ``first`` is the number of the first part, of the run's ``total``. Also what became of
    questions and of chains.
    """
    feeding = {s.name for s in spec.sources if "sft" in s.splits}
    asked = [i for i, s in enumerate(samples) if s.source in feeding]
    edges = [len(asked) * k // spec.shards for k in range(spec.shards + 1)]
    chunks = [[samples[i] for i in asked[a:b]] for a, b in pairwise(edges)]
    school = _School(ctx, spec)

    def make(numbers: Sequence[int]) -> Iterator[bytes]:
        for k in numbers:
            with ctx.phase("generate"):
                entry = school.part(k, chunks[k])
            yield json.dumps(entry, sort_keys=True).encode()

    entries: dict[int, dict[str, Any]] = {}
    for k, data in parts(ctx, [f"s{first + k}/chains" for k in range(len(chunks))], make):
        entries[k] = json.loads(data)
        kept = sum(e["chains"].get("kept", 0) for e in entries.values())
        ctx.show_step(first + len(entries), total, chains=kept)
    best = [one for k in sorted(entries) for one in entries[k]["best"]]
    out = list(samples)
    for i, one in zip(asked, best, strict=True):
        scores = None if one is None else Scores(**one["quality"])
        out[i] = out[i].with_(chain=None if one is None else one["chain"], quality=scores)
    return out, {
        what: dict(sorted(sum((Counter(e[what]) for e in entries.values()), Counter()).items()))
        for what in ("questions", "chains")
    }


class _School:
    """The teacher and the judge of a spec, made when the first part needs them."""

    def __init__(self, ctx: Context, spec: DataSynthesisSpec) -> None:
        self._ctx, self._spec = ctx, spec
        self._staff: tuple[Teacher, Judge] | None = None

    def part(self, number: int, samples: Sequence[Sample]) -> dict[str, Any]:
        """The best chain of each question with its scores, and the counts."""
        if not samples:
            return {"best": [], "questions": {}, "chains": {}}
        if self._staff is None:
            self._staff = _teacher(self._ctx, self._spec), _judge(self._ctx, self._spec)
        teacher, judge = self._staff
        written = teacher.write(samples)
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
    return ModelTeacher(ctx, spec)


def _judge(ctx: Context, spec: DataSynthesisSpec) -> Judge:
    asked = spec.quality.judge
    if asked is None:
        return lambda _part, pairs: [graded(sample, chain) for sample, chain in pairs]
    assert asked.endpoint is not None, "stages.support refuses the others"
    return EndpointJudge(ctx.seed, asked, asked.endpoint)


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
    if spec.generator.endpoint is not None:
        found["teacher"] = teacher_prompt(spec.generator)
    if spec.quality.judge is not None and spec.quality.judge.endpoint is not None:
        found["judge"] = judge_prompt(spec.quality.judge)
    return found
