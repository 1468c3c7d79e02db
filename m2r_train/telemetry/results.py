"""The headline of a project: base, SFT and RLVR side by side, per benchmark and task.

Input is ``eval/results.json`` as the evaluation stage writes it:
``{benchmarks: {NAME: {overall: {value, n, stderr}, SUBTASK: {..}, "greedy/overall": {..}}},
intervals: {NAME: {overall: [low, high], ..}}}``, values in percent. A key with a slash is another
view of the same samples (``greedy/``, ``subject/``), so it never mixes with the plain sub-tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OVERALL = "overall"


@dataclass(frozen=True, slots=True)
class Score:
    """A score in percent, its standard error in points (None: unknown), the sample count, and the
    95 % interval where it was told.
    """

    value: float
    stderr: float | None = None
    n: int | None = None
    told: tuple[float, float] | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval: the one ``told``, else of 1.96 standard errors; None: unknown."""
        if self.told is not None or self.stderr is None:
            return self.told
        return max(0.0, self.value - 1.96 * self.stderr), min(
            100.0, self.value + 1.96 * self.stderr
        )

    def __str__(self) -> str:
        error = "" if self.stderr is None else f" ± {self.stderr:.1f}"
        return f"{self.value:.1f}{error}"


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One line of the table: a task of a benchmark, and one score for each model that has it."""

    benchmark: str
    task: str
    scores: Mapping[str, Score]

    @property
    def is_overall(self) -> bool:
        return self.task.rpartition("/")[2] == OVERALL


def result_rows(results: Mapping[str, Mapping[str, Any]]) -> list[ResultRow]:
    """Rows from ``{"base": results.json, "sft": .., "rlvr": ..}``, in the order given.

    Within a benchmark: ``overall``, then its tasks, then each other view led by its own overall.
    A score that the evaluation could not compute (``value: null``) is left out of its row.
    """
    cells: dict[tuple[str, str], dict[str, Score]] = {}
    for model, result in results.items():
        for benchmark, tasks in result.get("benchmarks", {}).items():
            intervals = result.get("intervals", {}).get(benchmark, {})
            for task, score in tasks.items():
                if isinstance(score, Mapping) and score.get("value") is not None:
                    row = cells.setdefault((benchmark, task), {})
                    row[model] = score_of(score, intervals.get(task))
    benchmarks = list(dict.fromkeys(benchmark for benchmark, _ in cells))
    views = list(dict.fromkeys(_view(task) for _, task in cells))
    views.sort(key=bool)  # the plain view first, the others as they came

    def place(key: tuple[str, str]) -> tuple[int, int, bool]:
        benchmark, task = key
        return benchmarks.index(benchmark), views.index(_view(task)), not _is_overall(task)

    return [ResultRow(*key, scores=cells[key]) for key in sorted(cells, key=place)]


def score_of(score: Mapping[str, Any], interval: Sequence[float] | None = None) -> Score:
    """A figure of ``results.json`` that has a value, and its interval."""
    told = None if interval is None else (float(interval[0]), float(interval[1]))
    return Score(float(score["value"]), score.get("stderr"), score.get("n"), told)


def models_of(rows: list[ResultRow]) -> list[str]:
    """The columns: every model that some row has a score for, in order of appearance."""
    return list(dict.fromkeys(model for row in rows for model in row.scores))


def _view(task: str) -> str:
    return task.rpartition("/")[0]


def _is_overall(task: str) -> bool:
    return task.rpartition("/")[2] == OVERALL
