"""LogicVista: the letters chosen, all or nothing (benchmarks.md section 6).

The published scorers ask a model for the letters that a response chose. Here they are read from an
answer that consists of letters, or begins with one ("C. 22.6"); a whole solution is not understood.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from m2r_train.benchmarks.base import Benchmark, Judged, Record, Row, accuracy, text_field
from m2r_train.benchmarks.figures import prefixed
from m2r_train.core.answers import option_letter
from m2r_train.core.estimates import Figure
from m2r_train.core.latex import plain

SKILLS = ("inductive", "deductive", "numerical", "spatial", "mechanical")

_SEPARATOR = re.compile(r"[\s,;/&()\[\].]+|\band\b")
_MAX_ANSWER_CHARS = 500


def official(record: Record, text: str) -> Judged:
    """The lists of letters are equal, whatever their order and case; duplicates count."""
    return compared(record, chosen_letters(text))


def compared(record: Record, chosen: Sequence[str] | None) -> Judged:
    """The letters that a text chose against the answer's; None chose nothing."""
    truth = sorted(text_field(record, "answer").lower().split(", "))
    if chosen is None:
        return Judged(None, 0.0)
    return Judged(", ".join(chosen), float(sorted(c.lower() for c in chosen) == truth))


def chosen_letters(text: str) -> list[str] | None:
    """The characters that a text chose; [""] of an empty one; None where it has no answer.

    Of a single character only a..e (any case) and digits count: the published shortcut.
    """
    text = text.strip()
    if not text:
        return [""]
    if len(text) == 1:
        declined = text.lower() not in "abcde" if text.isalpha() else not text.isdigit()
        return None if declined else [text]
    return _listed(text)


def vlmevalkit(record: Record, text: str) -> Judged:
    """Capitals only, as one string ("AC"); a list of capitals is such a string too."""
    truth = "".join(sorted(text_field(record, "answer").lower().split(", ")))
    text = text.strip()
    letters = text if text.isalpha() and text.isupper() else "".join(_listed(text) or ())
    if not (letters.isalpha() and letters.isupper()) or letters == "Z":
        return Judged(None, 0.0)
    return Judged(letters, float("".join(sorted(letters.lower())) == truth))


def figures(rows: Sequence[Row]) -> dict[str, Figure]:
    """Accuracy overall and by skill (a row counts for each skill that its field names)."""
    by_skill = {
        skill: [row for row in rows if skill in str(row.record.get("skill", ""))]
        for skill in SKILLS
    }
    skills = {skill: accuracy(own) for skill, own in by_skill.items() if own}
    return {"accuracy": accuracy(rows), **prefixed("skill", skills)}


def _listed(text: str) -> list[str] | None:
    """ "A, C", "A and C" and "(B)" as their letters; of "C. 22.6" and "C. 5" the first."""
    if len(text) > _MAX_ANSWER_CHARS:
        return None
    items = [item for item in _SEPARATOR.split(plain(text)) if item]
    if items and all(len(item) == 1 and item.isalpha() for item in items):
        return items
    if len(items) == 1 and len(items[0]) == 1 and items[0].isdigit():
        return items
    letter = option_letter(text)
    return None if letter is None else [letter]


_LETTERS_ONLY = "none: an answer of letters, or one that begins with an option's letter"

BENCHMARK = Benchmark(
    name="logicvista",
    rules={"official": official, "vlmevalkit": vlmevalkit},
    figures=figures,
    headline=lambda _: "accuracy",
    ids=("imagename",),
    fields=("skill",),
    sizes=(448,),
    judge={"official": _LETTERS_ONLY, "vlmevalkit": _LETTERS_ONLY},
)
