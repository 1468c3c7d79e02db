r"""Mathematical answers as trees: what LaTeX or typed arithmetic says, read by an own grammar.

``\frac{\sqrt{8}}{2}``, ``sqrt(8)/2``, ``x^2 - 1``, ``(1, 2]``, ``\{1, 2\}``, ``y = 2x + 3``,
``1 < x \le 3``, ``\begin{pmatrix} 1 & 2 \end{pmatrix}``, ``3 \pm \sqrt{2}``. Nothing is computed
here: a tower of powers costs its characters. Length, nesting and size of trees are capped. What
the grammar does not know has no tree; words are no products of their letters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Final, NamedTuple, TypeAlias

from m2r_train.core.mathtokens import FUNCTIONS, NotMathematics, tokens_of

MAX_CHARS: Final = 512
_MAX_DEPTH: Final = 40

Tree: TypeAlias = tuple[object, ...]
"""``(operation, argument, ..)``; leaves are ``("number", Fraction)`` and ``("symbol", name)``."""


class Collection(NamedTuple):
    """Several answers in brackets; ``brackets`` is ``()``, ``[)``, .., ``{}`` for a set, ``""`` for
    a bare list, ``[[]]`` for a matrix (its rows are collections of brackets ``row``).
    """

    brackets: str
    items: tuple[Answer, ...]


class Relation(NamedTuple):
    """``sides[0] signs[0] sides[1] ..``, signs of ``= ≈ < > ≤ ≥ ≠``."""

    signs: tuple[str, ...]
    sides: tuple[Tree, ...]


class Union(NamedTuple):
    """Sets joined by ``\\cup``."""

    items: tuple[Answer, ...]


Answer: TypeAlias = "Tree | Collection | Relation | Union"

_MAX_ITEMS: Final = 16  # of all lists of an answer: comparing sets is quadratic
_MAX_POSTFIXES: Final = 3
_SIGNS = frozenset("=≈<>≤≥≠")
_CLOSERS = {"(": ")]", "[": ")]", "\\{": ("\\}",), "{": "}"}
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_BARS = {"|": ("|", "absolute"), "⌊": ("⌋", "floor"), "⌈": ("⌉", "ceiling")}
_ANGLES = frozenset({"sin", "cos", "tan", "cot", "sec", "csc"})
_INVERSES = {"sin": "arcsin", "cos": "arccos", "tan": "arctan", "cot": "arccot"}
_WORD = re.compile(r"[^\\\w]*[A-Za-z]{3,}[^\\\w]*")
_DIGITS = frozenset("0123456789.")


def read(text: str) -> Answer | None:
    """The tree of an answer, or None where the grammar knows none, or it is beyond the caps."""
    if len(text) > MAX_CHARS or _WORD.fullmatch(text):
        return None
    try:
        return _Reader(tokens_of(text)).answer()
    except NotMathematics:
        return None


class _Reader:
    """Recursive descent over tokens."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.holds_list = _lists(tokens)
        self.at = self.depth = self.in_angle = self.in_bars = self.items = 0

    # tokens

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, *expected: str) -> str:
        """The next token if it is one of the expected ones, else nothing."""
        token = self.peek()
        if not token or token not in expected:
            return ""
        self.at += 1
        return token

    def need(self, *expected: str) -> str:
        if not (token := self.take(*expected)):
            raise NotMathematics
        return token

    @contextmanager
    def deeper(self) -> Iterator[None]:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise NotMathematics
        yield
        self.depth -= 1

    # answers

    def answer(self) -> Answer:
        """The whole text."""
        found = self.listed()
        if self.at < len(self.tokens):
            raise NotMathematics
        if len(found) == 1:
            return found[0]
        return Collection("", tuple(found))

    def listed(self) -> list[Answer]:
        items = [self.item()]
        while self.take(","):
            items.append(self.item())
        self.items += len(items)
        if len(items) > 1 and self.items > _MAX_ITEMS:
            raise NotMathematics
        return items

    def item(self) -> Answer:
        """One of a list: a union of sets, a relation or an expression."""
        begin = self.at
        if len(self.tokens) > begin + 1 and self.tokens[begin + 1] == "∈":  # x \in [1, 2]
            self.at += 2
        first = self.one()
        if self.peek() == "∪":
            sets = [first]
            while self.take("∪"):
                sets.append(self.one())
            if len(sets) > _MAX_ITEMS:
                raise NotMathematics
            return Union(tuple(sets))
        if self.peek() not in _SIGNS:
            return first
        if isinstance(first, Collection):  # (x, y) = (3, 4)
            self.need("=")
            return self.one()
        signs, sides = [], [_tree(first)]
        while sign := self.take(*_SIGNS):
            if sign == "=" and isinstance(other := self.one(), (Collection, Union)):
                if len(sides) > 1:
                    raise NotMathematics
                return other  # A = {1, 2}
            if sign == "=":
                sides.append(_tree(other))
            else:
                sides.append(self.sum())
            signs.append(sign)
        return Relation(tuple(signs), tuple(sides))

    def one(self) -> Answer:
        """A collection or an expression."""
        collection = self.collection()
        return self.sum() if collection is None else collection

    def collection(self) -> Collection | None:
        """``(1, 2]``, ``\\{1\\}``, a matrix; None, and nothing taken, where none begins here."""
        begin, opener = self.at, self.peek()
        if opener == "⟦":
            return self.matrix()
        if self.take("\\emptyset") or (
            opener == "\\{" and self.tokens[begin + 1 : begin + 2] == ["\\}"]
        ):
            self.at = begin + (2 if opener == "\\{" else 1)
            return Collection("{}", ())
        if opener not in _CLOSERS or (opener != "\\{" and begin not in self.holds_list):
            return None
        self.at += 1
        with self.deeper():
            items = self.listed()
        closer = self.need(*_CLOSERS[opener])
        brackets = "{}" if opener in ("{", "\\{") else opener + closer
        return Collection(brackets, tuple(items))

    def matrix(self) -> Collection:
        self.need("⟦")
        rows: list[Answer] = []
        while True:
            row: list[Answer] = [self.sum()]
            while self.take("&"):
                row.append(self.sum())
            rows.append(Collection("row", tuple(row)))
            self.take("¦")
            if self.take("⟧"):
                return Collection("[[]]", tuple(rows))

    # expressions

    def sum(self) -> Tree:
        with self.deeper():
            terms = [self.signed()]
            while self.peek() in ("+", "-", "±", "∓"):
                terms.append(self.signed())
        return terms[0] if len(terms) == 1 else ("+", *terms)

    def signed(self) -> Tree:
        """A term with its signs."""
        flips = 0
        while mark := self.take("+", "-"):
            flips += mark == "-"
        either = self.take("±", "∓")
        value = self.product()
        if either:
            value = (either, value)
        return ("negative", value) if flips % 2 else value

    def product(self) -> Tree:
        """Factors in one row, so that no chain of them is deep; ``a/b`` is a times 1/b."""
        factors = [self.power()]
        while True:
            if self.take("*"):
                factors.append(self.factor())
            elif self.take("/"):
                factors.append(("reciprocal", self.factor()))
            elif self.begins_factor():
                factors.append(self.power())
            else:
                return factors[0] if len(factors) == 1 else ("*", *factors)

    def factor(self) -> Tree:
        """A factor behind a sign of multiplication, which may have a sign of its own."""
        flips = 0
        while mark := self.take("+", "-"):
            flips += mark == "-"
        value = self.power()
        return ("negative", value) if flips % 2 else value

    def begins_factor(self) -> bool:
        token = self.peek()
        if not token or _is_number(token):  # "2 3" is no product, but "x2" and ")2" are
            return bool(token) and not _is_number(self.tokens[self.at - 1])
        if token == "|":
            return not self.in_bars
        return (
            token in ("(", "{", "[", "\\frac", "\\sqrt", "\\binom", "⌊", "⌈")
            or token[1:] in FUNCTIONS
            or _is_symbol(token)
        )

    def power(self) -> Tree:
        with self.deeper():
            value = self.postfixed(self.atom())
            if self.take("^"):
                if self.take("°"):
                    return self.degrees(value)
                if self.tokens[self.at : self.at + 3] == ["{", "°", "}"]:
                    self.at += 3
                    return self.degrees(value)
                value = ("^", value, self.exponent())
                value = self.postfixed(value)
        return value

    def exponent(self) -> Tree:
        """``x^{12}``, ``x^2``, ``x^-1``; without braces TeX takes one digit, a typist all."""
        with self.deeper():
            if self.take("-"):
                return ("negative", self.exponent())
            value = self.atom()
            return ("^", value, self.exponent()) if self.take("^") else value

    def postfixed(self, value: Tree) -> Tree:
        for _ in range(_MAX_POSTFIXES):
            if self.take("!"):
                value = ("!", value)
            elif self.take("%"):
                value = ("/", value, ("number", Fraction(100)))
            elif self.take("°"):
                value = self.degrees(value)
            else:
                break
        return value

    def degrees(self, value: Tree) -> Tree:
        """A degree sign is a unit; in an angle's function it has a value."""
        if not self.in_angle:
            return value
        return ("/", ("*", value, ("symbol", "π")), ("number", Fraction(180)))

    def atom(self) -> Tree:
        token = self.peek()
        if _is_number(token):
            return self.number()
        self.at += 1
        if token in ("(", "[", "{"):
            value = self.sum()
            self.need(_PAIRS[token])
            return value
        if token in _BARS:
            return self.bars(token)
        if _is_symbol(token):
            return ("symbol", token + self.subscript())
        return self.command(token)

    def command(self, token: str) -> Tree:
        if token in ("\\frac", "\\binom"):
            top = self.argument()
            return ("/" if token == "\\frac" else "binomial", top, self.argument())
        if token == "\\sqrt":
            return self.root()
        if token[1:] in FUNCTIONS:
            return self.function(token[1:])
        raise NotMathematics

    def number(self) -> Tree:
        """A number; one that a fraction of whole numbers follows is mixed: ``2\\frac{1}{4}``."""
        token = self.peek()
        self.at += 1
        if self.peek() == "_":  # of another base: a name, as it stands
            return ("symbol", token + self.subscript())
        value: Tree = ("number", _decimal(token))
        if _is_whole(token) and _fraction_follows(self.tokens[self.at : self.at + 7]):
            return ("+", value, self.atom())
        if _is_whole(token) and _typed_fraction_follows(self.tokens[self.at : self.at + 3]):
            top, _, bottom = self.tokens[self.at : self.at + 3]
            self.at += 3
            return ("+", value, ("/", ("number", _decimal(top)), ("number", _decimal(bottom))))
        return value

    def argument(self) -> Tree:
        """A braced group, or the one digit or token that TeX would take: ``\\frac12``."""
        token = self.peek()
        if _is_whole(token) and len(token) > 1:
            self.tokens[self.at] = token[1:]
            return ("number", Fraction(int(token[0])))
        with self.deeper():
            return self.atom()

    def bars(self, opener: str) -> Tree:
        closer, name = _BARS[opener]
        self.in_bars += opener == "|"
        value = self.sum()
        self.need(closer)
        self.in_bars -= opener == "|"
        return (name, value)

    def root(self) -> Tree:
        degree: Tree = ("number", Fraction(2))
        if self.take("["):
            degree = self.sum()
            self.need("]")
        return ("root", self.argument(), degree)

    def function(self, name: str) -> Tree:
        """``\\sin^2 2x``, ``\\log_2 8``, ``\\arctan(1)``."""
        base: Tree | None = None
        if name == "log" and self.take("_"):
            base = self.argument()
        power = self.exponent() if self.take("^") else None
        if power == ("negative", ("number", Fraction(1))) and name in _INVERSES:
            name, power = _INVERSES[name], None
        self.in_angle += name in _ANGLES
        operand = self.operand()
        self.in_angle -= name in _ANGLES
        value: Tree = (name, operand) if base is None else ("log", operand, base)
        return value if power is None else ("^", value, power)

    def operand(self) -> Tree:
        """A bracket, or the factors up to the next sign or function."""
        with self.deeper():
            if self.peek() in ("(", "{", "["):
                return self.postfixed(self.atom())
            value = self.factor()
            factors = [value]
            while self.begins_factor() and self.peek()[1:] not in FUNCTIONS and self.peek() != "(":
                factors.append(self.power())
        return value if len(factors) == 1 else ("*", *factors)

    def subscript(self) -> str:
        """``_1``, ``_{12}``, ``'`` behind a name."""
        name = ""
        while mark := self.take("_", "'"):
            if mark == "'":
                name += "'"
                continue
            parts = [self.peek()]
            self.at += 1
            if parts == ["{"]:
                parts = []
                while (token := self.peek()) not in ("}", ""):
                    parts.append(token)
                    self.at += 1
                self.need("}")
            name += "_" + "".join(parts)
        return name


