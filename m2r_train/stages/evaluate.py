"""Evaluation: completions of every question, scored by rule, with standard errors.

Each question is answered several times at the given temperature and once greedily. The headline
``overall`` is the mean over tasks of the mean over samples (percent); its standard error takes
questions, not samples, as the unit. Chunks of questions are kept in the journal, so that a killed
evaluation goes on where it was. A judge model, where the spec names one, reads the answers of three
of the benchmarks after all are there (``stages.judging``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any, TypeVar, cast

from m2r_train.api.errors import naming
from m2r_train.api.evaljob import EvalSpec
from m2r_train.benchmarks.kept import HEADLINE, all_figures
from m2r_train.core.contract import extract_answer, format_valid
from m2r_train.core.estimates import Figure
from m2r_train.core.records import Sample
from m2r_train.core.rng import derive_seed
from m2r_train.core.stats import sample_accuracy
from m2r_train.model.policy import Policy, Request
from m2r_train.model.prompts import SYSTEM_PROMPT
from m2r_train.rollout.base import Completion, RolloutEngine, SamplingParams
from m2r_train.stages.asking import Questions, questions
from m2r_train.stages.context import Context
from m2r_train.stages.feeding import lay_out, request
from m2r_train.stages.judging import Chunk, asks_a_judge, judged, told
from m2r_train.stages.replies import is_part
from m2r_train.stages.rollouts import rollout_engine
from m2r_train.stages.sharing import parts
from m2r_train.telemetry.metrics import closed
from m2r_train.telemetry.tables import results_markdown

T = TypeVar("T")
Row = dict[str, Any]
Score = dict[str, float | int | None]  # value and stderr in percent, n
Work = list[tuple[str, int, Sequence[Sample]]]  # chunks of questions: benchmark, first, samples

SYNTHETIC = "synthetic"  # the benchmark whose questions are a dataset of ours, or of the user's own
_ABSENT: Score = {"value": None}


def run(ctx: Context) -> dict[str, Any]:
    """Evaluate ``spec.model``; publishes ``eval/results.json`` and ``eval/samples/``."""
    spec = cast("EvalSpec", ctx.run_spec.parsed_spec)
    asked: dict[str, tuple[Sequence[Sample], Questions | None]] = {
        b.name: _questions(ctx, spec, n) for n, b in enumerate(spec.benchmarks)
    }
    work: Work = [
        (name, start, samples[start : start + spec.generation.batch_size])
        for name, (samples, _) in asked.items()
        for start in range(0, len(samples), spec.generation.batch_size)
    ]
    tried = [n for n, (name, _, _) in enumerate(work) if asks_a_judge(spec.judge, name)]
    total = len(work) + len(tried)
    ctx.restore_parts(is_part)
    with ctx.running(total):
        answers = _answered(ctx, spec, asked, work, total)
        if spec.judge is not None:
            chunks = [_chunk(asked, work[n], answers[n]) for n in tried]
            found = judged(ctx, spec.judge, chunks, len(work), total)
            answers |= {tried[n]: rows for n, rows in found.items()}
        if ctx.place.helps:
            return {"step": ctx.done or 0, "steps": total}
        rows: dict[str, list[Row]] = {benchmark.name: [] for benchmark in spec.benchmarks}
        for chunk, (benchmark, _, _) in enumerate(work):
            rows[benchmark] += answers[chunk]
        published = {name: own for name, (_, own) in asked.items() if own is not None}
        results = _results(published, rows)
        results["protocols"] = _protocols(ctx, spec, published, rows)
        digest = ctx.publish("eval", _files(results, _with_facts(published, rows)))
    scores = results["benchmarks"]
    _show(ctx, scores)
    return {
        "step": total,
        "steps": total,
        "resultsUri": f"{ctx.run.store.uri}/eval",
        "digest": digest,
        "scores": scores,
        "gates": gates_passed(spec, scores),
    }


def _answered(
    ctx: Context,
    spec: EvalSpec,
    asked: Mapping[str, tuple[Sequence[Sample], Questions | None]],
    work: Work,
    total: int,
) -> dict[int, list[Row]]:
    """The rows of each chunk of ``work`` by its number, scored by rule; a helper's share alone,
    unless a judge comes after. The model is gone when this returns.
    """
    policy = ctx.policy("model", spec.model)
    policy.freeze_vision()
    engine = rollout_engine(spec.generation.engine, policy)
    seen: dict[str, list[Row]] = {benchmark.name: [] for benchmark in spec.benchmarks}
    answers: dict[int, list[Row]] = {}

    def make(numbers: Sequence[int]) -> Generator[bytes, None, None]:
        for chunk in numbers:
            with ctx.phase("generate"):
                name, start, samples = work[chunk]
                judge = partial(_score, asked[name][1], start)
                own = asked[name][1]
                system = None if own is not None and own.published_form else SYSTEM_PROMPT
                made = _answer(ctx, policy, engine, spec, samples, judge, system)
            yield b"".join(json.dumps(a, sort_keys=True).encode() + b"\n" for a in made)

    keys = [f"s{chunk}/answers" for chunk in range(len(work))]
    for chunk, entry in parts(ctx, keys, make, all_of_them=total > len(work)):
        answers[chunk] = [json.loads(line) for line in entry.splitlines()]
        own = seen[work[chunk][0]]
        own += answers[chunk]
        ctx.show_step(len(answers), total, score=_overall(own, "sampled"))
    return answers


def _chunk(
    asked: Mapping[str, tuple[Sequence[Sample], Questions | None]],
    work: tuple[str, int, Sequence[Sample]],
    rows: Sequence[Row],
) -> Chunk:
    name, start, _ = work
    own = asked[name][1]
    assert own is not None, "a published benchmark has rules"
    return Chunk(own, start, rows)


def gates_passed(spec: EvalSpec, scores: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether every gate's benchmark reaches its minimum (percent, headline; undefined is 0)."""
    reached = {g.benchmark: scores[g.benchmark][HEADLINE]["value"] for g in spec.gates}
    return all((reached[g.benchmark] or 0.0) >= g.min for g in spec.gates)


