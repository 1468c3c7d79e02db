"""Figures of the rows that an evaluation keeps: ``eval/samples/NAME.jsonl``.

A row is a question: ``{id, task, record, sampled: [{score, format, ..}], greedy: [..]}``, where
``record`` has what the figures of a published benchmark read of its record. So every figure, and
the difference of two evaluations, can be had from what is kept, without the benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Literal

from m2r_train.benchmarks.base import Record, Row
from m2r_train.benchmarks.figures import prefixed
from m2r_train.benchmarks.registry import BENCHMARKS
from m2r_train.core.estimates import Figure, mean, mean_of, mean_of_draws

Kept = Mapping[str, Any]
Mode = Literal["sampled", "greedy"]

HEADLINE = "overall"


def facts(name: str, record: Record) -> dict[str, Any]:
    """What the figures of a published benchmark read of its record."""
    wanted = BENCHMARKS[name].fields
    return {field: record[field] for field in wanted if record.get(field) is not None}


def all_figures(name: str, rows: Sequence[Kept]) -> dict[str, Figure]:
    """The figures of the sampled answers, and under ``greedy/`` of the greedy ones."""
    greedy = kept_figures(name, rows, "greedy")
    return kept_figures(name, rows) | prefixed("greedy", greedy)


def kept_figures(name: str, rows: Sequence[Kept], mode: Mode = "sampled") -> dict[str, Figure]:
    """All figures of a benchmark, by its rules or, for other questions than a published
    benchmark's, by task; none where no answers of this ``mode`` are kept.
    """
    if name not in BENCHMARKS:
        return task_figures(rows, mode)
    rules = BENCHMARKS[name]
    drawn = [
        rules.figures([Row(row["record"], row[mode][i]["score"], n) for n, row in enumerate(rows)])
        for i in range(draws(rows, mode))
    ]
    return over_draws([with_headline(own, rules.headline(own)) for own in drawn])


def task_figures(rows: Sequence[Kept], mode: Mode) -> dict[str, Figure]:
    """``overall`` (the mean of tasks), each task, and the share of well-formed answers.

    Questions, not samples, are the unit of every error.
    """
    by_task: dict[str, dict[int, float]] = {}
    for number, row in enumerate(rows):
        if row[mode]:
            score = fmean(answer["score"] for answer in row[mode])
            by_task.setdefault(row["task"], {})[number] = score
    if not by_task:
        return {}
    tasks = {task: mean(list(own.values()), list(own)) for task, own in sorted(by_task.items())}
    answers = [(n, answer["format"]) for n, row in enumerate(rows) for answer in row[mode]]
    return {
        HEADLINE: mean_of(tasks.values()),
        **tasks,
        "format": mean([valid for _, valid in answers], [number for number, _ in answers]),
    }


def draws(rows: Sequence[Kept], mode: Mode) -> int:
    """How many answers there are to every question."""
    return min((len(row[mode]) for row in rows), default=0)


def with_headline(figures: Mapping[str, Figure], headline: str) -> dict[str, Figure]:
    """``overall`` is the benchmark's headline; a figure of its own of that name is ``all``."""
    if headline == HEADLINE:
        return dict(figures)
    own = {"all": figures[HEADLINE]} if HEADLINE in figures else {}
    others = {name: figure for name, figure in figures.items() if name != HEADLINE}
    return {**others, **own, HEADLINE: figures[headline]}


def over_draws(drawn: Sequence[Mapping[str, Figure]]) -> dict[str, Figure]:
    """The figures of several draws of an answer to every question: their means."""
    if not drawn:
        return {}
    return {name: mean_of_draws([own[name] for own in drawn]) for name in drawn[0]}
