r"""Whether two mathematical answers say the same: by values, not by algebra.

Expressions are equal that have equal values wherever their letters are given the same numbers
(`treevalues`). An answer beyond the caps has no value, and equals nothing here.

Sets and bare lists have no order, tuples have. Two equations are the same where their sides differ
by a constant factor; ``y = 2x`` is also ``2x``. ``(1, \infty)`` answers ``x > 1``, but not the
other way round, as in math-verify: who asks for a set is not given back the inequality.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, TypeGuard, cast

from m2r_train.core.expressions import Answer, Collection, Relation, Tree, Union, read
from m2r_train.core.mathtokens import FUNCTIONS
from m2r_train.core.treevalues import (
    CONSTANTS,
    NoValue,
    equal,
    letters_of,
    near,
    ratio,
    same_tree,
    values_of_both,
)

_CALLED: Final = frozenset("fghFGHPE")


def same_answer(prediction: str, truth: str) -> bool:
    """Whether both texts have a tree and the two say the same. Never raises."""
    try:
        left, right = _read(prediction), _read(truth)
        return left is not None and right is not None and _same(left, right)
    except (NoValue, RecursionError, ArithmeticError, ValueError):
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
    return _is_tree(a) and _is_tree(b) and same_tree(a, b)


def _is_tree(answer: Answer) -> TypeGuard[Tree]:
    return not isinstance(answer, (Collection, Relation, Union))


def _plain(answer: Answer) -> Answer:
    """Plus-minus as a list, a set of one as its element, a true chain as its value."""
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
    if len(sides) < 2 or any(map(letters_of, sides)):
        return relation
    for sign, side in zip(signs, sides[1:], strict=True):
        if not (same_tree(sides[0], side) or (sign == "≈" and near(side, sides[0]))):
            return Relation((*relation.signs, "≠"), (*relation.sides, sides[0]))  # equal to nothing
    return Relation(relation.signs[:1], (relation.sides[0], sides[0])) if named else sides[0]


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
        return tree[1] not in CONSTANTS
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
        a.signs == signs and all(map(same_tree, a.sides, sides))
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
        return all(same_tree(x, y) for x, y in pairs)
    left: Tree = ("+", a.sides[0], ("negative", a.sides[1]))
    right: Tree = ("+", b.sides[0], ("negative", b.sides[1]))
    ratios = [ratio(x, y) for x, y in values_of_both(left, right) if x != 0 and y != 0]
    return len(ratios) >= 2 and all(equal(one, ratios[0]) for one in ratios)


def _variable(relation: Relation) -> object:
    names = [side for side in relation.sides if side[0] == "symbol" and side[1] not in CONSTANTS]
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
    kinds = [side[0] == "symbol" and side[1] not in CONSTANTS for side in sides]
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
