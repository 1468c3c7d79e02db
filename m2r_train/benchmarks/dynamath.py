"""DynaMath: ten variants of each seed question; average and worst case (benchmarks.md 4)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence

from m2r_train.benchmarks.base import (
    Benchmark,
    Judged,
    Record,
    Row,
    accuracy,
    as_float,
    groups_of,
    number_field,
    text_field,
)
from m2r_train.benchmarks.figures import grouped
from m2r_train.core.estimates import Figure, mean

_VARIANTS = tuple(str(number) for number in range(1, 11))
_TOLERANCE = 0.001
_CHOICE = "multiple choice"
_LETTERS = "ABCDE"


def official(record: Record, text: str) -> Judged:
    """The "short answer" of the JSON, else the last line without its last character."""
    return official_short(record, _short_answer(text, text.rpartition("\n")[2][:-1]))


def official_short(record: Record, short: str | None) -> Judged:
    """The official comparison of a short answer."""
    kind, truth = text_field(record, "answer_type"), _answer(record)
    if kind == "float":
        return _compared_floats(record, short)
    if short is None:
        return Judged(None, 0.0)
    if kind == _CHOICE:
        right = short == truth if len(short) == 1 else truth in short[:3]
        return Judged(short, float(right))
    return Judged(short, float(truth in short))


def official_cut(record: Record, answer: str) -> Judged:
    """For an answer that is cut out already: its JSON's "short answer", else the answer itself."""
    return official_short(record, _short_answer(answer, answer))


def vlmevalkit(record: Record, text: str) -> Judged:
    """The same JSON, else the whole text; a lone letter A..E; a text contained in the truth."""
    kind, truth = text_field(record, "answer_type"), _answer(record)
    short = _short_answer(text, text)
    if kind == "float":
        return _compared_floats(record, short)
    if short is None:
        return Judged(None, 0.0)
    if kind == _CHOICE:
        letter = _lone_letter(short)
        return Judged(letter, float(letter == truth))
    return Judged(short, float(short.lower() in truth.lower()))


def figures(rows: Sequence[Row]) -> dict[str, Figure]:
    """``average`` over rows and ``worst`` over seeds, overall, by subject and by level.

    Groups are ``subject/NAME`` (average) and ``subject/NAME/worst``.
    """
    out = {"worst": _worst(rows), "average": _average(rows)}
    keys: dict[str, Callable[[Record], str]] = {"subject": _subject, "level": _level}
    for name, key in keys.items():
        for group, own in groups_of(rows, key).items():
            out[f"{name}/{group}"] = _average(own)
            out[f"{name}/{group}/worst"] = _worst(own)
    return out


def missing(records: Sequence[Record]) -> list[str]:
    """Seeds without all of their ten variants, which ``varid`` numbers where it is given."""
    lacking = []
    for seed, own in grouped(records, _seed).items():
        named = [str(record["varid"]) for record in own if record.get("varid") is not None]
        present = set(named) if len(named) == len(own) else set(_VARIANTS[: len(own)])
        absent = [variant for variant in _VARIANTS if variant not in present]
        if absent:
            lacking.append(f"seed {seed}: variant {', '.join(absent)}")
        elif len(own) > len(_VARIANTS):
            lacking.append(f"seed {seed}: a variant occurs twice, or is not one of 1 to 10")
    return lacking


def _short_answer(text: str, otherwise: str) -> str | None:
    """``otherwise`` where no JSON parses; None where it parses and has no short answer."""
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        return otherwise
    try:
        parsed = json.loads(text[start : end + 1].replace("\\", ""), strict=False)
    except (ValueError, RecursionError):
        return otherwise
    value = parsed.get("short answer")
    return str(value) if isinstance(value, str | int | float) else None


def _compared_floats(record: Record, short: str | None) -> Judged:
    truth = number_field(record, _answer_name(record))
    value = None if short is None else _value(short)
    near = value is not None and abs(value - truth) <= _TOLERANCE
    return Judged(short, float(near))


def _value(short: str) -> float | None:
    """A number; without its unit after a space; a multiple of pi."""
    if short.isdigit():
        return as_float(short)
    short = short.split(" ", 1)[0]
    factor, pi, _ = short.partition("π")
    value = as_float(factor)
    return None if value is None else value * math.pi if pi else value


def _lone_letter(short: str) -> str | None:
    if len(short) == 1:
        return short.upper()
    present = [letter for letter in _LETTERS if letter in short.upper()]
    return present[0] if len(present) == 1 else None


def _average(rows: Sequence[Row]) -> Figure:
    return accuracy(rows, _seed)


def _worst(rows: Sequence[Row]) -> Figure:
    seeds = grouped(rows, lambda row: _seed(row.record))
    return mean([min(row.score for row in own) for own in seeds.values()], list(seeds))


def _seed(record: Record) -> str:
    """The seed question: ``qid``, or the ``id`` that its variants share."""
    return text_field(record, "qid", "id")


def _answer_name(record: Record) -> str:
    return "answer" if record.get("answer") is not None else "ground_truth"


def _answer(record: Record) -> str:
    _seed(record)
    return text_field(record, "answer", "ground_truth")


def _subject(record: Record) -> str:
    return str(record.get("subject") or "")


def _level(record: Record) -> str:
    return str(record.get("level") or record.get("knowledge_level") or "")


BENCHMARK = Benchmark(
    name="dynamath",
    rules={"official": official, "vlmevalkit": vlmevalkit},
    cut_rules={"official": official_cut},
    figures=figures,
    headline=lambda _: "worst",
    ids=("id", "index", "qid"),
    fields=("qid", "id", "subject", "level", "knowledge_level"),
    sizes=(5010,),
    missing=missing,
    judge={"vlmevalkit": "none: a choice that is not one distinct letter is no answer"},
)
