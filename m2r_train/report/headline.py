"""The headline: every evaluated model side by side, per benchmark and task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from m2r_train.report.charts import forest
from m2r_train.report.views import Comparison, RunView
from m2r_train.telemetry.results import ResultRow, Score, models_of, result_rows


@dataclass(frozen=True, slots=True)
class HeadlineRow:
    """One task: its scores in the order of the columns, and the paired difference if known."""

    task: str
    is_overall: bool
    cells: tuple[Score | None, ...]
    best: float | None
    n: int | None
    comparison: Comparison | None


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark: the plain tasks, drawn and listed, and its other views, only listed."""

    name: str
    models: tuple[str, ...]
    rows: tuple[HeadlineRow, ...]
    others: tuple[HeadlineRow, ...]
    picture: Markup
    versus: str


def headline(views: Sequence[RunView], comparisons: Iterable[Comparison]) -> list[Benchmark]:
    """One entry a benchmark, from every view that carries results."""
    results = results_by_label(views)
    pairs = [*comparisons, *_carried(results)]
    rows = result_rows(results)
    models = tuple(models_of(rows))
    return [
        _benchmark(name, [row for row in rows if row.benchmark == name], models, pairs)
        for name in dict.fromkeys(row.benchmark for row in rows)
    ]


def results_by_label(views: Sequence[RunView]) -> dict[str, Mapping[str, Any]]:
    """The results of every view that carries some, by the label of its column."""
    results: dict[str, Mapping[str, Any]] = {}
    for view in views:
        if view.results is not None:
            label = view.label if view.label not in results else f"{view.label} ({view.name})"
            results[label] = view.results
    return results


def _carried(results: Mapping[str, Mapping[str, Any]]) -> list[Comparison]:
    """Differences that an evaluation wrote into its own results, under ``comparisons``."""
    fields = Comparison.__dataclass_fields__
    return [
        Comparison(**{key: item for key, item in one.items() if key in fields})
        for result in results.values()
        for one in result.get("comparisons", ())
    ]


def _newest_pair(pairs: list[Comparison]) -> dict[str, Comparison]:
    """By task, the differences of the last two models that were compared (RLVR less SFT)."""
    return {
        pair.task: pair
        for pair in pairs
        if (pair.baseline, pair.model) == (pairs[-1].baseline, pairs[-1].model)
    }


def _benchmark(
    name: str, rows: list[ResultRow], models: tuple[str, ...], pairs: list[Comparison]
) -> Benchmark:
    mine = _newest_pair([pair for pair in pairs if pair.benchmark == name])
    plain = [row for row in rows if "/" not in row.task]
    versus = next((f"{pair.model} − {pair.baseline}" for pair in mine.values()), "")
    picture = forest(
        [(row.task, row.is_overall, row.scores) for row in plain],
        models,
    )
    return Benchmark(
        name=name,
        models=models,
        rows=tuple(_row(row, models, mine) for row in plain),
        others=tuple(_row(row, models, mine) for row in rows if "/" in row.task),
        picture=picture,
        versus=versus,
    )


def _row(row: ResultRow, models: Sequence[str], pairs: Mapping[str, Comparison]) -> HeadlineRow:
    counts = [score.n for score in row.scores.values() if score.n is not None]
    values = [score.value for score in row.scores.values()]
    return HeadlineRow(
        task=row.task,
        is_overall=row.is_overall,
        cells=tuple(row.scores.get(model) for model in models),
        best=max(values) if len(values) > 1 else None,
        n=max(counts, default=None),
        comparison=pairs.get(row.task),
    )
