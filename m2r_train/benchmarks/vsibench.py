"""VSI-Bench: letters, and numbers by mean relative accuracy (benchmarks.md section 8)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from m2r_train.benchmarks.base import (
    Benchmark,
    Judged,
    Record,
    RecordError,
    Row,
    accuracy,
    as_float,
    choice_field,
    number_field,
    text_field,
    texts_field,
)
from m2r_train.benchmarks.numberwords import first_number
from m2r_train.benchmarks.options import find_option
from m2r_train.core.estimates import Figure, mean_of
from m2r_train.core.stats import accuracy_at_error, mean_relative_accuracy

_NUMERIC = (
    "object_counting",
    "object_abs_distance",
    "object_size_estimation",
    "room_size_estimation",
)
_DIRECTION = "object_rel_direction"
_LEVELS = tuple(f"{_DIRECTION}_{level}" for level in ("easy", "medium", "hard"))
_TYPES = (
    *_NUMERIC,
    "object_rel_distance",
    *_LEVELS,
    "route_planning",
    "obj_appearance_order",
)

_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_OPTION = re.compile(r"\s*\(?([A-Za-z])[.):\s]\s*")


def official(record: Record, text: str) -> Judged:
    """The first word without trailing full stops: a letter, or a number for its MRA."""
    cut = text.split(" ", 1)[0].rstrip(".").strip()
    if _is_numeric(record):
        return Judged(cut, _mra(as_float(cut), _positive_truth(record)))
    return Judged(cut, float(cut.lower() == text_field(record, "ground_truth").lower()))


def lmms_eval(record: Record, text: str) -> Judged:
    """As official, but a number may stand anywhere, in digits or words: the first one counts."""
    if not _is_numeric(record):
        return official(record, text)
    number = first_number(text)
    extracted = None if number is None else repr(number)
    return Judged(extracted, _mra(number, _positive_truth(record)))


def vlmevalkit(record: Record, text: str) -> Judged:
    """What ``<answer>`` holds (a number: begins with), else the end of the text; the error is
    relative to ``|truth|``.
    """
    answer = _answer_block(text)
    tail = text.rpartition("</think>")[2]
    if not _is_numeric(record):
        truth = text_field(record, "ground_truth").strip().upper()
        options = _options(record)
        letter = (find_option(answer, options) if answer is not None else None) or find_option(
            tail, options
        )
        return Judged(letter, float(letter == truth))
    truth_value = number_field(record, "ground_truth")
    inside = None if answer is None else _leading_number(answer) or _last_number(answer)
    number = inside or _last_number(tail) or _last_number(text)
    x = None if number is None else as_float(number)
    return Judged(number, _mra_of_any_sign(x, truth_value))


def vlmevalkit_cut(record: Record, answer: str) -> Judged:
    """For an answer that is cut out already: it is what ``<answer>`` holds."""
    return vlmevalkit(record, f"<answer>{answer}</answer>")


def figures(rows: Sequence[Row]) -> dict[str, Figure]:
    """Means by question type; three levels make one direction task; ``overall`` of the tasks.

    Questions of one scene are a cluster: what the model sees of a video helps with all of them.
    """
    by_type = {
        kind: accuracy([row for row in rows if row.record["question_type"] == kind], _scene)
        for kind in _TYPES
    }
    present = {kind: figure for kind, figure in by_type.items() if figure.n}
    levels = [present[level] for level in _LEVELS if level in present]
    tasks = {kind: figure for kind, figure in present.items() if kind not in _LEVELS}
    if levels:
        tasks[_DIRECTION] = mean_of(levels)
    return {
        "overall": mean_of(tasks.values()),
        **by_type,
        _DIRECTION: tasks.get(_DIRECTION, by_type[_LEVELS[0]]),
    }


def missing(records: Sequence[Record]) -> list[str]:
    """Question types without a record."""
    present = {record.get("question_type") for record in records}
    return [f"question type {kind}" for kind in _TYPES if kind not in present]


def _scene(record: Record) -> str | None:
    scene = record.get("scene_name")
    return None if scene is None else f"{record.get('dataset', '')}/{scene}"


def _is_numeric(record: Record) -> bool:
    return choice_field(record, "question_type", _TYPES) in _NUMERIC


def _positive_truth(record: Record) -> float:
    truth = number_field(record, "ground_truth")
    if not 0.0 < truth < float("inf"):
        raise RecordError(
            f"ground_truth: {truth} is not positive and finite, which relative accuracy needs"
        )
    return truth


def _mra(x: float | None, truth: float) -> float:
    return 0.0 if x is None else mean_relative_accuracy(x, truth)


def _mra_of_any_sign(x: float | None, truth: float) -> float:
    """The error relative to ``|truth|``; the absolute error where that is 0."""
    return 0.0 if x is None else accuracy_at_error(abs(x - truth) / (abs(truth) or 1.0))


def _answer_block(text: str) -> str | None:
    head, tag, _ = text.rpartition("</answer>")
    if not tag:
        return None
    _, opened, inside = head.rpartition("<answer>")
    return inside if opened else None


def _leading_number(text: str) -> str | None:
    match = _NUMBER.match(text.lstrip())
    return None if match is None else match[0]


def _last_number(text: str) -> str | None:
    found = _NUMBER.findall(text)
    return found[-1] if found else None


def _options(record: Record) -> dict[str, str]:
    """Options by letter, of texts such as "A. chair"."""
    options = {}
    for option in texts_field(record, "options"):
        match = _OPTION.match(option)
        if match is None:
            raise RecordError(
                f'options: {option[:80]!r} does not begin with a letter, as "A. chair"'
            )
        options[match[1].upper()] = option[match.end() :]
    return options


BENCHMARK = Benchmark(
    name="vsi-bench",
    rules={"official": official, "vlmevalkit": vlmevalkit, "lmms-eval": lmms_eval},
    cut_rules={"vlmevalkit": vlmevalkit_cut},
    figures=figures,
    headline=lambda _: "overall",
    ids=("id",),
    fields=("question_type", "dataset", "scene_name"),
    sizes=(5130,),
    missing=missing,
    lax={"official": "lmms-eval"},
    judge={"vlmevalkit": "none: where the option finder is undecided there is no answer"},
)
