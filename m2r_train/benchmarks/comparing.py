"""Two files of answers to the same questions: which answer goes with which, and who won.

The difference of every figure is that of `core.estimates.difference`, as between two evaluations
(`benchmarks.pairing`); here the answers come without a run around them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from m2r_train.benchmarks.base import Benchmark, Record
from m2r_train.benchmarks.scoring import Result, named
from m2r_train.core.estimates import Difference, difference

_OWN = frozenset({"id", "prediction", "extracted", "score", "cut", "lax", "against", "error"})
"""What an answer may have of its own beside the question: also a line of ``samples.jsonl``."""

_SHOWN_CHARS = 80


class OtherQuestions(ValueError):  # noqa: N818 - told by whoever knows the files' names
    """The answers are to other questions; the message says which, without a remedy."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The first set of answers less the second, by figure, in shares; and on how many questions the
    first one's score is higher, lower, the same.
    """

    differences: dict[str, Difference]
    won: int
    lost: int
    tied: int


def answers_in_order(
    benchmark: Benchmark, records: Sequence[Record], others: Sequence[Record]
) -> list[dict[str, Any]]:
    """``records`` with the predictions of ``others`` to the same questions.

    They are matched by id. Others may be whole records, or ids with predictions alone; what both
    have of a question must be equal. Raises OtherQuestions.
    """
    theirs = dict(zip(_keys(benchmark, others), others, strict=True))
    keys = _keys(benchmark, records)
    ours = set(keys)
    if ours != theirs.keys():
        shared = len(ours & theirs.keys())
        alone = next(key for key in [*keys, *theirs] if key not in theirs or key not in ours)
        raise OtherQuestions(
            f"different questions ({len(keys)} and {len(theirs)}, {shared} of them by the same id; "
            f"only one has {_told(alone)})"
        )
    return [_answered(record, theirs[key], key) for key, record in zip(keys, records, strict=True)]


def compared(ours: Result, theirs: Result) -> Comparison:
    """Both are of the same records, in the same order, each with a score."""
    pairs = [(a["score"], b["score"]) for a, b in zip(ours.samples, theirs.samples, strict=True)]
    gaps = {
        name: difference(figure, theirs.figures[name])
        for name, figure in ours.figures.items()
        if name in theirs.figures
    }
    return Comparison(
        {name: gap for name, gap in gaps.items() if gap is not None},
        won=sum(a > b for a, b in pairs),
        lost=sum(a < b for a, b in pairs),
        tied=sum(a == b for a, b in pairs),
    )


def _keys(benchmark: Benchmark, records: Sequence[Record]) -> list[tuple[str, int]]:
    """What tells each record from the others: its id, and which of those with this id it is."""
    seen: Counter[str] = Counter()
    keys = []
    for number, record in enumerate(records):
        name = json.dumps(named(benchmark, record, number), sort_keys=True)
        seen[name] += 1
        keys.append((name, seen[name]))
    return keys


def _answered(record: Record, other: Record, key: tuple[str, int]) -> dict[str, Any]:
    for name in record.keys() & other.keys() - _OWN:
        if record[name] != other[name]:
            raise OtherQuestions(f"different questions (of {_told(key)} {name} is not the same)")
    question = {name: value for name, value in record.items() if name != "prediction"}
    return question | {"prediction": other.get("prediction")}


def _told(key: tuple[str, int]) -> str:
    return key[0][:_SHOWN_CHARS]