def _show(ctx: Context, scores: Mapping[str, Mapping[str, Score]]) -> None:
    """The sampled scores as a gauge, 0..1."""
    shown = shown_subtasks(scores)
    ctx.close_labels(benchmark=list(scores), subtask=shown)
    for benchmark, own in scores.items():
        for subtask in shown if benchmark == SYNTHETIC else [HEADLINE]:
            if (value := own.get(subtask, _ABSENT)["value"]) is not None:
                ctx.metrics.set("m2r_eval_score", value / 100, benchmark=benchmark, subtask=subtask)


def shown_subtasks(scores: Mapping[str, Mapping[str, Score]]) -> list[str]:
    """The headline, and the tasks of a benchmark of our own as far as a label may have values.

    A published benchmark has up to a hundred figures: those are in ``results.json`` only. Names
    that would share one label are left out, as a gauge that several set says nothing of any.
    """
    tasks = sorted(task for task in scores.get(SYNTHETIC, {}) if "/" not in task)
    return [name for name, label in closed([HEADLINE, *tasks]).items() if name == label]


def _questions(
    ctx: Context, spec: EvalSpec, number: int
) -> tuple[Sequence[Sample], Questions | None]:
    """The samples of a benchmark, and its own rules unless it is our synthetic one."""
    benchmark, path = spec.benchmarks[number], f"benchmarks[{number}].data"
    own: Questions | None = None
    if benchmark.name == SYNTHETIC:
        samples: Sequence[Sample] = ctx.samples(path, benchmark.data, "eval")
    else:
        folder = ctx.folder(path)
        with naming(f"spec.{path}"):
            own = questions(benchmark, folder)
        samples = own.samples
    return samples, own


def _results(
    published: Mapping[str, Questions], rows: Mapping[str, Sequence[Row]]
) -> dict[str, Any]:
    """``eval/results.json``, but for the protocols."""
    figures = {
        name: published[name].figures(own) if name in published else all_figures(name, own)
        for name, own in rows.items()
    }
    return {
        "benchmarks": {name: _each(own, Figure.percent) for name, own in figures.items()},
        "intervals": {name: _each(own, Figure.percent_interval) for name, own in figures.items()},
        "questions": sum(map(len, rows.values())),
    }