def _lists(tokens: list[str]) -> frozenset[int]:
    """Places of the brackets that hold a comma of their own."""
    found, open_ = set(), []
    for at, token in enumerate(tokens):
        if token in _CLOSERS:
            open_.append(at)
        elif token in (")", "]", "}", "\\}") and open_:
            open_.pop()
        elif token == "," and open_:
            found.add(open_[-1])
    return frozenset(found)


def _tree(answer: Answer) -> Tree:
    """An answer that has to be one expression."""
    if isinstance(answer, (Collection, Relation, Union)):
        raise NotMathematics
    return answer


def _is_symbol(token: str) -> bool:
    """A letter, or a command that is one: ``\\theta``."""
    if len(token) == 1:
        return (token.isascii() and token.isalpha()) or token in ("π", "∞")
    return token[:1] == "\\" and token[1:] in _LETTERS


_LETTERS = frozenset(
    re.findall(
        r"\w+",
        """
        alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi
        rho sigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi
        Omega ell angle triangle
        """,
    )
)


def _is_number(token: str) -> bool:
    return token[:1] in _DIGITS and len(token) > (token[0] == ".")


def _is_whole(token: str) -> bool:
    return token.isascii() and token.isdigit()


def _fraction_follows(tokens: list[str]) -> bool:
    """``\\frac{1}{4}``, ``\\frac14``: of whole numbers."""
    if tokens[:1] != ["\\frac"]:
        return False
    braces = [*tokens[1:2], *tokens[3:5], *tokens[6:7]]
    if braces == ["{", "}", "{", "}"]:
        return _is_whole(tokens[2]) and _is_whole(tokens[5])
    return len(tokens) > 1 and _is_whole(tokens[1]) and len(tokens[1]) == 2


def _typed_fraction_follows(tokens: list[str]) -> bool:
    """``1/4``, typed: behind a whole number."""
    return len(tokens) == 3 and tokens[1] == "/" and _is_whole(tokens[0]) and _is_whole(tokens[2])


def _decimal(token: str) -> Fraction:
    whole, _, decimals = token.replace(",", "").partition(".")
    return Fraction(int((whole + decimals) or "0"), 10 ** len(decimals))
