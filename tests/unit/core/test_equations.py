"""Equations in prose: what is read, what is left alone, and which hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2r_train.core.equations import equations, plain_operators

CASES: list[tuple[str, list[bool]]] = [
    ("12 * 5 = 60", [True]),
    ("12 * 5 = 50.", [False]),
    ("3 * 5 + 7 = 15 + 7 = 22", [True, True]),
    ("3 * 5 + 7 = 15 + 7 = 23", [True, False]),
    ("9 × 6 = 54 平方厘米", [True]),
    ("\\(2 \\times 8 - 6 = 16 - 6 = 10\\)", [True, True]),
    ("10 / 3 = 3.33", [True]),
    ("10 / 3 = 3.34", [False]),
    ("22 / 7 = 3", [False]),
    ("22 / 7 ≈ 3.1", [True]),
    ("4 times 5 = 20", [True]),
    ("(2 + 3)(4) = 20", [True]),
    ("-3 - 4 = -7", [True]),
    ("1,200 + 300 = 1,500", [True]),
    ("2(3 + 1) = 8", [True]),
    ("3x + 7 = 22", []),
    ("x = 5", []),
    ("22 = 2x + 5", []),
    ("f(2) = 4", []),
    ("cos 60 + 1 = 1.5", []),
    ("side 1 = 5 and side 2 = 7", []),
    ("n = 1 gives 1 + 1 = 2", [True]),
    ("2^3 + 1 = 9", []),
    ("x_2 = 4", []),
    ("1 / 0 = 5", []),
    ("5! = 120", []),
    ("50% = 0.5", []),
    ("10 mod 3 = 1", []),
    ("1. First = 2", []),
    ("= 5", []),
    ("(1 + 2 = 3", []),
    ("2 = = 2", []),
]


@pytest.mark.parametrize(("text", "holds"), CASES, ids=[c[0] for c in CASES])
def test_what_is_stated_and_whether_it_holds(text: str, holds: list[bool]) -> None:
    assert [e.holds for e in equations(plain_operators(text))] == holds


@given(st.integers(-999, 999), st.integers(1, 999), st.sampled_from("+-*/"))
def test_a_computed_result_holds_and_any_other_does_not(a: int, b: int, sign: str) -> None:
    result = {"+": a + b, "-": a - b, "*": a * b, "/": f"{a / b:.4f}"}[sign]
    assert [e.holds for e in equations(f"{a} {sign} {b} = {result}")] == [True]
    if sign != "/":
        assert [e.holds for e in equations(f"{a} {sign} {b} = {int(result) + 1}")] == [False]


@given(st.text(alphabet="0123456789.,()+-*/=≈x \n\\", max_size=300))
def test_no_text_makes_it_raise(text: str) -> None:
    for found in equations(plain_operators(text)):
        assert 0 <= found.start < found.end <= len(text) + 20
