"""We-Math: what the steps and the whole of a problem say of its mastery (benchmarks.md 5)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from m2r_train.benchmarks.base import (
    Benchmark,
    Judged,
    Record,
    Row,
    accuracy,
    choice_field,
    text_field,
)
from m2r_train.benchmarks.figures import grouped
from m2r_train.benchmarks.options import find_option
from m2r_train.core.estimates import Figure, mean

PROBLEMS = 525
"""The published script divides by this T whatever the number of rows, and so counts problems that
are absent as right. Here T is the number of problems that are there: the same for a whole set.
"""

_PARTS = {
    2: ("2steps_1", "2steps_2", "2steps_multi"),
    3: ("3steps_1", "3steps_2", "3steps_3", "3steps_multi"),
}
_KEYS = (*_PARTS[2], *_PARTS[3])
_WORTH = {"CM": 1.0, "IG": 0.5, "RM": 0.0, "IK": 0.0}
_DROPPED = str.maketrans("", "", "<>:.")
_OPTION = re.compile(r"(?:^|;)\s*([A-H])\s*[.:]\s*")


class Problem(NamedTuple):
    """Which one-step questions of a problem are right, and whether the whole is."""

    steps: tuple[bool, ...]
    whole: bool


def official(record: Record, text: str) -> Judged:
    """The first character after the last "Answer", marks dropped, if it is in A..H."""
    truth = _truth(record)
    rest = text.rpartition("Answer")[2].strip().translate(_DROPPED).strip()
    letter = rest[:1] if rest[:1] and rest[0] in "ABCDEFGH" else None
    return Judged(letter, float(letter == truth))


def vlmevalkit(record: Record, text: str) -> Judged:
    """The option finder."""
    truth = _truth(record)
    parts = _OPTION.split(text_field(record, "option"))
    options = dict(zip(parts[1::2], (p.strip() for p in parts[2::2]), strict=True))
    letter = find_option(text, options)
    return Judged(letter, float(letter == truth))


def figures(rows: Sequence[Row]) -> dict[str, Figure]:
    """Score, the shares of IK, IG, CM and RM, strict and loose, and accuracy by steps.

    Every figure is by problem: its sub-problems are a cluster.
    """
    problems = _problems(rows)
    out: dict[str, Figure] = {}
    for setting in ("strict", "loose"):
        kinds = {name: kind(one, loose=setting == "loose") for name, one in problems.items()}
        out[f"score_{setting}"] = _score(kinds)
        out |= {} if "ik" in out else {"ik": _rate(kinds, "IK"), "ig": _rate(kinds, "IG")}
        out[f"cm_{setting}"] = _rate(kinds, "CM")
        out[f"rm_{setting}"] = _rate(_among(kinds, "CM", "RM"), "RM")
    out["s1"] = accuracy([row for row in rows if not _is_whole(row.record)], _id)
    for steps in (2, 3):
        wholes = [row for row in rows if row.record["key"] == f"{steps}steps_multi"]
        out[f"s{steps}"] = accuracy(wholes, _id)
    return out


def kind(problem: Problem, *, loose: bool) -> str:
    """IK (insufficient knowledge), IG (inadequate generalisation), CM (complete mastery) or RM
    (rote memorisation) of a problem.
    """
    if not problem.whole:
        return "IG" if all(problem.steps) else "IK"
    mastered = any(problem.steps) if loose else all(problem.steps)
    return "CM" if mastered else "RM"


def missing(records: Sequence[Record]) -> list[str]:
    """Problems that lack a sub-problem, and how many of the 525 problems are absent."""
    lacking = []
    problems = grouped(records, _id)
    for name, own in problems.items():
        keys = [str(record.get("key")) for record in own]
        absent = [key for key in _parts_of(keys) if key not in keys]
        if absent:
            lacking.append(f"problem {name}: {', '.join(absent)}")
        elif len(keys) > len(_parts_of(keys)):
            lacking.append(f"problem {name}: a sub-problem occurs twice")
    if len(problems) < PROBLEMS:
        lacking.append(f"{PROBLEMS - len(problems)} of {PROBLEMS} problems")
    return lacking


def _problems(rows: Sequence[Row]) -> dict[str, Problem]:
    """The problems of which all sub-problems are there, by ID."""
    problems = {}
    for name, own in grouped(rows, lambda row: _id(row.record)).items():
        right = {row.record["key"]: row.score == 1.0 for row in own}
        parts = _parts_of(list(right))
        if set(parts) <= right.keys():
            *steps, whole = (right[key] for key in parts)
            problems[name] = Problem(tuple(steps), whole)
    return problems


def _score(kinds: Mapping[str, str]) -> Figure:
    """(T - IG / 2 - RM - IK) / T, T being the problems that are there: the mean of their worth."""
    return mean([_WORTH[k] for k in kinds.values()], list(kinds))


def _rate(kinds: Mapping[str, str], name: str) -> Figure:
    """A count over the number of problems."""
    return mean([float(k == name) for k in kinds.values()], list(kinds))


def _among(kinds: Mapping[str, str], *names: str) -> dict[str, str]:
    return {problem: k for problem, k in kinds.items() if k in names}


def _parts_of(keys: Sequence[str]) -> tuple[str, ...]:
    return _PARTS[3] if any(key.startswith("3") for key in keys) else _PARTS[2]


def _truth(record: Record) -> str:
    _id(record)
    choice_field(record, "key", _KEYS)
    return text_field(record, "answer")


def _is_whole(record: Record) -> bool:
    return str(record["key"]).endswith("_multi")


def _id(record: Record) -> str:
    return text_field(record, "ID")


BENCHMARK = Benchmark(
    name="we-math",
    rules={"official": official, "vlmevalkit": vlmevalkit},
    figures=figures,
    headline=lambda _: "score_strict",
    ids=("ID",),
    fields=("ID", "key"),
    sizes=(1740,),
    missing=missing,
    judge={"vlmevalkit": "none: where the option finder is undecided there is no answer"},
)
