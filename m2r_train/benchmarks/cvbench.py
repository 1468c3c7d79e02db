"""CV-Bench: the letter of an option; sources weigh equally, then 2D and 3D (benchmarks.md 7)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from m2r_train.benchmarks.base import (
    PICTURE_DIGEST,
    Benchmark,
    Judged,
    Record,
    RecordError,
    Row,
    accuracy,
    choice_field,
    lettered,
    text_field,
    texts_field,
)
from m2r_train.benchmarks.options import find_option
from m2r_train.core.estimates import Figure, mean_of

_SOURCES = ("ADE20K", "COCO", "Omni3D")
_TASKS = ("Count", "Relation", "Depth", "Distance")
_PICTURE_NAMES = ("source_filename", PICTURE_DIGEST, "filename")
_LEADING_LETTER = re.compile(r"[(\s]*([A-Za-z])")


def official(record: Record, text: str) -> Judged:
    """Cambrian's rule: what follows the last "answer is", without brackets, its first character."""
    truth, options = _truth(record)
    three_d = choice_field(record, "type", ("2D", "3D")) == "3D"
    answer = text.lower().strip()
    answer = answer.rpartition("answer is")[2].rpartition("answer:")[2]
    answer = answer.strip().rstrip(".:," if three_d else ".").lstrip("(").rstrip(")")[:1]
    if not answer:
        return Judged(None, 0.0)
    right = answer == truth.lower()
    if three_d:
        right = right or answer == options.get(truth, "").lower()
    return Judged(answer.upper(), float(right))


def lmms_eval(record: Record, text: str) -> Judged:
    """The letter that the text begins with, brackets and spaces aside: "The .." chooses T."""
    truth, _ = _truth(record)
    match = _LEADING_LETTER.match(text.strip())
    return Judged(None, 0.0) if match is None else _compared(match[1].upper(), truth)


def vlmevalkit(record: Record, text: str) -> Judged:
    """The option finder."""
    truth, options = _truth(record)
    return _compared(find_option(text, options), truth)


def figures(rows: Sequence[Row]) -> dict[str, Figure]:
    """``cv_bench`` is the mean of 2D and 3D, 2D the mean of its two sources.

    Questions about one picture are a cluster: what the model sees of it helps with all of them.
    """

    def where(name: str, *values: str) -> Figure:
        return accuracy([row for row in rows if row.record[name] in values], _picture)

    ade20k, coco, omni3d = (where("source", source) for source in _SOURCES)
    two_d = mean_of([ade20k, coco])
    return {
        "cv_bench": mean_of([two_d, omni3d]),
        "2d": two_d,
        "3d": omni3d,
        "ade20k": ade20k,
        "coco": coco,
        "omni3d": omni3d,
        **{task.lower(): where("task", task) for task in _TASKS},
        "2d_pooled": where("source", "ADE20K", "COCO"),
        "sample_mean": accuracy(rows, _picture),
    }


def missing(records: Sequence[Record]) -> list[str]:
    """Sources and tasks without a record."""
    sources = {record.get("source") for record in records}
    tasks = {record.get("task") for record in records}
    return [f"source {s}" for s in _SOURCES if s not in sources] + [
        f"task {t}" for t in _TASKS if t not in tasks
    ]


def _picture(record: Record) -> str | None:
    """What tells a record's picture from the others: where it comes from, its content, its file.

    The content alone is not enough: Depth and Distance mark the things asked for in the picture.
    The file alone is less: each question has its own.
    """
    for name in _PICTURE_NAMES:
        if (value := record.get(name)) is not None:
            return f"{record['source']}/{name}/{value}"
    return None


def _truth(record: Record) -> tuple[str, dict[str, str]]:
    """The truth's letter, and the options by letter."""
    choice_field(record, "source", _SOURCES)
    choice_field(record, "task", _TASKS)
    truth = text_field(record, "answer").strip().strip("()").upper()
    if len(truth) != 1 or not "A" <= truth <= "Z":
        raise RecordError(f"answer: {record['answer'][:80]!r} is not a letter in parentheses")
    return truth, lettered(texts_field(record, "choices"))


def _compared(letter: str | None, truth: str) -> Judged:
    return Judged(letter, float(letter == truth))


BENCHMARK = Benchmark(
    name="cv-bench",
    rules={"official": official, "vlmevalkit": vlmevalkit, "lmms-eval": lmms_eval},
    figures=figures,
    headline=lambda _: "cv_bench",
    ids=("idx",),
    fields=("source", "task", *_PICTURE_NAMES),
    sizes=(2638,),
    missing=missing,
    judge={"vlmevalkit": "none: where the option finder is undecided there is no answer"},
)
