"""MathVerse: equality with the answer; the judge of meaning is left out (benchmarks.md 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from m2r_train.benchmarks.base import (
    Benchmark,
    Judged,
    Record,
    Row,
    accuracy,
    choice_field,
    groups_of,
    text_field,
)
from m2r_train.benchmarks.figures import prefixed
from m2r_train.core.estimates import Figure

VISION_ONLY = "Vision Only"
_VERSIONS = (
    *("Text Dominant", "Text Lite", "Text Only"),
    *("Vision Intensive", "Vision Dominant", VISION_ONLY),
)


def official(record: Record, text: str) -> Judged:
    """Quick match: the extraction (here: the text) equals the answer, character by character."""
    choice_field(record, "problem_version", _VERSIONS)
    return Judged(text, float(text == text_field(record, "answer")))


def vlmevalkit(record: Record, text: str) -> Judged:
    """The two trimmed texts are equal."""
    choice_field(record, "problem_version", _VERSIONS)
    return Judged(text.strip(), float(text.strip() == text_field(record, "answer").strip()))


def figures(rows: Sequence[Row]) -> dict[str, Figure]:
    """Accuracy overall, by version, subject and subfield; versions of a problem are a cluster."""
    out = {"accuracy": _mean(rows)}
    for name in ("version", "subject", "subfield"):
        groups = groups_of(rows, partial(_group, name))
        out |= prefixed(name, {key: _mean(own) for key, own in groups.items()})
    return out


def missing(records: Sequence[Record]) -> list[str]:
    """Problems that lack a version which other problems of the set have."""
    problems: dict[str, set[str]] = {}
    for record in records:
        if (problem := _problem(record)) is not None:
            problems.setdefault(problem, set()).add(str(record.get("problem_version")))
    there = [v for v in _VERSIONS if any(v in own for own in problems.values())]
    lacking = {name: [v for v in there if v not in own] for name, own in problems.items()}
    return [f"problem {name}: version {', '.join(own)}" for name, own in lacking.items() if own]


def headline(figures: Mapping[str, Figure]) -> str:
    """The paper's column is Vision Only."""
    column = f"version/{VISION_ONLY}"
    return column if column in figures else "accuracy"


def _mean(rows: Sequence[Row]) -> Figure:
    return accuracy(rows, _problem)


def _problem(record: Record) -> str | None:
    index = record.get("problem_index")
    return None if index is None else str(index)


def _group(name: str, record: Record) -> str:
    if name == "version":
        return str(record["problem_version"])
    metadata: Any = record.get("metadata")
    inside = metadata.get(name) if isinstance(metadata, dict) else None
    return str(record.get(name) or inside or "")


_NO_JUDGE = "none: quick match only; an answer of equal meaning that is written otherwise is wrong"

BENCHMARK = Benchmark(
    name="mathverse",
    rules={"official": official, "vlmevalkit": vlmevalkit},
    figures=figures,
    headline=headline,
    ids=("sample_index",),
    fields=("problem_version", "problem_index", "subject", "subfield", "metadata"),
    sizes=(788, 3940, 4728),  # one version, testmini, and with text only
    missing=missing,
    judge={"official": _NO_JUDGE, "vlmevalkit": _NO_JUDGE},
)
