"""MathVision: a letter or a LaTeX value, cut out and cleaned by rule (benchmarks.md section 2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

from m2r_train.benchmarks.base import (
    Benchmark,
    Judged,
    Record,
    Row,
    accuracy,
    as_float,
    groups_of,
    lettered,
    text_field,
    texts_field,
)
from m2r_train.benchmarks.figures import prefixed
from m2r_train.benchmarks.options import find_option
from m2r_train.benchmarks.values import MAX_CHARS, latex_value, plain_value
from m2r_train.core.estimates import Figure

_PHRASES = (
    "the final answer is",
    "the answer is",
    "the correct answer is",
    "the answer should be",
)

# In order: what is deleted, and what is replaced.
_CLEANING = (
    *((" ", ""), (r"\,", ""), ("∞", r"\infty"), (r"+\infty", r"\infty"), (r"\\", "\\")),
    *((old, "") for old in ("\n", r"\text", r"\mbox", r"\left", r"\right")),
    *((old, "") for old in (r"^{\circ}", r"^\circ", "{m}^3", "m^3", "{units}", "units")),
    *(("{km}", ""), ("km", ""), ("bmatrix", "pmatrix")),
)
_STRIPPING = (
    *(("tfrac", "frac"), ("dfrac", "frac"), (r"\!", ""), (r"\$", ""), ("$", ""), (r"\%", "")),
)
_GROUPINGS = {
    "level": ("level",),
    "subject": ("subject",),
    "subject_level": ("subject", "level"),
}

_BARE_ROOT = re.compile(r"\\sqrt([^{])")
_BARE_FRACTION = re.compile(r"\\frac([^{])([^{]|(?=\{))")
_BARE_POINT = re.compile(r"(^|[ {])\.(?=[0-9])")
_SLASH = re.compile(r"(-?[0-9]+)/(-?[0-9]+)")
_BRACKETED_LETTERS = (re.compile(r"\(([a-e])\)"), re.compile(r"\{([a-e])\}"))


def official(record: Record, text: str) -> Judged:
    """The answer or the text of its option, equal as text or as numbers to two decimals."""
    cut = extract(text)
    return Judged(cut, float(any(is_equal(truth, cut) for truth in _truths(record))))


def vlmevalkit(record: Record, text: str) -> Judged:
    """Options by the option finder; else equal as text, or as numbers within 1e-6."""
    truth = text_field(record, "answer")
    options = texts_field(record, "options")
    if options:
        letter = find_option(text, lettered(options))
        return Judged(letter, float(letter is not None and letter.lower() == truth.lower().strip()))
    return Judged(text, float(is_equal_closely(truth, text)))


def extract(text: str) -> str:
    """The published extraction: a letter, what follows "is", a phrase or the last box; cleaned."""
    text = text.strip()
    for letter in "ABCDE":
        ends = (f" {letter}.", f" ({letter}).")
        starts = (f"{letter}\n", f"({letter})\n", f"({letter}) {letter}\n")
        if text.endswith(ends) or text.startswith(starts):
            text = letter
    last = text.rpartition("is ")[2].rstrip(".")
    if as_float(last) is not None:
        text = last
    text = _unbracketed(_cleaned(_boxed_or_phrase(text)))
    return text.rstrip(".").lstrip(":").strip()


def is_equal(a: str, b: str) -> bool:
    """Equal as trimmed text, as tuples, or as numbers; numbers count to two decimals."""
    a, b = a.lower(), b.lower()
    if not a.strip() or not b.strip():
        return False
    if a.strip() == b.strip():
        return True
    left, right = _tuple(a), _tuple(b)
    if left is None or right is None:
        return False
    if left == right:
        return True
    if isinstance(left, tuple) or isinstance(right, tuple):  # (1,234) is no number
        return False
    x, y = _two_decimals(a), _two_decimals(b)
    return x is not None and x == y


def is_equal_closely(a: str, b: str) -> bool:
    """Equal as trimmed text; as plain arithmetic; or as LaTeX; numbers within 1e-6."""
    a, b = a.strip().lower(), b.strip().lower()
    if not a or not b:
        return False
    if a == b:
        return True

    def close(value: Callable[[str], float | None]) -> bool:
        x, y = value(a), value(b)
        return x is not None and y is not None and abs(x - y) < 1e-6

    return close(plain_value) or close(lambda text: latex_value(text, mixed=True, degrees=True))


def figures(rows: Sequence[Row]) -> dict[str, Figure]:
    """Accuracy overall, by level, by subject, and by subject and level."""
    out = {"accuracy": accuracy(rows)}
    for name, fields in _GROUPINGS.items():
        groups = groups_of(rows, partial(_joined, fields))
        out |= prefixed(name, {k: accuracy(own) for k, own in groups.items()})
    return out


def _joined(fields: Sequence[str], record: Record) -> str | None:
    values = [record.get(field) for field in fields]
    return None if None in values else "/".join(map(str, values))


def _truths(record: Record) -> list[str]:
    answer = text_field(record, "answer")
    option = lettered(texts_field(record, "options")).get(answer)
    return [answer] if option is None else [answer, option]


def _boxed_or_phrase(text: str) -> str:
    boxes = text.count("oxed{")
    if boxes > 1:
        return "oxed{" + text.rpartition("oxed{")[2]
    if boxes == 1:
        return text
    for phrase in _PHRASES:
        for written in (phrase, phrase.replace("the", "The")):
            _, found, rest = text.rpartition(written)
            text = rest.strip()
            if found:
                text = text.split("\n", 1)[0].split(". ", 1)[0]
    return text


def _cleaned(text: str) -> str:
    text = text.lower().replace("{}", "")
    start, end = text.find("oxed{"), text.rfind("}")
    if 0 <= start < end:
        text = text[start + len("oxed{") : end]
    opened, closed = text.find("{"), text.find("}")
    if closed >= 0 and not 0 <= opened < closed:
        text = text[:closed]
    text = text.rpartition("=")[2].rpartition(r"\approx")[2]
    for old, new in _CLEANING:
        text = text.replace(old, new)
    return _stripped(text)


def _stripped(text: str) -> str:
    """The cleaning of the MATH data set."""
    for old, new in _STRIPPING:
        text = text.replace(old, new)
    text = _BARE_POINT.sub(r"\g<1>0.", text.split(r"\text{ ", 1)[0])
    for sign in ("=", r"\approx"):
        if text.count(sign) == 1:
            text = text.partition(sign)[2]
    if "sqrt" in text:
        text = _BARE_ROOT.sub(r"\\sqrt{\1}", text)
        text = _BARE_FRACTION.sub(_braced, text)
    if text == "0.5":
        text = r"\frac{1}{2}"
    if slash := _SLASH.fullmatch(text):
        text = rf"\frac{{{slash[1]}}}{{{slash[2]}}}"
    return text


def _braced(match: re.Match[str]) -> str:
    bottom = f"{{{match[2]}}}" if match[2] else ""
    return rf"\frac{{{match[1]}}}{bottom}"


def _unbracketed(text: str) -> str:
    for bracketed in _BRACKETED_LETTERS:  # one after the other: {(b)} is a letter too
        text = bracketed.sub(r"\1", text)
    return text


def _tuple(text: str) -> tuple[str | float, ...] | str | None:
    """A tuple's brackets and elements; any other text as it is; None where an element fails."""
    text = text.strip()
    if len(text) > MAX_CHARS or text[:1] + text[-1:] not in ("()", "[]") or "," not in text:
        return text
    elements: list[str | float] = [text[0]]
    for element in text[1:-1].split(","):
        if "infty" in element or element in ("a", "-a"):
            elements.append(element)
            continue
        number = _two_decimals(element)
        if number is None:
            return None
        elements.append(number)
    return (*elements, text[-1])


def _two_decimals(text: str) -> float | None:
    value = latex_value(text)
    return None if value is None else round(value, 2)


BENCHMARK = Benchmark(
    name="mathvision",
    rules={"official": official, "vlmevalkit": vlmevalkit},
    figures=figures,
    headline=lambda _: "accuracy",
    ids=("id",),
    fields=("level", "subject"),
    sizes=(3040, 304),  # test, testmini
    judge={"vlmevalkit": "none: the option finder and the text as it is"},
)
