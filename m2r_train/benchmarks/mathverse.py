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
    choice_field,
    groups_of,
    text_field,
)
from m2r_train.benchmarks.figures import Figure, clustered_mean, prefixed

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


def headline(figures: Mapping[str, Figure]) -> str:
    """The paper's column is Vision Only."""
    column = f"version/{VISION_ONLY}"
    return column if column in figures else "accuracy"


def _mean(rows: Sequence[Row]) -> Figure:
    clusters = [str(row.record.get("problem_index", f"row {i}")) for i, row in enumerate(rows)]
    return clustered_mean([row.score for row in rows], clusters)


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
    judge={"official": _NO_JUDGE, "vlmevalkit": _NO_JUDGE},
)