def _protocols(
    ctx: Context,
    spec: EvalSpec,
    published: Mapping[str, Questions],
    rows: Mapping[str, Sequence[Row]],
) -> dict[str, dict[str, Any]]:
    """By what rule, judge and data the figures of each published benchmark were made."""
    found: dict[str, dict[str, Any]] = {}
    for n, benchmark in enumerate(spec.benchmarks):
        name = benchmark.name
        if name in published:
            own = published[name].protocol()
            if spec.judge is not None and asks_a_judge(spec.judge, name):
                own |= told(ctx, spec.judge, name, rows[name])
            found[name] = own | {"data": ctx.run_spec.inputs[f"benchmarks[{n}].data"].model_dump()}
    return found


def _each(figures: Mapping[str, Figure], told: Callable[[Figure], T]) -> dict[str, T]:
    return {name: told(figure) for name, figure in figures.items()}


def _with_facts(
    published: Mapping[str, Questions], rows: Mapping[str, Sequence[Row]]
) -> dict[str, Sequence[Row]]:
    """To each row of a published benchmark what its figures read of the record."""
    return {
        name: [row | {"record": published[name].facts(n)} for n, row in enumerate(own)]
        if name in published
        else own
        for name, own in rows.items()
    }


def _score(own: Questions | None, start: int, number: int, sample: Sample, text: str) -> float:
    """The score, 0..1, of an answer to a chunk's question ``number``."""
    return sample_accuracy(sample, text) if own is None else own.score(start + number, text)


def _answer(
    ctx: Context,
    policy: Policy,
    engine: RolloutEngine[Request],
    spec: EvalSpec,
    samples: Sequence[Sample],
    judge: Callable[[int, Sample, str], float],
    system: str | None,
) -> list[Row]:
    generation = spec.generation
    prompts = lay_out(policy, samples, system)
    requests = [request(p, s) for p, s in zip(prompts, samples, strict=True)]
    policy.show([image for r in requests for image in r.images])
    seeds = [derive_seed(ctx.seed, "eval", s.id) for s in samples]
    limit = generation.max_completion_tokens
    sampled = engine.generate(
        requests,
        seeds,
        SamplingParams(generation.samples_per_question, generation.temperature, limit),
    )
    greedy: list[list[Completion]] = [[] for _ in samples]
    if generation.greedy:
        greedy = engine.generate(requests, seeds, SamplingParams(1, 0.0, limit))
    return [
        {
            "id": s.id,
            "task": s.task,
            "question": s.question,
            "answer": s.answer,
            "sampled": [_judged(t, judge(i, s, t)) for t in map(policy.decode, _tokens(many))],
            "greedy": [_judged(t, judge(i, s, t)) for t in map(policy.decode, _tokens(one))],
        }
        for i, (s, many, one) in enumerate(zip(samples, sampled, greedy, strict=True))
    ]


def _tokens(completions: Sequence[Completion]) -> list[tuple[int, ...]]:
    return [c.tokens for c in completions]


def _judged(text: str, score: float) -> Row:
    return {
        "text": text,
        "extracted": extract_answer(text),
        "score": score,
        "format": float(format_valid(text)),
    }


def _overall(rows: Sequence[Row], mode: str) -> float:
    """Percent right so far, over the answers seen."""
    return 100.0 * fmean(a["score"] for row in rows for a in row[mode])


def _files(results: Mapping[str, Any], rows: Mapping[str, Sequence[Row]]) -> dict[str, bytes]:
    files = {
        "results.json": (json.dumps(results, indent=1, sort_keys=True) + "\n").encode(),
        "results.md": results_markdown(results).encode(),
    }
    for benchmark, own in rows.items():
        files[f"samples/{benchmark}.jsonl"] = b"".join(
            json.dumps(row, sort_keys=True).encode() + b"\n" for row in own
        )
    return files
