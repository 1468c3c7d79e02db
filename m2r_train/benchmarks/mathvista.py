"""MathVista: a choice's text, an integer, a float or a list, equal as strings (benchmarks.md 1).

The published scorer asks a model to extract an answer from a response that is not one. Here that
response itself goes on: a short answer is scored alike, a whole solution is not understood.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from m2r_train.benchmarks.base import (
    Benchmark,
    Judged,
    Record,
    RecordError,
    Row,
    accuracy,
    as_float,
    choice_field,
    groups_of,
    lettered,
    letters,
    number_field,
    text_field,
    texts_field,
)
from m2r_train.benchmarks.editdistance import levenshtein
from m2r_train.benchmarks.figures import prefixed
from m2r_train.benchmarks.options import find_option
from m2r_train.core.estimates import Figure

_QUOTE = 'The answer is "'
_LETTER = re.compile(r"\(([a-zA-Z])\)")

_MAX_INT_CHARS = 1000
_MAX_CHOICE_CHARS = 200_000
"""Beyond this a text is not compared with the choices; a published run would take its time."""

_GROUPINGS = (
    *("question_type", "answer_type"),
    *("language", "source", "category", "task", "context", "grade"),
)


def official(record: Record, text: str) -> Judged:
    """The published rule without its model: extract, normalise, compare as strings."""
    return compared(record, extract(record, text))


def compared(record: Record, extraction: str) -> Judged:
    """Normalised and compared with the answer as a string."""
    truth = text_field(record, "answer")
    normalised = normalise(record, extraction)
    return Judged(normalised, float(normalised == truth))


def extract(record: Record, text: str) -> str:
    """The extraction's rules in order, quick mode on; the text itself where none applies."""
    if (found := by_rules(record, text)) is not None:
        return found
    return next((q for q in map(_quoted, text.split("\n")) if q is not None), text)


def by_rules(record: Record, text: str) -> str | None:
    """The extraction of a text that is an answer already; None where a model's turn would be."""
    if not text:
        return ""
    if _is_choice(record) and text in texts_field(record, "choices"):
        return text
    kind = _answer_type(record)
    if kind == "integer" and (whole := _as_int(text)) is not None:
        return str(whole)
    if kind == "float" and (number := as_float(text)) is not None:
        return str(number)
    return None


def normalise(record: Record, extraction: str) -> str | None:
    """What is compared with the answer: a choice's text, a number as printed, a text; or None."""
    if _is_choice(record):
        return _choice(extraction.strip(), texts_field(record, "choices"))
    kind = _answer_type(record)
    if kind == "integer":
        return _truncated(extraction)
    if kind == "float":
        number = as_float(extraction)
        return None if number is None else _rounded(number, number_field(record, "precision"))
    return extraction


def vlmevalkit(record: Record, text: str) -> Judged:
    """Letters by the option finder, int() and float() as numbers; a list is never right."""
    truth = text_field(record, "answer")
    if _is_choice(record):
        options = lettered(texts_field(record, "choices"))
        right = [letter for letter, option in options.items() if option == truth]
        if not right:
            raise RecordError(f"answer: {truth[:80]!r} is none of the choices")
        letter = find_option(text, options)
        return Judged(letter, float(letter == right[0]))
    kind = _answer_type(record)
    if kind == "integer":
        return _equal_numbers(_as_int(text), _as_int(truth))
    if kind == "float":
        return _equal_numbers(as_float(text), as_float(truth))
    return Judged(text, 0.0)


def figures(rows: Sequence[Row]) -> dict[str, Figure]:
    """Accuracy overall, by each grouping, and by skill (a sample counts for each of its skills)."""
    out = {"accuracy": accuracy(rows)}
    for name in _GROUPINGS:
        groups = groups_of(rows, partial(_grouping, name))
        out |= prefixed(name, {k: accuracy(own) for k, own in groups.items()})
    by_skill: dict[str, list[Row]] = {}
    for row in rows:
        for skill in texts_field(_metadata(row.record), "skills"):
            by_skill.setdefault(skill, []).append(row)
    skills = {skill: accuracy(own) for skill, own in sorted(by_skill.items())}
    return out | prefixed("skill", skills)


def _quoted(line: str) -> str | None:
    """What `The answer is "..".` quotes up to the last such end of the line, or None."""
    _, found, rest = line.partition(_QUOTE)
    inside, ended, _ = rest.rpartition('".')
    return inside if found and ended else None


def _grouping(name: str, record: Record) -> str | None:
    value = record.get(name, _metadata(record).get(name))
    return None if value is None else str(value)


def _metadata(record: Record) -> dict[str, Any]:
    value = record.get("metadata")
    return value if isinstance(value, dict) else {}


def _is_choice(record: Record) -> bool:
    return choice_field(record, "question_type", ("multi_choice", "free_form")) == "multi_choice"


def _answer_type(record: Record) -> str:
    return choice_field(record, "answer_type", ("text", "integer", "float", "list"))


def _choice(text: str, choices: Sequence[str]) -> str | None:
    if not choices:
        raise RecordError("choices: is empty; a multi_choice question has some")
    if found := _LETTER.search(text):
        text = found[1].upper()
    if text in (names := letters(len(choices))):
        return choices[names.index(text)]
    if len(text) > _MAX_CHOICE_CHARS:
        return None
    return min(choices, key=lambda choice: levenshtein(choice, text))


def _as_int(text: str) -> int | None:
    if len(text) > _MAX_INT_CHARS:
        return None
    try:
        return int(text)
    except ValueError:
        return None


def _truncated(text: str) -> str | None:
    number = as_float(text)
    if number is None:
        return None
    try:
        return str(int(number))
    except (ValueError, OverflowError):  # nan, infinity
        return None


def _rounded(number: float, precision: float) -> str:
    if not 0 <= precision <= 30:
        raise RecordError(f"precision: {precision} is not between 0 and 30")
    return str(round(number, int(precision)))


def _equal_numbers(value: float | None, truth: float | None) -> Judged:
    if truth is None:
        raise RecordError("answer: is not the number that answer_type says")
    return Judged(None if value is None else str(value), float(value == truth))


BENCHMARK = Benchmark(
    name="mathvista",
    rules={"official": official, "vlmevalkit": vlmevalkit},
    figures=figures,
    headline=lambda _: "accuracy",
    ids=("pid",),
    fields=(*_GROUPINGS, "metadata"),
    sizes=(1000, 5141),  # testmini, test
    judge={
        "official": "none: quick extraction; a text that it does not match is scored as it is",
        "vlmevalkit": "none: the option finder and the text as it is",
    },
)
