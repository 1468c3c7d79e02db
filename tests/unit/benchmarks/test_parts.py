"""The parts that rules are made of: option finder, distances, values of LaTeX, number words."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from m2r_train.benchmarks import mathvista
from m2r_train.benchmarks.editdistance import levenshtein
from m2r_train.benchmarks.numberwords import first_number
from m2r_train.benchmarks.options import find_option
from m2r_train.benchmarks.values import latex_value, plain_value

OPTIONS = {"A": "red", "B": "green", "C": "dark blue", "D": "pink"}
ROWS = yaml.safe_load((Path(__file__).parent / "cases/option-finder.yaml").read_text())["rows"]


@pytest.mark.parametrize(("text", "letter", "why"), [(r[0], r[1], str(r[2:])) for r in ROWS])
def test_option_finder(text: str, letter: str | None, why: str) -> None:
    assert find_option(text, OPTIONS) == letter, why


def by_the_book(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        left, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            left, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, left + (x != y))
    return row[-1]


@given(st.text("abc", max_size=12), st.text("abc", max_size=12))
def test_bit_vectors_count_the_same_edits_as_the_table(a: str, b: str) -> None:
    assert levenshtein(a, b) == by_the_book(a, b)


def test_edits_between_texts_longer_than_a_machine_word() -> None:
    assert levenshtein("kitten" * 30, "sitting" * 30) == by_the_book("kitten" * 30, "sitting" * 30)
    assert levenshtein("blue sky", "The sky is blue. " * 2000) == 34_000 - 8


def test_a_whole_chain_of_thought_is_nearest_to_some_choice_of_mathvista() -> None:
    record = {
        **{"question_type": "multi_choice", "answer_type": "text"},
        **{"choices": ["3", "blue sky", "tree"], "answer": "blue sky"},
    }
    assert mathvista.official(record, "The sky is blue. " * 2000) == ("blue sky", 1.0)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7.0),
        ("-7", -7.0),
        ("1,234.5", 1234.5),
        (".5", 0.5),
        (r"\frac{1}{4}", 0.25),
        (r"\frac14", 0.25),
        (r"\frac{1}4", 0.25),
        (r"\dfrac{\sqrt{4}}{8}", 0.25),
        (r"-\frac{3}{4}", -0.75),
        (r"\frac{-3}{4}", -0.75),
        ("1/8", 0.125),
        ("6/2/3", 1.0),
        ("2+3*4", 14.0),
        ("2-3-4", -5.0),
        (r"2\cdot3\times4", 24.0),
        (r"8\div2", 4.0),
        ("2^3", 8.0),
        ("2^{-1}", 0.5),
        ("2^10", 0.0),  # TeX raises to 1 and writes 0 behind: two numbers side by side
        ("-2^2", -4.0),
        (r"2\sqrt{9}", 6.0),
        (r"\sqrt[3]{27}", 3.0),
        (r"\sqrt[3]{-27}", -3.0),
        (r"2(3+4)", 14.0),
        (r"\left(1+2\right)^2", 9.0),
        (r"\log_2{8}", 3.0),
        (r"\log{100}", 2.0),
        (r"2\frac{1}{4}", 0.5),
    ],
)
def test_values_of_expressions(text: str, value: float) -> None:
    found = latex_value(text)
    assert found == (pytest.approx(value) if value else None)


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "2x", "1e5", "1 2", "(1", "1)", "{1", r"\frac{1}", r"\frac{1}{0}", "1/0", "()"),
        *(r"\sqrt{-1}", r"\infty", r"45^\circ", "9^{9^{9^{9}}}", "(-1)^{0.5}", "1+", "5!", "1,2"),
        *("(" * 200 + "1" + ")" * 200, "-" * 200 + "x", "1" * 600, "inf", "nan", "75%"),
    ],
)
def test_what_is_no_number(text: str) -> None:
    assert latex_value(text) is None


def test_mixed_numbers_and_degrees_are_read_where_a_rule_says_so() -> None:
    assert latex_value(r"2\frac{1}{4}", mixed=True) == 2.25
    assert latex_value(r"45^\circ", degrees=True) == 45.0
    assert latex_value(r"45^{\circ}", degrees=True) == 45.0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(
            ("1/8", 0.125),
            ("2**3", 8.0),
            ("2**10", 1024.0),
            ("4**.5", 2.0),
            ("1e3", 1000.0),
            ("-(1+2)*3", -9.0),
            ("1.5e-1", 0.15),
        ),
        *(("2^3", None), ("2(3)", None), (r"\frac12", None), ("x", None), ("9**9**9**9", None)),
    ],
)
def test_plain_arithmetic(text: str, value: float | None) -> None:
    assert plain_value(text) == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("3 chairs", 3), ("about 2.5 m", 2.5), ("-4", -4), ("1,200 cm", 1200), (".5", 0.5)),
        *(("Three", 3), ("twenty-one", 21), ("two hundred and five", 205), ("a hundred", 100)),
        *(("two thousand three hundred", 2300), ("one million", 1e6), ("one two", 1)),
        *(("fifteen of twenty", 15), ("forty 2", 40), ("weighs a ton", None), ("", None)),
    ],
)
def test_the_first_number(text: str, value: float | None) -> None:
    assert first_number(text) == value
