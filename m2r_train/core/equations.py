r"""The equations that a text states in plain numbers, and whether they hold.

``12 * 5 = 60``, ``\(2 \times 8 - 6 = 10\)``, ``9 × 6 = 54``. Only sums, products and quotients
of written numbers are read, by an own grammar over exact fractions; letters end an equation, so
that ``3x + 7 = 22`` states nothing that can be checked here. Linear in the text;
nothing is evaluated that is not a number or one of the four operations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

MAX_CHARS = 20_000  # a longer text is read up to here
_MAX_DIGITS = 18  # longer numbers are identifiers, not quantities
_MAX_TOKENS = 64  # of one side

_NUMBER = r"[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?"
_RUN = re.compile(rf"(?:{_NUMBER}|[-+*/()=≈]|[ \t])+")
_TOKEN = re.compile(rf"{_NUMBER}|[-+*/()]")
_FUNCTION = re.compile(r"(?:sin|cos|tan|log|ln|sqrt|exp|√)\s*$", re.IGNORECASE)

_OPERATORS = (
    (re.compile(r"\\(?:times|cdot)(?![a-z])|[×·⋅]"), "*"),
    (re.compile(r"\\div(?![a-z])|÷"), "/"),
    (re.compile(r"\\approx(?![a-z])"), "≈"),
    (re.compile(r"\\[()\[\]]|\$"), " "),
    (re.compile("[−–]"), "-"),
    (re.compile(r"(?<=\d) +times +(?=\d)"), " * "),
    (re.compile(r"(?<=\d) +plus +(?=\d)"), " + "),
    (re.compile(r"(?<=\d) +minus +(?=\d)"), " - "),
    (re.compile(r"(?<=\d) +divided by +(?=\d)"), " / "),
)


@dataclass(frozen=True, slots=True)
class Equation:
    """One ``left = right`` between positions ``start`` and ``end`` of `plain_operators` text."""

    start: int
    end: int
    result: Fraction
    holds: bool


def plain_operators(text: str) -> str:
    """The text with ``*``, ``/`` and ``-`` for their many signs, cut at `MAX_CHARS`."""
    text = text[:MAX_CHARS]
    for pattern, sign in _OPERATORS:
        text = pattern.sub(sign, text)
    return text


def equations(text: str) -> list[Equation]:
    """The equations of a text that went through `plain_operators`, in order.

    ``a = b = c`` are two. A side rounded to d decimals holds within half of its last place; after
    ``≈`` within 5 percent.
    """
    return [found for run in _RUN.finditer(text) if "=" in run[0] or "≈" in run[0]
            for found in _of_run(text, run)]  # fmt: skip


def _of_run(text: str, run: re.Match[str]) -> Iterator[Equation]:
    sides = re.split("([=≈])", run[0])
    values = [_side(part) for part in sides[::2]]
    compound = [len(_TOKEN.findall(part)) > 1 for part in sides[::2]]
    if _goes_on_before(text, run.start(), sides[0]):
        values[0] = None
    if _goes_on_after(text, run.end(), sides[-1]):
        values[-1] = None
    at = run.start() + len(sides[0])
    for k in range(len(values) - 1):
        left, right, sign = values[k], values[k + 1], sides[2 * k + 1]
        end = at + 1 + len(sides[2 * k + 2])
        told = compound[k] or compound[k + 1] or k > 0
        if left is not None and right is not None and told:
            holds = abs(left - right) <= _slack(sides[2 * k + 2], right, sign)
            yield Equation(at - len(sides[2 * k]), end, right, holds)
        at = end


def _goes_on_before(text: str, start: int, side: str) -> bool:
    """Whether the first side is only the end of something: of ``3x + 7``, ``f(2)``, ``cos 60``."""
    before = text[max(0, start - 8) : start]
    if not before or _FUNCTION.search(before):
        return bool(before)
    joined = not side[:1].isspace() and (before[-1].isalnum() or before[-1] in "_^\\})%.")
    hangs = side.strip()[:1] in tuple("+-*/)") and before[-1] not in "\n:,;"
    return joined or hangs


def _goes_on_after(text: str, end: int, side: str) -> bool:
    after = text[end : end + 1]
    joined = bool(after) and (after.isalpha() or after in "_^\\!%{°²³")
    return (joined and not side[-1:].isspace()) or side.strip()[-1:] in tuple("+-*/(")


def _slack(side: str, value: Fraction, sign: str) -> Fraction:
    if sign == "≈":
        return abs(value) / 20
    decimals = len(side.strip().partition(".")[2]) if re.fullmatch(r"[-\d.,\s]+", side) else 0
    return Fraction(1, 2 * 10 ** min(decimals, _MAX_DIGITS)) if decimals else Fraction(0)


def _side(text: str) -> Fraction | None:
    """The value of a side; None when it is no expression, divides by zero or is too long."""
    tokens = _TOKEN.findall(text)
    if not 0 < len(tokens) <= _MAX_TOKENS or any(len(t) > _MAX_DIGITS for t in tokens):
        return None
    if re.search(r"\d\s+[\d(]|\)\s*\d", text):
        return None
    try:
        value, rest = _sum(tokens)
    except (ValueError, ZeroDivisionError, IndexError):
        return None
    return None if rest else value


def _sum(tokens: list[str]) -> tuple[Fraction, list[str]]:
    value, tokens = _product(tokens)
    while tokens and tokens[0] in "+-":
        sign = 1 if tokens[0] == "+" else -1
        term, tokens = _product(tokens[1:])
        value += sign * term
    return value, tokens


def _product(tokens: list[str]) -> tuple[Fraction, list[str]]:
    value, tokens = _factor(tokens)
    while tokens and tokens[0] in "*/(":
        divides, implied = tokens[0] == "/", tokens[0] == "("
        factor, tokens = _factor(tokens if implied else tokens[1:])
        value = value / factor if divides else value * factor
    return value, tokens


def _factor(tokens: list[str]) -> tuple[Fraction, list[str]]:
    if tokens[0] == "-":
        value, tokens = _factor(tokens[1:])
        return -value, tokens
    if tokens[0] == "(":
        value, tokens = _sum(tokens[1:])
        if tokens[0] != ")":
            raise ValueError
        return value, tokens[1:]
    return Fraction(tokens[0].replace(",", "")), tokens[1:]
