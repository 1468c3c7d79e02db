"""Numbers as models write them."""

from __future__ import annotations

from fractions import Fraction

import pytest

from m2r_train.core.numerals import (
    MAX_EXPONENT,
    MAX_NUMERAL_CHARS,
    Numeral,
    parse_number,
    parse_numeral,
    same_number,
)

NUMBERS = [
    ("22.6", 22.6),
    ("+3", 3.0),
    ("-4", -4.0),
    ("− 4", -4.0),
    (".5", 0.5),
    ("5.", 5.0),
    ("1,234.5", 1234.5),
    ("12,345,678", 12345678.0),
    (r"1{,}234", 1234.0),
    (r"1\,234", 1234.0),
    ("3/4", 0.75),
    (r"\frac{3}{4}", 0.75),
    (r"-\dfrac{3}{4}", -0.75),
    (r"\frac{-3}{4}", -0.75),
    (r"\frac12", 0.5),
    (r"2\frac{1}{2}", 2.5),
    ("3 1/2", 3.5),
    (r"-2\frac{1}{2}", -2.5),
    ("75%", 0.75),
    (r"75\%", 0.75),
    ("75 percent", 0.75),
    ("1.5e3", 1500.0),
    ("1.5E-3", 0.0015),
    (r"1.5 \times 10^{3}", 1500.0),
    ("1.5 x 10^-3", 0.0015),
    ("10^{-2}", 0.01),
    ("1e308", 1e308),
    ("1e-400", 0.0),
    ("0.1", 0.1),
    ("x = 5", 5.0),
    (r"d_{ab} = 5", 5.0),
    (r"\approx 5", 5.0),
    ("about 5 m", 5.0),
    ("$12.50", 12.5),
    ("**7**", 7.0),
    (r"\(7\)", 7.0),
    (r"\text{5}", 5.0),
    # units are dropped
    ("22.6 m", 22.6),
    ("22m²", 22.0),
    ("22 m^{2}", 22.0),
    (r"22 \text{ m}^2", 22.0),
    ("3 m/s^2", 3.0),
    ("22.5 square meters.", 22.5),
    ("5 sq. ft", 5.0),
    (r"45^\circ", 45.0),
    ("3 chairs", 3.0),
]


@pytest.mark.parametrize(("text", "value"), NUMBERS)
def test_this_is_the_number(text: str, value: float) -> None:
    assert parse_number(text) == value


NO_NUMBERS = [
    "",
    "-",
    ".",
    "two",
    "nan",
    "inf",
    "∞",
    "1e400",  # beyond the doubles
    "1e999999999",  # beyond the cap: never computed
    "1e-999999999",
    "10^{99999999}",
    "9^{9^{9}}",
    "(10^9)!",
    "1/0",
    r"\frac{1}{0}",
    "12,34",
    "1.234,5",
    "1 234",
    "5x",
    "2n",
    r"3\pi",
    "5 million",
    "2 dozen",
    "5, 6",
    "3 or 4",
    "5 feet 10 inches",
    "0x10",
    "1_000",
    "٣",
    "5٣",
    "²",
    "__import__('os').getpid()",
    "7" * (MAX_NUMERAL_CHARS + 1),
]


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_this_is_no_number(text: str) -> None:
    assert parse_number(text) is None


def test_values_are_exact_rationals() -> None:
    assert parse_numeral("0.1") == Numeral(Fraction(1, 10), percent=False)
    assert parse_numeral("33%") == Numeral(Fraction(33, 100), percent=True)
    assert parse_numeral("1e400") == Numeral(Fraction(10) ** MAX_EXPONENT, percent=False)
    assert parse_numeral(f"1e{MAX_EXPONENT + 1}") is None


def test_in_an_expression_only_known_units_are_dropped() -> None:
    assert parse_numeral("12 cm", any_unit=False) is not None
    assert parse_numeral("12 chairs", any_unit=False) is None
    assert parse_numeral("12ab", any_unit=False) is None


def test_a_percent_sign_on_one_side_matches_with_and_without_the_division() -> None:
    percent, share, bare = (parse_numeral(text) for text in ("75%", "0.75", "75"))
    assert percent and share and bare
    assert same_number(percent, share)
    assert same_number(percent, bare)
    assert same_number(bare, percent)
    assert not same_number(share, bare)  # no sign anywhere, no leniency
