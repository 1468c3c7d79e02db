r"""The number that a LaTeX or arithmetic expression is, in doubles and in linear time.

The published scorers hand a model's text to ``eval`` and to sympy. Here a small grammar reads it:
numbers, ``+ - * / ^``, ``\frac``, ``\sqrt[n]{}``, ``\pi``, a few functions, brackets. Length and
nesting are capped before any arithmetic, all of which is on doubles: a tower of powers overflows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

MAX_CHARS = 512
_MAX_DEPTH = 40

_TOKEN = re.compile(
    r"\s*(?:(?P<number>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]*)?|[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
    r"|(?P<command>\\[A-Za-z]+|\\[^A-Za-z]?)|(?P<mark>\S))"
)
_PLAIN = re.compile(r"[0-9.eE+\-*/() ]+")
_PLAIN_POWER = re.compile(r"\*\*\s*([0-9]+(?:\.[0-9]*)?)")
_PLAIN_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE]([+-]?[0-9]{1,3})")

_IGNORED = {r"\left", r"\right", r"\displaystyle", r"\,", r"\!", r"\;", r"\:", r"\ ", "$"}
_SAME = {r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\cdot": "*", r"\times": "*", "×": "*"} | {
    **{r"\div": "/", "÷": "/", "−": "-", "π": r"\pi", r"\ast": "*"}
}
_CLOSERS = {"(": ")", "{": "}", "[": "]"}
_FUNCTIONS: dict[str, Callable[[float], float]] = {
    r"\sin": math.sin,
    r"\cos": math.cos,
    r"\tan": math.tan,
    r"\ln": math.log,
    r"\exp": math.exp,
}


class _NotANumber(Exception):  # noqa: N818 - never leaves this module
    """Something in the expression is no number."""


def latex_value(text: str, *, mixed: bool = False, degrees: bool = False) -> float | None:
    r"""The finite value of an expression; None for anything else.

    A number before a bracket, a root or a fraction multiplies it; with ``mixed``, ``2\frac{1}{4}``
    is 2.25. With ``degrees`` a degree sign behind a number is dropped; else it is no number.
    """
    if len(text) > MAX_CHARS:
        return None
    tokens = [_SAME.get(t, t) for t in _tokens(text) if t not in _IGNORED]
    if degrees:
        tokens = _without_degrees(tokens)
    try:
        value = _Reader(tokens, mixed=mixed).read()
    except (_NotANumber, OverflowError, ValueError, ZeroDivisionError):
        return None
    return value if math.isfinite(value) else None


def plain_value(text: str) -> float | None:
    """The value of plain arithmetic, as the language would evaluate it: ``1/7``, ``2**3``, ``1e3``.

    Powers are ``**`` only, a number before a bracket is no product.
    """
    if len(text) > MAX_CHARS or not _PLAIN.fullmatch(text) or re.search(r"[0-9.)]\s*\(", text):
        return None
    text = _PLAIN_NUMBER.sub(r"(\1*10^{\2})", text)
    text = _PLAIN_POWER.sub(r"^{\1}", text)  # all of its digits, unlike TeX
    return latex_value(text.replace("**", "^"))


def _tokens(text: str) -> list[str]:
    tokens, at = [], 0
    while match := _TOKEN.match(text, at):
        tokens.append(match[0].strip())
        at = match.end()
    return tokens


def _without_degrees(tokens: list[str]) -> list[str]:
    """Without ``^\\circ``, ``^{\\circ}`` and the sign itself."""
    text = "\n".join(tokens)
    for sign in ("^\n{\n\\circ\n}", "^\n\\circ", "\\degree", "°"):
        text = text.replace(sign, "")
    return [token for token in text.split("\n") if token]


class _Reader:
    """Recursive descent over a list of tokens."""

    def __init__(self, tokens: list[str], *, mixed: bool) -> None:
        self.tokens, self.mixed = tokens, mixed
        self.at = self.depth = 0

    def read(self) -> float:
        value = self.sum()
        if self.at < len(self.tokens):
            raise _NotANumber
        return value

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, *expected: str) -> str:
        """The next token if it is one of the expected ones, else nothing."""
        token = self.peek()
        if not token or (expected and token not in expected):
            return ""
        self.at += 1
        return token

    def sum(self) -> float:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise _NotANumber
        value = self.signed()
        while sign := self.take("+", "-"):
            term = self.signed()
            value = value + term if sign == "+" else value - term
        self.depth -= 1
        return value

    def signed(self) -> float:
        sign = 1.0
        while mark := self.take("+", "-"):
            sign = -sign if mark == "-" else sign
        return sign * self.product()

    def product(self) -> float:
        value = self.power()
        while True:
            if self.take("*"):
                value *= self.factor()
            elif self.take("/"):
                value /= self.factor()
            elif self.begins_factor():
                value *= self.power()
            else:
                return value

    def factor(self) -> float:
        """A factor after a sign of multiplication, which may have a sign of its own."""
        sign = -1.0 if self.take("-", "+") == "-" else 1.0
        return sign * self.power()

    def begins_factor(self) -> bool:
        token = self.peek()
        return token in ("(", "{", r"\frac", r"\sqrt", r"\pi", r"\log") or token in _FUNCTIONS

    def power(self) -> float:
        base = self.atom()
        if not self.take("^"):
            return base
        sign = -1.0 if self.take("-") else 1.0
        return math.pow(base, sign * self.argument())

    def atom(self) -> float:
        token = self.take()
        if token[:1].isdigit() or (token[:1] == "." and len(token) > 1):
            return self.number(token)
        if token in _CLOSERS and token != "[":
            return self.until(_CLOSERS[token])
        return self.command(token)

    def command(self, token: str) -> float:
        if token == r"\frac":
            return self.fraction()
        if token == r"\sqrt":
            degree = self.until("]") if self.take("[") else 2.0
            return _root(self.argument(), degree)
        if token == r"\pi":
            return math.pi
        if token == r"\log":
            base = self.argument() if self.take("_") else 10.0
            return math.log(self.operand()) / math.log(base)
        if token in _FUNCTIONS:
            return _FUNCTIONS[token](self.operand())
        raise _NotANumber

    def number(self, token: str) -> float:
        value = float(token.replace(",", ""))
        if self.mixed and token.isdigit() and self.tokens[self.at : self.at + 1] == [r"\frac"]:
            self.at += 1
            return value + self.fraction()
        return value

    def fraction(self) -> float:
        top = self.argument()
        return top / self.argument()

    def operand(self) -> float:
        """What a function is applied to: the next factor."""
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise _NotANumber
        value = self.power()
        self.depth -= 1
        return value

    def argument(self) -> float:
        r"""A braced group, or the one digit or command that TeX would take: ``\frac12``."""
        token = self.peek()
        if token.isdigit() and len(token) > 1:
            self.tokens[self.at] = token[1:]
            return float(token[0])
        return self.operand_without_power()

    def operand_without_power(self) -> float:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise _NotANumber
        value = self.atom()
        self.depth -= 1
        return value

    def until(self, closer: str) -> float:
        value = self.sum()
        if not self.take(closer):
            raise _NotANumber
        return value


def _root(value: float, degree: float) -> float:
    if degree == 2.0:
        return math.sqrt(value)
    if value < 0 and degree % 2 == 1:
        return -math.pow(-value, 1 / degree)
    return math.pow(value, 1 / degree)
