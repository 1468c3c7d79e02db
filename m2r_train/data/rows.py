"""One record of a user's dataset (a mapping from JSON or Parquet) to a Sample."""

from __future__ import annotations

import decimal
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import cast, get_args

from m2r_train.core.answers import equivalent
from m2r_train.core.contract import extract_answer, format_valid
from m2r_train.core.expressions import read
from m2r_train.core.numerals import parse_number
from m2r_train.core.records import AnswerType, Domain, RewardKind, Sample
from m2r_train.data.choices import option_letter, plain_options
from m2r_train.data.media import Album
from m2r_train.data.problem import Problem, ProblemKind

FIELDS = (
    "id",
    "question",
    "answer",
    "image",
    "images",
    "video",
    "options",
    "answer_type",
    "unit",
    "reward",
    "domain",
    "task",
    "chain",
)
"""The names that a record is read by, and that ``columns`` may map to a user's own."""

MAX_TEXT = 200_000
MAX_ID = 200

# An undeclared answer counts as a number only in plain digits: of "3 m", "12 %" or "1/2" only
# their author knows whether the unit or the form belongs to the answer.
_PLAIN_NUMBER = re.compile(r"[-+]?[0-9.,]+(?:[eE][-+]?[0-9]+)?")
# Nor is "1/2" or "10:30" taken for mathematics, but what is written in LaTeX or with powers is.
_MATHEMATICS = re.compile(r"\\[A-Za-z{]|[\^√π]")
_BARE_LETTER = re.compile(r"\(?([A-Za-z])\)?[.:]?")


def to_sample(row: Mapping[str, object], album: Album, source: str) -> Sample:
    """The sample of a record under our names (see FIELDS); everything else in it is ignored.

    What is left out: ``options`` make a choice question; else an answer that reads as a number
    makes a number question, mathematics in LaTeX an expression; all else is text. The reward is
    exact match, the domain general, the task the source's name, the id a hash of source, question,
    options, answer and pictures.

    Raises:
        Problem: the record cannot be used.
    """
    question = _text(row, "question", missing="no question")
    answer = _text(row, "answer", missing="no answer")
    if not question:
        raise Problem("no question", "no question")
    if not answer:
        raise Problem("no answer", "no answer")
    options = _options(row.get("options"))
    answer_type = _one_of(row, "answer_type", get_args(AnswerType)) or _infer(answer, options)
    answer = _settle(answer, cast(AnswerType, answer_type), options)
    reward = _one_of(row, "reward", get_args(RewardKind)) or "exact"
    if reward == "ednm" and answer_type != "number":
        raise Problem("bad field", f"reward ednm needs a number answer, not {answer_type}")
    if row.get("image") is not None and row.get("images") is not None:
        raise Problem("bad field", "both image and images: give one of them")
    video = row.get("video")
    if video is not None and not isinstance(video, list | tuple):
        raise Problem("bad field", "video: not a list of frames")
    name = "image" if row.get("image") is not None else "images"
    images = album.load(row.get(name), name)
    frames = album.load(video, "video") or None
    content = ((question, answer), options or (), images, frames or ())
    return Sample(
        id=_id(row) or _content_id(source, *content),
        domain=cast(Domain, _one_of(row, "domain", get_args(Domain)) or "general"),
        task=_text(row, "task") or source,
        source=source,
        question=question,
        answer=answer,
        answer_type=cast(AnswerType, answer_type),
        reward=cast(RewardKind, reward),
        images=images,
        video=frames,
        options=options,
        unit=_text(row, "unit") or None,
        chain=_chain(row, answer, cast(AnswerType, answer_type)),
    )


def _infer(answer: str, options: Sequence[str] | None) -> AnswerType:
    if options is not None:
        return "choice"
    if _PLAIN_NUMBER.fullmatch(answer) and parse_number(answer) is not None:
        return "number"
    if _MATHEMATICS.search(answer) and read(answer) is not None:
        return "expression"
    return "text"


def _settle(answer: str, answer_type: AnswerType, options: Sequence[str] | None) -> str:
    """The answer as rewards compare it: a choice becomes its letter; all else stays as it is."""
    if answer_type == "choice" and options is not None:
        try:
            return option_letter(answer, options)
        except ValueError as error:
            raise Problem("bad answer", f"answer {error}") from error
    if answer_type == "choice":  # the options stand in the question's text
        if match := _BARE_LETTER.fullmatch(answer):
            return match[1].upper()
        raise Problem("bad answer", f"answer {answer[:40]!r} is no letter and there are no options")
    if answer_type == "number" and parse_number(answer) is None:
        raise Problem("bad answer", f"answer {answer[:40]!r} is not a finite number")
    return answer


def _text(row: Mapping[str, object], name: str, *, missing: ProblemKind = "bad field") -> str:
    """A field as stripped text, "" where it is absent; numbers are written out."""
    value = row.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float | decimal.Decimal):
        raise Problem(missing, f"{name}: {type(value).__name__} instead of text or a number")
    text = value.strip() if isinstance(value, str) else _digits(value, name, missing)
    if len(text) > MAX_TEXT:
        raise Problem("bad field", f"{name}: longer than {MAX_TEXT} characters")
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise Problem("bad field", f"{name}: half of a surrogate pair, which is no valid text")
    return text


def _digits(value: float | decimal.Decimal, name: str, problem: ProblemKind) -> str:
    """A number as text; 3.0 -> "3", as a column of whole numbers with gaps arrives as floats."""
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        raise Problem(problem, f"{name}: {value} is not a finite number")
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)


def _options(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise Problem("bad options", "options: not a list of texts")
    texts = [_text({"options": option}, "options", missing="bad options") for option in value]
    if not texts:
        return None
    if not all(texts):
        raise Problem("bad options", "options: an empty option")
    try:
        return plain_options(texts)
    except ValueError as error:
        raise Problem("bad options", f"options: {error}") from error


def _one_of(row: Mapping[str, object], name: str, allowed: Sequence[str]) -> str:
    value = _text(row, name)
    if value and value not in allowed:
        raise Problem("bad field", f"{name}: {value[:40]!r} is none of {', '.join(allowed)}")
    return value


def _chain(row: Mapping[str, object], answer: str, answer_type: AnswerType) -> str | None:
    """A user's own assistant turn, fit to be learnt from: rewards would give it full marks."""
    chain = _text(row, "chain")
    if not chain:
        return None
    if not format_valid(chain):
        raise Problem("bad chain", "chain: not <think>...</think><answer>...</answer>")
    given = extract_answer(chain) or ""
    if not equivalent(given, answer, answer_type):
        raise Problem("bad chain", f"chain: answers {given[:40]!r}, the answer is {answer[:40]!r}")
    return chain


def _id(row: Mapping[str, object]) -> str:
    value = _text(row, "id")
    if len(value) > MAX_ID:
        raise Problem("bad field", f"id: longer than {MAX_ID} characters")
    return value


def _content_id(source: str, *groups: Sequence[str] | Sequence[bytes]) -> str:
    """``<source>-<128-bit hash>``: the same record has the same id in any file, order or run."""
    digest = hashlib.blake2b(source.encode(), digest_size=16)
    for group in groups:
        digest.update(len(group).to_bytes(4, "little"))  # lengths first: no two records read alike
        for part in group:
            raw = part.encode() if isinstance(part, str) else part
            digest.update(len(raw).to_bytes(8, "little") + raw)
    return f"{source}-{digest.hexdigest()}"
