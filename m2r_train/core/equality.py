r"""Whether two mathematical answers say the same: by values, not by algebra.

Expressions are equal that have equal values wherever their letters are given the same numbers
(`_POINTS` fixed ones; a polynomial that is not zero vanishes at few). What stays rational is
computed and compared exactly, the rest in complex doubles. Sizes of numbers and the work in all are
capped: beyond them an answer has no value, and equals nothing here.

Sets and bare lists have no order, tuples have. Two equations are the same where their sides differ
by a constant factor; ``y = 2x`` is also ``2x``. ``(1, \infty)`` answers ``x > 1``, but not the
other way round, as in math-verify: who asks for a set is not given back the inequality.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Final, TypeAlias, TypeGuard, cast

from m2r_train.core.expressions import (
    Answer,
    Collection,
    Relation,
    Tree,
    Union,
    read,
)
from m2r_train.core.mathtokens import FUNCTIONS

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


class _NoValue(Exception):  # noqa: N818 - never leaves this module
    """Undefined, beyond the caps, or no number."""


def same_answer(prediction: str, truth: str) -> bool:
    """Whether both texts have a tree and the two say the same. Never raises."""
    try:
        left, right = _read(prediction), _read(truth)
        return left is not None and right is not None and _same(left, right)
    except (_NoValue, RecursionError, ArithmeticError, ValueError):
        return False


def has_tree(text: str) -> bool:
    """Whether a text can be read as mathematics."""
    try:
        return _read(text) is not None
    except RecursionError:
        return False


def is_stated(text: str) -> bool:
    """Whether an answer ends in a number or fraction: ``5``, ``x = -5/2``, ``3 + 2 = 5``."""
    answer = _read(text) if has_tree(text) else None
    last = answer.sides[-1] if isinstance(answer, Relation) else answer
    return isinstance(last, tuple) and _is_stated(last)


def _is_stated(tree: Tree) -> bool:
    if tree[0] == "*" and len(tree) == 3:  # as 3/-1 is read
        second = cast("Tree", tree[2])
        return second[0] == "reciprocal" and _is_stated(("/", tree[1], second[1]))
    parts = [part for part in tree[1:] if isinstance(part, tuple)]
    return tree[0] == "number" or (tree[0] in ("negative", "/") and all(map(_is_stated, parts)))


@lru_cache(maxsize=4096)  # the completions of a group share their truth, and often their answer
def _read(text: str) -> Answer | None:
    return read(text)


# answers


def _same(a: Answer, b: Answer) -> bool:
    a, b = _plain(a), _plain(b)
    if not (_named(a) and _named(b)):
        a, b = _values_of(a), _values_of(b)
    if isinstance(a, Relation) and isinstance(b, Relation):
        return _same_relation(a, b)
    b = _as_set(b)
    if isinstance(a, Relation) != isinstance(b, Relation):  # y = 2x and 2x
        a, b = _assigned(a), _assigned(b)
    if isinstance(a, Union) and isinstance(b, Union):
        return _match(a.items, b.items)
    if isinstance(a, Collection) and isinstance(b, Collection):
        return _same_collection(a, b)
    return _is_tree(a) and _is_tree(b) and _same_tree(a, b)


def _is_tree(answer: Answer) -> TypeGuard[Tree]:
    return not isinstance(answer, (Collection, Relation, Union))


def _plain(answer: Answer) -> Answer:
    """Plus-minus as a list, a set of one as its element, a list of assignments as its values."""
    if isinstance(answer, Relation):
        if any(map(_has_signs, answer.sides)):
            made = (
                Relation(answer.signs, tuple(_signed(side, upper=upper) for side in answer.sides))
                for upper in (True, False)
            )
            return Collection("", tuple(made))
        return _settled(answer)
    if _is_tree(answer):
        both = _both_signs(answer)
        return both[0] if len(both) == 1 else Collection("", both)
    if not isinstance(answer, Collection) or answer.brackets not in ("", "{}"):
        return answer
    items = tuple(x for item in answer.items for x in _flat(_plain(item)))
    return items[0] if len(items) == 1 else Collection(answer.brackets, items)


def _settled(relation: Relation) -> Answer:
    """The value of a chain without letters that is true, ``3 + 2 = 5``, ``√2 ≈ 1.41``; else itself.

    Of an assignment, ``x = 2 + 3 = 5``, the sides behind the name are such a chain.
    """
    if not set(relation.signs) <= {"=", "≈"}:
        return relation
    named = _assigns(relation)
    sides, signs = relation.sides[named:], relation.signs[named:]
    if len(sides) < 2 or any(map(_names, sides)):
        return relation
    for sign, side in zip(signs, sides[1:], strict=True):
        if not (_same_tree(sides[0], side) or (sign == "≈" and _near(side, sides[0]))):
            return Relation((*relation.signs, "≠"), (*relation.sides, sides[0]))  # equal to nothing
    return Relation(relation.signs[:1], (relation.sides[0], sides[0])) if named else sides[0]


def _near(tree: Tree, other: Tree) -> bool:
    """Whether a written decimal is rounded from a value, to whatever place."""
    pairs = [(x, y) for x, y in _values(tree, other) if isinstance(x, Fraction)]
    return any(abs(complex(x) - complex(y)) <= 0.51 * 10.0 ** -max(_places(x), 0) for x, y in pairs)


def _named(answer: Answer) -> bool:
    """A bare list of assignments."""
    return (
        isinstance(answer, Collection)
        and answer.brackets == ""
        and len(answer.items) > 1
        and all(map(_assigns, answer.items))
    )


def _values_of(answer: Answer) -> Answer:
    """``x = 1, x = 2`` as ``1, 2``, and ``x = 1, y = 2`` as ``(1, 2)``; all else as it is."""
    if not _named(answer):
        return answer
    relations = [cast("Relation", item) for item in cast("Collection", answer).items]
    names = {str(one.sides[0]).partition("_")[0] for one in relations}
    brackets = "()" if len(names) == len(relations) else ""
    return Collection(brackets, tuple(one.sides[-1] for one in relations))


def _flat(answer: Answer) -> tuple[Answer, ...]:
    bare = isinstance(answer, Collection) and answer.brackets == ""
    return cast("Collection", answer).items if bare else (answer,)


def _both_signs(tree: Tree) -> tuple[Tree, ...]:
    if not _has_signs(tree):
        return (tree,)
    return tuple(_signed(tree, upper=upper) for upper in (True, False))


def _has_signs(tree: Tree) -> bool:
    return tree[0] in ("±", "∓") or any(
        isinstance(part, tuple) and _has_signs(part) for part in tree[1:]
    )


def _signed(tree: Tree, *, upper: bool) -> Tree:
    parts = tuple(_signed(x, upper=upper) if isinstance(x, tuple) else x for x in tree[1:])
    if tree[0] not in ("±", "∓"):
        return (tree[0], *parts)
    (value,) = parts
    return cast("Tree", value) if (tree[0] == "±") == upper else ("negative", value)


def _assigns(answer: Answer) -> bool:
    """``x = 5``, ``f(x) = 2x``, ``\tan A = 1``, ``|AB| = 5``: a name on the left of an equality."""
    if not isinstance(answer, Relation) or not set(answer.signs) <= {"=", "≈"}:
        return False
    return _is_name(answer.sides[0])


def _is_name(tree: Tree) -> bool:
    if tree[0] == "symbol":
        return tree[1] not in _CONSTANTS
    parts = [cast("Tree", part) for part in tree[1:]]
    if tree[0] == "*" and parts[0][0] == "symbol":  # f(3), \angle ABC, P(A)
        return all(part[0] == "symbol" for part in parts[1:]) or (
            len(parts) == 2 and parts[0][1] in _CALLED and parts[1][0] == "number"
        )
    return (tree[0] in FUNCTIONS or tree[0] == "absolute") and _is_name(parts[0])


def _assigned(answer: Answer) -> Answer:
    return cast("Relation", answer).sides[-1] if _assigns(answer) else answer


def _same_relation(a: Relation, b: Relation) -> bool:
    if len(a.signs) == len(b.signs) == 1 and {*a.signs, *b.signs} <= {"=", "≈"}:
        return _same_equation(a, b)
    if a.signs == ("≠",) and b.signs == ("≠",):
        return _same_equation(a, b)
    left, right = _as_set(a), _as_set(b)
    if not isinstance(left, Relation) and not isinstance(right, Relation):
        return _variable(a) == _variable(b) and _same(left, right)
    return any(
        a.signs == signs and all(map(_same_tree, a.sides, sides))
        for signs, sides in ((b.signs, b.sides), (_turned(b.signs), b.sides[::-1]))
        if len(sides) == len(a.sides)
    )


_TURNED = {"<": ">", ">": "<", "≤": "≥", "≥": "≤"}


def _turned(signs: Sequence[str]) -> tuple[str, ...]:
    return tuple(_TURNED.get(sign, sign) for sign in reversed(signs))


def _same_equation(a: Relation, b: Relation) -> bool:
    """Whether the differences of their sides have one ratio at all points."""
    if _assigns(a) and _assigns(b):
        pairs = zip(a.sides, b.sides, strict=True)
        return all(_same_tree(x, y) for x, y in pairs)
    left: Tree = ("+", a.sides[0], ("negative", a.sides[1]))
    right: Tree = ("+", b.sides[0], ("negative", b.sides[1]))
    ratios = [_ratio(x, y) for x, y in _values(left, right) if x != 0 and y != 0]
    return len(ratios) >= 2 and all(_equal(ratio, ratios[0]) for ratio in ratios)


def _ratio(a: Value, b: Value) -> Value:
    return a / b if isinstance(a, Fraction) and isinstance(b, Fraction) else complex(a) / complex(b)


def _variable(relation: Relation) -> object:
    names = [side for side in relation.sides if side[0] == "symbol" and side[1] not in _CONSTANTS]
    return names[0] if len(names) == 1 else None


def _as_set(answer: Answer) -> Answer:
    """``1 < x ≤ 3`` as ``(1, 3]``; all else as it is."""
    if not isinstance(answer, Relation) or not set(answer.signs) <= set("<>≤≥"):
        return answer
    signs, sides = answer.signs, answer.sides
    if set(signs) <= set(">≥"):
        signs, sides = _turned(signs), sides[::-1]
    if set(signs) & set(">≥"):
        return answer
    infinity: Tree = ("symbol", "∞")
    kinds = [side[0] == "symbol" and side[1] not in _CONSTANTS for side in sides]
    ends: tuple[Tree, ...]
    if kinds == [True, False]:
        ends, brackets = (("negative", infinity), sides[1]), "(" + _closer(signs[0])
    elif kinds == [False, True]:
        ends, brackets = (sides[0], infinity), _opener(signs[0]) + ")"
    elif kinds == [False, True, False]:
        ends, brackets = (sides[0], sides[2]), _opener(signs[0]) + _closer(signs[1])
    else:
        return answer
    return Collection(brackets, ends)


def _opener(sign: str) -> str:
    return "[" if sign == "≤" else "("


def _closer(sign: str) -> str:
    return "]" if sign == "≤" else ")"


def _same_collection(a: Collection, b: Collection) -> bool:
    if len(a.items) != len(b.items):
        return False
    kinds = {a.brackets, b.brackets}
    if kinds <= {"", "{}"}:
        return _match(a.items, b.items)
    if len(kinds) > 1 and kinds not in ({"", "()"}, {"{}", "()"}):
        return False
    return all(map(_same, a.items, b.items))


def _match(a: Sequence[Answer], b: Sequence[Answer]) -> bool:
    """Whether each of ``a`` has a partner of its own in ``b``."""
    left = list(b)
    if len(a) != len(left):
        return False
    for one in a:
        partner = next((k for k, other in enumerate(left) if _same(one, other)), None)
        if partner is None:
            return False
        del left[partner]
    return not left


# values


def _same_tree(a: Tree, b: Tree) -> bool:
    if a == b:
        return True
    for sign in ("symbol", "negative"):  # infinities have no values, but names
        if a[0] == sign and "∞" in str(a) and "∞" in str(b):
            return a == b
    pairs = list(_values(a, b))
    if not pairs or (len(pairs) < 2 and _names(a) | _names(b)):
        return False
    if all(_equal(x, y) for x, y in pairs):
        return True
    return _rounded(a, pairs[0]) or _rounded(b, pairs[0][::-1])


def _values(a: Tree, b: Tree) -> Iterator[tuple[Value, Value]]:
    """Values of both at the points where both have one."""
    names = sorted(_names(a) | _names(b))
    for point in range(_POINTS if names else 1):
        letters = {name: _letter(k, point) for k, name in enumerate(names)}
        try:
            yield _Evaluation(letters).of(a), _Evaluation(letters).of(b)
        except (_NoValue, OverflowError, ZeroDivisionError, ValueError):
            continue


def _letter(k: int, point: int) -> Fraction:
    """What the k-th letter stands for: small, of both signs, and no two in a simple ratio."""
    primes = (7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47)
    sign = -1 if (point & 1 and (point >> 1 ^ k) & 1) or point == 1 else 1
    return Fraction(
        sign * primes[(3 * k + point) % 12], primes[(k + 5 * point + 1) % 12] + 2 * k + 1
    )


def _names(tree: Tree) -> frozenset[str]:
    found, left = set(), [tree]
    while left:
        one = left.pop()
        if one[0] == "symbol" and one[1] not in _CONSTANTS:
            found.add(str(one[1]))
        left += [part for part in one[1:] if isinstance(part, tuple)]
    return frozenset(found)


_CALLED: Final = frozenset("fghFGHPE")
_CONSTANTS: Mapping[object, complex] = {"π": math.pi, "e": math.e, "i": 1j, "∞": math.inf}


def _equal(a: Value, b: Value) -> bool:
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
        """Raises _NoValue, OverflowError, ZeroDivisionError, ValueError."""
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
            raise _NoValue
        constant = _CONSTANTS.get(name)
        return self.letters[name] if constant is None else complex(constant)

    def kept(self, value: Value) -> Value:
        if isinstance(value, Fraction):
            bits = value.numerator.bit_length() + value.denominator.bit_length()
            self.work += bits
            if bits > _MAX_BITS or self.work > _MAX_WORK:
                raise _NoValue
        elif not (math.isfinite(value.real) and math.isfinite(value.imag)):
            raise _NoValue
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
                raise _NoValue
            bits = max(base.numerator.bit_length(), base.denominator.bit_length())
            if abs(n) * bits <= _MAX_BITS or base in (0, 1, -1):
                return base ** (n % 2 + 2 if abs(base) == 1 else n)
            raise _NoValue
        if abs(n) > _MAX_BITS:
            raise _NoValue
    if base == 0:
        raise _NoValue
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
    raise _NoValue


def _factorial(value: Value) -> Value:
    n = _whole(value)
    if not 0 <= n <= _MAX_FACTORIAL:
        raise _NoValue
    return Fraction(math.factorial(n))


def _binomial(top: Value, bottom: Value) -> Value:
    n, k = _whole(top), _whole(bottom)
    if not 0 <= k <= n <= _MAX_FACTORIAL:
        raise _NoValue
    return Fraction(math.comb(n, k))


def _real(value: Value) -> float | Fraction:
    if isinstance(value, Fraction):
        return value
    if abs(value.imag) > 1e-12:
        raise _NoValue
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
