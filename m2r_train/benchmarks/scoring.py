"""Scoring a whole set: every record judged, then the figures, unless parts of the set are missing.

A record that cannot be scored is neither right nor wrong: it has no score, and says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from m2r_train.benchmarks.base import (
    MAX_TEXT_CHARS,
    Benchmark,
    Judged,
    Record,
    RecordError,
    Row,
    Rule,
    Scorer,
)
from m2r_train.benchmarks.figures import prefixed
from m2r_train.core.contract import extract_answer
from m2r_train.core.estimates import Figure

AnswerForm = Literal["raw", "tagged"]

_COMMON_IDS = ("id", "idx", "pid", "sample_index", "index", "ID", "qid", "imagename")
_NAMES = ("key", "varid")  # what tells records apart that share an id


@dataclass(frozen=True, slots=True)
class Result:
    """``samples``: a line for each record, in order; ``errors``: of those without a score;
    ``missing``: the parts that the set lacks; ``figures`` and ``summary``: none unless they are
    whole or partial ones were asked for.
    """

    samples: list[dict[str, Any]]
    errors: list[tuple[int, str]]
    missing: list[str]
    figures: dict[str, Figure]
    summary: dict[str, Any] | None


def score_set(
    benchmark: Benchmark,
    records: Sequence[Record],
    *,
    rule: Rule,
    answer: AnswerForm,
    partial: bool = False,
    verdicts: Sequence[Judged] | None = None,
) -> Result:
    """Score records that carry their ``prediction``; ``rule`` is one of the benchmark's.

    ``verdicts`` are those of a judge model, in place of the rule's.
    """
    lax_rule = benchmark.lax.get(rule)
    samples: list[dict[str, Any]] = []
    rows: list[Row] = []
    lax_rows: list[Row] = []
    errors: list[tuple[int, str]] = []
    for number, record in enumerate(records):
        sample = named(benchmark, record, number)
        samples.append(sample)
        try:
            text = prediction_text(record, answer)
            judged = (
                _judge(benchmark, rule, record, text, answer)
                if verdicts is None
                else verdicts[number]
            )
            lax = _judge(benchmark, lax_rule, record, text, answer) if lax_rule else None
        except RecordError as error:
            sample |= {"extracted": None, "score": None, "error": str(error)}
            errors.append((number, str(error)))
            continue
        sample |= {"extracted": judged.extracted, "score": judged.score, "cut": text}
        sample["prediction"] = record["prediction"]
        rows.append(Row(record, judged.score, number))
        if lax:
            sample["lax"] = lax.score
            lax_rows.append(Row(record, lax.score, number))
    missing = benchmark.missing([row.record for row in rows]) if rows else ["every record"]
    if not rows or (not partial and (missing or errors)):
        return Result(samples, errors, missing, {}, None)
    figures = benchmark.figures(rows)
    if lax_rows:
        figures |= prefixed("lax", {"overall": benchmark.figures(lax_rows)["overall"]})
    summary = {
        "benchmark": benchmark.name,
        "rule": rule,
        "answer": answer,
        "judge": benchmark.judge.get(rule, "not needed"),
        "n": len(rows),
        "headline": benchmark.headline(figures),
        "scores": {name: figure.percent() for name, figure in figures.items()},
        "intervals": {name: figure.percent_interval() for name, figure in figures.items()},
        "missing": missing,
        "whole": len(rows) in benchmark.sizes,
        "unscored": len(errors),
    }
    return Result(samples, errors, missing, figures, summary)


def prediction_text(record: Record, answer: AnswerForm) -> str | None:
    """What the scorer reads: the prediction, or the answer cut out of it; None without one."""
    text = record.get("prediction")
    if not isinstance(text, str):
        raise RecordError("prediction: is missing or no text; give the model's raw text")
    if len(text) > MAX_TEXT_CHARS:
        return None
    return text if answer == "raw" else extract_answer(text)


def _judge(
    benchmark: Benchmark, rule: Rule, record: Record, text: str | None, answer: AnswerForm
) -> Judged:
    scorer: Scorer = benchmark.scorer(rule, cut=answer == "tagged")
    judged = scorer(record, text or "")  # reads the record's fields although there is no answer
    return Judged(None, 0.0) if text is None else judged


def named(benchmark: Benchmark, record: Record, number: int) -> dict[str, Any]:
    """A record's id, else its number, and what tells it from others of that id."""
    name = next((n for n in (*benchmark.ids, *_COMMON_IDS) if record.get(n) is not None), None)
    own = {"id": number if name is None else record[name]}
    return own | {n: record[n] for n in _NAMES if n in record}
