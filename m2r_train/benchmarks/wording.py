"""What a record of each benchmark asks, to be compared with what others ask.

Not what a model is told (`prompts`): directions that every record of a benchmark shares would make
all of its questions look alike.
"""

from __future__ import annotations

import re

from m2r_train.benchmarks.base import Record, RecordError, text_field
from m2r_train.benchmarks.mathverse import VISION_ONLY

_FIELDS = {
    "mathvista": ("question", "query"),
    "mathverse": ("question", "question_for_eval"),
    "cv-bench": ("question", "prompt"),
}
"""Where it is not ``question`` alone."""

_PROBLEMS = {"mathverse": "problem_index", "dynamath": "id", "we-math": "ID"}
"""What the versions, variants and steps of one problem have in common."""

_HINT = re.compile(r"\AHint:.*?\bQuestion:", re.DOTALL)
"""What stands before the question in MathVista's ``query``."""


def wordings(name: str, record: Record) -> tuple[str, ...]:
    """The texts in which a record of the benchmark called ``name`` asks its question.

    None where the picture alone does (MathVerse, Vision Only). Raises RecordError where there
    should be one.
    """
    fields = _FIELDS.get(name, ("question",))
    given = [text_field(record, field) for field in fields if record.get(field) is not None]
    found = dict.fromkeys(text for one in given if (text := _HINT.sub("", one).strip()))
    if not found and record.get("problem_version") != VISION_ONLY:
        raise RecordError(f"{fields[0]}: has no text; copy the benchmark again")
    return tuple(found)


def problem_of(name: str, record: Record) -> str | None:
    """A name that all versions of the record's problem share, and no other; None: it has none."""
    field = _PROBLEMS.get(name)
    own = None if field is None else record.get(field)
    return None if own is None else f"{name}/{own}"
