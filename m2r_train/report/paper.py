"""The paper's table beside ours: its printed figures, and those of the models evaluated here.

The two are of different runs, as a rule of different models, and often not of one protocol. So the
table says which columns are whose, and how each of our benchmarks was scored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from m2r_train.telemetry.results import OVERALL, Score, score_of

GENERAL = ("mathvista", "mathvision", "mathverse", "dynamath", "we-math", "logicvista")
_MEAN_OF_GENERAL = "general"


@dataclass(frozen=True, slots=True)
class PaperRow:
    """A figure: the paper's values in the order of its models, ours in the order of the columns."""

    name: str
    is_headline: bool
    paper: tuple[float | None, ...]
    ours: tuple[Score | None, ...]
    is_partial: bool


@dataclass(frozen=True, slots=True)
class PaperTable:
    """The rows of which we have a figure; ``protocols`` says how ours were scored."""

    source: str
    paper_models: tuple[str, ...]
    models: tuple[str, ...]
    rows: tuple[PaperRow, ...]
    notes: tuple[str, ...]
    protocols: tuple[str, ...]


@cache
def paper() -> Mapping[str, Any]:
    """The packaged figures of the paper: see ``paper.yaml``."""
    text = files("m2r_train.report").joinpath("paper.yaml").read_text(encoding="utf-8")
    loaded: Mapping[str, Any] = yaml.safe_load(text)
    return loaded


def beside_paper(results: Mapping[str, Mapping[str, Any]]) -> PaperTable | None:
    """The table of ``{model: eval/results.json}``; None where no published benchmark was run."""
    printed = paper()
    rows = [
        row
        for benchmark, figure, name, *values in printed["figures"]
        if (row := _row(results, benchmark, figure, name, values)) is not None
    ]
    if not rows:
        return None
    shown = [bool(any(row.ours[place] for row in rows)) for place in range(len(results))]
    models = tuple(model for model, keep in zip(results, shown, strict=True) if keep)
    return PaperTable(
        source=printed["source"],
        paper_models=tuple(printed["models"]),
        models=models,
        rows=tuple(_only(row, shown) for row in rows),
        notes=tuple(printed["notes"]),
        protocols=tuple(_protocols(results)),
    )


def _row(
    results: Mapping[str, Mapping[str, Any]],
    benchmark: str,
    figure: str,
    name: str,
    values: Sequence[float | None],
) -> PaperRow | None:
    ours = tuple(_ours(result, benchmark, figure) for result in results.values())
    if not any(ours):
        return None
    members = GENERAL if benchmark == _MEAN_OF_GENERAL else (benchmark,)
    partial = any(
        not result.get("protocols", {}).get(member, {}).get("whole", True)
        for result in results.values()
        for member in members
    )
    return PaperRow(name, figure == OVERALL, tuple(values), ours, partial)


def _ours(result: Mapping[str, Any], benchmark: str, figure: str) -> Score | None:
    benchmarks = result.get("benchmarks", {})
    if benchmark == _MEAN_OF_GENERAL:
        return _mean([_ours(result, one, figure) for one in GENERAL])
    score = benchmarks.get(benchmark, {}).get(figure)
    if score is None or score.get("value") is None:
        return None
    return score_of(score)


def _mean(scores: Sequence[Score | None]) -> Score | None:
    """The mean of benchmarks, which share no question; None where one is missing."""
    known = [score for score in scores if score is not None]
    if len(known) < len(scores):
        return None
    errors = [score.stderr for score in known if score.stderr is not None]
    stderr = math.hypot(*errors) / len(known) if len(errors) == len(known) else None
    value = math.fsum(score.value for score in known) / len(known)
    return Score(value, stderr, sum(score.n or 0 for score in known))


def _only(row: PaperRow, shown: Sequence[bool]) -> PaperRow:
    ours = tuple(score for score, keep in zip(row.ours, shown, strict=True) if keep)
    return PaperRow(row.name, row.is_headline, row.paper, ours, row.is_partial)


def _protocols(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """How each benchmark was scored, once where all models were scored alike."""
    known = dict.fromkeys(one[0] for one in paper()["figures"])
    told: dict[str, None] = {}
    for benchmark in known:
        for result in results.values():
            protocol = result.get("protocols", {}).get(benchmark)
            if protocol is not None:
                judge, rule = protocol.get("judge", "not needed"), protocol.get("rule", "official")
                told[f"{benchmark}: rule {rule}; judge {judge}"] = None
    return list(told)
