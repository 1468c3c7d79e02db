"""Values of the trees of answers at points, and whether two trees have the same ones.

Letters stand for `_POINTS` fixed rational numbers. What stays rational is exact, the rest is in
complex doubles; sizes of numbers and all work are capped: beyond them a tree has no value.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Final, TypeAlias, cast

from m2r_train.core.expressions import Tree

Value: TypeAlias = Fraction | complex
Letters: TypeAlias = dict[str, Fraction]
"""What each letter stands for."""

_POINTS: Final = 4
_CLOSE: Final = 1e-9
"""Relative difference of doubles that are taken to be the same; their errors are far smaller."""
_MAX_BITS: Final = 4096
_MAX_WORK: Final = 20_000
"""Bits of all rational results of one evaluation: well under a millisecond."""
_MAX_FACTORIAL: Final = 200
_PLACES: Final = 6
"""A decimal of so many places or more also equals a number that it is rounded or cut from."""


class NoValue(Exception):  # noqa: N818 - never leaves the core
    """Undefined, beyond the caps, or no number."""


def same_tree(a: Tree, b: Tree) -> bool:
    """Whether both are written alike, or have the same values at two points or more.

    Without letters there is one point. Infinities have no value: they are the same as written.
    """
    if a == b:
        return True
    pairs = list(values_of_both(a, b))
    if not pairs or (len(pairs) < 2 and letters_of(a) | letters_of(b)):
        return False
    if all(equal(x, y) for x, y in pairs):
        return True
    return _rounded(a, pairs[0]) or _rounded(b, pairs[0][::-1])


def values_of_both(a: Tree, b: Tree) -> Iterator[tuple[Value, Value]]:
    """Values of both at the points where both have one."""
    names = sorted(letters_of(a) | letters_of(b))
    for point in range(_POINTS if names else 1):
        letters = {name: _letter(k, point) for k, name in enumerate(names)}
        try:
            yield _Evaluation(letters).of(a), _Evaluation(letters).of(b)
        except (NoValue, OverflowError, ZeroDivisionError, ValueError):
            continue


def _letter(k: int, point: int) -> Fraction:
    """What the k-th letter stands for: small, of both signs, and no two in a simple ratio."""
    primes = (7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47)
    sign = -1 if (point & 1 and (point >> 1 ^ k) & 1) or point == 1 else 1
    return Fraction(
        sign * primes[(3 * k + point) % 12], primes[(k + 5 * point + 1) % 12] + 2 * k + 1
    )


def letters_of(tree: Tree) -> frozenset[str]:
    """Names of the symbols in a tree that are no constants."""
    found, left = set(), [tree]
    while left:
        one = left.pop()
        if one[0] == "symbol" and one[1] not in CONSTANTS:
            found.add(str(one[1]))
        left += [part for part in one[1:] if isinstance(part, tuple)]
    return frozenset(found)


CONSTANTS: Mapping[object, complex] = {"π": math.pi, "e": math.e, "i": 1j, "∞": math.inf}


def equal(a: Value, b: Value) -> bool:
    """Exactly where both are rational, else to nine digits."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    x, y = complex(a), complex(b)
    if a == 0 or b == 0:  # what is left of roots that cancel out
        return abs(x - y) <= 1e-13
    return abs(x - y) <= _CLOSE * max(abs(x), abs(y))


def _rounded(tree: Tree, values: tuple[Value, Value]) -> bool:
    """Whether ``tree`` is a written decimal that is rounded or cut from the other value."""
    sign = tree[0] == "negative"
    leaf = cast("Tree", tree[1]) if sign else tree
    decimal, other = values
    if leaf[0] != "number" or not isinstance(decimal, Fraction):
        return False
    if isinstance(other, Fraction):
        return rounds(decimal, other)
    places = _places(decimal)
    apart = abs(complex(decimal) - other)
    return places >= _PLACES and apart < 10.0**-places and apart < 1e-4 * abs(other)


def rounds(decimal: Fraction, value: Fraction) -> bool:
    """Whether a decimal of `_PLACES` places or more comes from a value that no decimal writes."""
    apart = abs(decimal - value)
    if apart >= Fraction(1, 10**_PLACES) or 10**4 * apart >= abs(value):
        return False
    places = _places(decimal)
    near = apart < Fraction(1, 10 ** max(places, 0))
    return places >= _PLACES and _places(value) < 0 and near


def _places(value: Fraction) -> int:
    """Decimals that write the value; -1 where none do, or more than 20."""
    return next((n for n in range(21) if 10**n % value.denominator == 0), -1)


class _Evaluation:
    """The value of a tree at one point."""

    def __init__(self, letters: Letters) -> None:
        self.letters = letters
        self.work = 0

    def of(self, tree: Tree) -> Value:
        """Raises NoValue, OverflowError, ZeroDivisionError, ValueError."""
        head = str(tree[0])
        if head == "number":
            return cast("Fraction", tree[1])
        if head == "symbol":
            return self.symbol(str(tree[1]))
        parts = [cast("Tree", part) for part in tree[1:]]
        if head in ("+", "*"):
            operation, value = _OPERATIONS[head], self.of(parts[0])
            for part in parts[1:]:
                value = self.kept(operation(value, self.of(part)))
            return value
        return self.kept(_OPERATIONS[head](*map(self.of, parts)))

    def symbol(self, name: str) -> Value:
        if name == "∞":
            raise NoValue
        constant = CONSTANTS.get(name)
        return self.letters[name] if constant is None else complex(constant)

    def kept(self, value: Value) -> Value:
        if isinstance(value, Fraction):
            bits = value.numerator.bit_length() + value.denominator.bit_length()
            self.work += bits
            if bits > _MAX_BITS or self.work > _MAX_WORK:
                raise NoValue
        elif not (math.isfinite(value.real) and math.isfinite(value.imag)):
            raise NoValue
        return value


def _exact(*values: Value) -> bool:
    return all(isinstance(value, Fraction) for value in values)


def _binary(operation: Callable[[Value, Value], Value]) -> Callable[..., Value]:
    def of(a: Value, b: Value) -> Value:
        return operation(a, b) if _exact(a, b) else operation(complex(a), complex(b))

    return of


def _power(base: Value, exponent: Value) -> Value:
    if isinstance(exponent, Fraction) and exponent.denominator == 1:
        n = exponent.numerator
        if isinstance(base, Fraction):
            if base == 0 and n <= 0:
                raise NoValue
            bits = max(base.numerator.bit_length(), base.denominator.bit_length())
            if abs(n) * bits <= _MAX_BITS or base in (0, 1, -1):
                return base ** (n % 2 + 2 if abs(base) == 1 else n)
            raise NoValue
        if abs(n) > _MAX_BITS:
            raise NoValue
    if base == 0:
        raise NoValue
    found: Value = complex(base) ** complex(exponent)
    return found


def _root(value: Value, degree: Value) -> Value:
    """The principal root; of odd degree, of a negative number, the real one."""
    if isinstance(degree, Fraction) and degree.denominator == 1 and degree > 0:
        if isinstance(value, Fraction) and degree == 2 and value >= 0:
            top, bottom = math.isqrt(value.numerator), math.isqrt(value.denominator)
            if top * top == value.numerator and bottom * bottom == value.denominator:
                return Fraction(top, bottom)
        if degree == 2:
            return cmath.sqrt(complex(value))
        if isinstance(value, Fraction) and value < 0 and degree.numerator % 2 == 1:
            return -(complex(-value) ** complex(1 / degree))
    if value == 0:
        return Fraction(0)
    return complex(value) ** (1 / complex(degree))


def _whole(value: Value) -> int:
    if isinstance(value, Fraction) and value.denominator == 1:
        return value.numerator
    raise NoValue


def _factorial(value: Value) -> Value:
    n = _whole(value)
    if not 0 <= n <= _MAX_FACTORIAL:
        raise NoValue
    return Fraction(math.factorial(n))


def _binomial(top: Value, bottom: Value) -> Value:
    n, k = _whole(top), _whole(bottom)
    if not 0 <= k <= n <= _MAX_FACTORIAL:
        raise NoValue
    return Fraction(math.comb(n, k))


def _real(value: Value) -> float | Fraction:
    if isinstance(value, Fraction):
        return value
    if abs(value.imag) > 1e-12:
        raise NoValue
    return value.real


def _logarithm(value: Value, base: Value = Fraction(10)) -> Value:
    return cmath.log(complex(value)) / cmath.log(complex(base))


def _of_complex(function: Callable[[complex], complex]) -> Callable[[Value], Value]:
    return lambda value: function(complex(value))


_OPERATIONS: Mapping[str, Callable[..., Value]] = {
    "+": _binary(lambda a, b: a + b),
    "*": _binary(lambda a, b: a * b),
    "/": _binary(lambda a, b: a / b),
    "negative": lambda a: -a,
    "reciprocal": lambda a: 1 / a,
    "^": _power,
    "root": _root,
    "!": _factorial,
    "binomial": _binomial,
    "absolute": lambda a: abs(a) if isinstance(a, Fraction) else complex(abs(a)),
    "floor": lambda a: Fraction(math.floor(_real(a))),
    "ceiling": lambda a: Fraction(math.ceil(_real(a))),
    "log": _logarithm,
    "lg": _logarithm,
    "ln": _of_complex(cmath.log),
    "exp": _of_complex(cmath.exp),
    "sin": _of_complex(cmath.sin),
    "cos": _of_complex(cmath.cos),
    "tan": _of_complex(cmath.tan),
    "cot": _of_complex(lambda z: 1 / cmath.tan(z)),
    "sec": _of_complex(lambda z: 1 / cmath.cos(z)),
    "csc": _of_complex(lambda z: 1 / cmath.sin(z)),
    "arcsin": _of_complex(cmath.asin),
    "arccos": _of_complex(cmath.acos),
    "arctan": _of_complex(cmath.atan),
    "arccot": _of_complex(lambda z: math.pi / 2 - cmath.atan(z)),
    "sinh": _of_complex(cmath.sinh),
    "cosh": _of_complex(cmath.cosh),
    "tanh": _of_complex(cmath.tanh),
}


def near(tree: Tree, other: Tree) -> bool:
    """Whether a written decimal is rounded from a value, to whatever place."""
    pairs = [(x, y) for x, y in values_of_both(tree, other) if isinstance(x, Fraction)]
    return any(abs(complex(x) - complex(y)) <= 0.51 * 10.0 ** -max(_places(x), 0) for x, y in pairs)


def ratio(a: Value, b: Value) -> Value:
    """``a / b``, exact where both are. Raises ZeroDivisionError, OverflowError."""
    return a / b if isinstance(a, Fraction) and isinstance(b, Fraction) else complex(a) / complex(b)
