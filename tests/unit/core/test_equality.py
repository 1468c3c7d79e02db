"""Mathematical answers in other forms: what is the same by value, and what is not."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from m2r_train.core import equality, treevalues
from m2r_train.core.answers import equivalent
from m2r_train.core.equality import same_answer
from m2r_train.core.expressions import MAX_CHARS, read
from m2r_train.core.treevalues import rounds

SAME = [
    # numbers
    ("2+2", "4"),
    (r"\sqrt{16}", "4"),
    ("2^{10}", "1024"),
    ("2**10", "1024"),
    (r"2\cdot 3^2", "18"),
    ("-2^2", "-4"),
    ("2^{-1}", "1/2"),
    (r"1 \frac{1}{2}", "3/2"),
    (r"1\frac12", "1.5"),
    ("1 1/2", "1.5"),
    (r"\frac{-1}{2}", r"-\frac12"),
    (r"5\%", "0.05"),
    ("5!", "120"),
    (r"\binom{5}{2}", "10"),
    ("1:2", "1/2"),
    ("|-3|", "3"),
    (r"\lfloor 2.5 \rfloor", "2"),
    (r"\$5.50", "5.5"),
    ("1{,}000 + 1", "1001"),
    ("2^{2000} + 1 - 1", "2^{2000}"),
    # irrational and complex
    (r"\sqrt{8}", r"2\sqrt{2}"),
    ("sqrt(8)", "2√2"),
    (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}"),
    (r"2\sqrt{3}+1", r"1+\sqrt{12}"),
    (r"\sqrt[3]{-8}", "-2"),
    (r"\sqrt[3]{54}", r"3\sqrt[3]{2}"),
    ("8^{1/3}", "2"),
    (r"\frac{3\pi}{4}", r"0.75\pi"),
    (r"10\sqrt{3}\text{ cm}^2", r"10\sqrt{3}"),
    (r"10\pi\text{ m}", r"10\pi"),
    (r"\log 100", "2"),
    (r"\log_2 8", "3"),
    (r"\ln e^3", "3"),
    (r"\sin 30^\circ", "1/2"),
    (r"\sin^2 1 + \cos^2 1", "1"),
    (r"\tan^{-1} 1", r"\frac{\pi}{4}"),
    ("3+4i", "4i+3"),
    ("i^2", "-1"),
    (r"e^{i\pi}", "-1"),
    (r"\frac{1}{3}", "0.333333"),
    (r"1.414214", r"\sqrt{2}"),
    (r"86.2 \mathrm{~cm}", "86.2"),
    (r"12\pi \mathrm{m}", r"12\pi"),
    (r"2\sqrt{3} cm", r"2\sqrt3"),
    (r"18\pi square units", r"18\pi"),
    (r"0.1\overline{6}", "1/6"),
    (r"0.\bar{3}", r"\frac13"),
    ("√12", r"2\sqrt3"),
    ("sqrt12", r"2\sqrt3"),
    (r"2\sqrt2 \approx 2.83", r"2\sqrt2"),
    ("5 + 3 = 8", "8"),
    (r"\frac94 = 2.25", "9/4"),
    (r"\boxed{4-\sqrt{2}}", r"4 - \sqrt 2"),
    (r"{(4, -\frac65)}", "(4, -1.2)"),
    (r"1,\!448", "1448"),
    ("20:22", "10:11"),
    (r"4\pi\text{ cm^3}", r"4\pi"),
    (r"37,\quad 8", "8, 37"),
    (r"20\text{\%}", r"20\%"),
    ("0.6666666666666666", r"\frac23"),
    (r"\cot^{-1} 1", r"\frac{\pi}{4}"),
    # letters
    ("λ + 1", r"1 + \lambda"),
    ("1+2θ", r"2\theta+1"),
    ("x^2+2x+1", "(x+1)^2"),
    ("b+a", "a+b"),
    ("6x", r"2 \cdot 3x"),
    (r"\frac{x^2-1}{x-1}", "x+1"),
    (r"\frac{x}{2}+\frac12", r"\frac{x+1}{2}"),
    (r"\sin 2x", r"2 \sin x \cos x"),
    (r"\pi r^2", r"r^2 \pi"),
    ("x_1 + x_2", "x_{2} + x_{1}"),
    (r"2\theta", r"\theta + \theta"),
    (r"\lvert x \rvert", "|x|"),
    ("2^{n+1}", r"2 \cdot 2^n"),
    # collections
    (r"\left( 1, \frac{4}{2} \right)", "(1, 2)"),
    (r"\{1, 2\}", r"\{2, 1\}"),
    ("2, 1", "1,2"),
    ("1, 2", r"\{1,2\}"),
    (r"x = 1 \text{ or } x = 2", "1, 2"),
    ("1 and 2", "1,2"),
    (r"\pm 3", "3, -3"),
    (r"1 \pm \sqrt 2", r"1+\sqrt2, 1-\sqrt2"),
    (r"\{5\}", "5"),
    (r"\emptyset", r"\{\}"),
    (r"[0, 1)", "[0,1)"),
    (r"(-\infty, 1) \cup (2, \infty)", r"(2, \infty) \cup (-\infty, 1)"),
    (r"x \in (1, 3]", "(1,3]"),
    (
        r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
        r"\begin{bmatrix}1&2\\3&\frac82\end{bmatrix}",
    ),
    (r"\{1,100\}", r"\{1, 100\}"),
    (r"x=2\pm\sqrt5", r"2+\sqrt5, 2-\sqrt5"),
    (r"x=2\text{ or }x=-2", r"x=\pm2"),
    ("x=1, y=2", "y=2, x=1"),
    ("x=1, y=2", "(1, 2)"),
    (r"x_1=1, x_2=2", "2, 1"),
    ("(x,y)=(3,4)", "(3, 4)"),
    # relations
    (r"\angle ABC = 60^\circ", "60"),
    ("f(3) = 6", "6"),
    (r"\tan A = \frac34", "3/4"),
    ("|AB| = 5", "5"),
    (r"\text{Area} = 12", "12"),
    ("area = 12", "12"),
    ("y = 3 + 2x", "y=2x+3"),
    ("2x + 3", "y = 2x+3"),
    ("f(x) = 2x", "2x"),
    ("2y = 4x", "y = 2x"),
    ("2x+3y-5=0", "2x+3y=5"),
    ("5 > x", "x < 5"),
    (r"1 \leq x < 3", r"3 > x \ge 1"),
    ("(1, 3)", "1 < x < 3"),
    (r"(2, \infty)", "x > 2"),
    (r"(-\infty, 2]", r"x \le 2"),
]


@pytest.mark.parametrize(("prediction", "truth"), SAME)
def test_these_say_the_same(prediction: str, truth: str) -> None:
    assert same_answer(prediction, truth)
    assert equivalent(prediction, truth, "expression")


DIFFERENT = [
    ("2^{2000} + 1", "2^{2000}"),  # exact: as doubles, were they as large, they are the same
    ("10^{20} + 1", "10^{20}"),
    ("-2^2", "4"),
    (r"2\sqrt{3}", r"3\sqrt{2}"),
    (r"\sqrt{2}", "1.4142"),  # five digits are another number
    (r"\sqrt{2}", "1.414215"),
    ("1/3", "0.33333"),
    (r"\sqrt{x^2}", "x"),
    (r"\ln x^2", r"2 \ln x"),
    ("x^2 - 1", "x^2 + 1"),
    ("(x+1)^2", "x^2+1"),
    ("x + y", "x - y"),
    ("x_1", "x_2"),
    ("xy", "x+y"),
    ("(2, 1)", "(1, 2)"),
    ("(1, 2]", "(1, 2)"),
    ("[1, 2]", "(1, 2)"),
    (r"\{1, 2, 2\}", r"\{1, 2\}"),
    (r"\{1, 3\}", r"\{1, 2\}"),
    ("1, 2", "1"),
    (r"\pm 3", "3"),
    ("x = 3", "y = 3"),
    ("y = 2x", "x = 2y"),
    ("x < 5", "x > 5"),
    ("x < 5", r"x \le 5"),
    ("y < 5", "x < 5"),
    ("1 < x < 3", "(1, 3)"),  # who asks for a set is not given back an inequality
    (r"-\infty", r"\infty"),
    (r"\begin{pmatrix} 1 & 2 \end{pmatrix}", r"\begin{pmatrix} 2 & 1 \end{pmatrix}"),
    ("1/0", "2/0"),
    # what a policy could gain by
    (r"x=\pm 3", "3"),
    ("x=3", r"x=\pm 3"),
    (r"y=\pm\frac34x", r"y=\frac34x"),
    (r"x\ne\pm1", r"x\ne1"),
    ("a_{n+1}", "a_n+1"),
    (r"\sqrt[3]{x+1}", r"\sqrt[3]{x}+1"),
    (r"\binom{n}{k+1}", r"\binom{n}{k}+1"),
    (r"\sin{x+1}", r"\sin{x}+1"),
    (r"\{1,2\},3", r"\{1,2,3\}"),
    ("x=1,y=2", "x=2,y=1"),
    ("a=1,b=2", "x=1,y=2"),
    ("(1,200)", "1200"),
    ("(2,345)", "2345"),
    (r"0.\bar{3}", "0"),
    (r"\bar z", "z"),
    (r"P(\overline A)", "P(A)"),
    ("√12", "2"),
    ("2s^2", "2"),
    ("0.000001", r"\frac{1}{2598960}"),
    ("0", r"\pi\times10^{-12}"),
    (r"\sqrt2\times10^{-15}", r"\pi\times10^{-15}"),
    (r"p\wedge q", r"p\vee q"),
    ("五十", "十五"),
    ("dog, cat", "act, god"),
    ("1=2=5", "5"),
    ("6=5", "5"),
    ("x = 4 = 5", "5"),
    ("2x=10", "10"),
    (r"5\text{ m east}", r"5\text{ m west}"),
    (r"3\text{ million}", r"3\text{ billion}"),
    (r"2:30\text{ p.m.}", r"2:30\text{ a.m.}"),
    (r"\text{No}", "on"),
    (r"2\text{pi}", "2"),
    (r"x\text{+1}", "x"),
    (r"\frac{m}{M}", r"\frac{M}{m}"),
    ("R-r", "r-R"),
    ("1,3", r"1\le x\le3"),
    (r"x=1\quad y=2", "2"),
    (r"1\,1/2", r"\frac{11}{2}"),
    ("200!", r"\pi"),
    ("10^{400}", r"2\sqrt3"),
    ("y=10^{400}x^2", r"y=\pi x^2"),
    ("±" * 400, "3"),
    ("x^" + "-" * 500, "3"),
    ("2 3", "6"),
    (r"45^\circ", r"\frac{\pi}{4}"),
]


@pytest.mark.parametrize(("prediction", "truth"), DIFFERENT)
def test_these_say_something_else(prediction: str, truth: str) -> None:
    assert not same_answer(prediction, truth)
    assert not equivalent(prediction, truth, "expression")


WORDS = ["left", "cat", "no solution", r"\text{east}", "3 chairs", "five", "none", "A chair"]


@pytest.mark.parametrize("text", WORDS)
def test_words_are_no_products_of_letters(text: str) -> None:
    assert read(text) is None
    assert not equivalent(text, text[::-1], "expression")


@pytest.mark.parametrize("text", ["2+", "(1", "1)", r"\frac{1}", "x^", "1,,2", "|x", "=", "", "_"])
def test_a_broken_answer_has_no_tree(text: str) -> None:
    assert read(text) is None
    assert not same_answer(text, text)


AS_WORDS = [
    ("7:10 pm", r"7:10\text{ PM}", True),
    ("12:15", r"12:15 \text{ p.m.}", True),
    ("12:15 a.m.", r"12:15 \text{ p.m.}", False),
    ("12:16 pm", r"12:15 \text{ p.m.}", False),
    (r"\text{No}", "no", True),
    (r"\text{(C)}", "C", True),
    ("ab", "AB", True),
]


@pytest.mark.parametrize(("prediction", "truth", "right"), AS_WORDS)
def test_words_and_times_are_compared_as_such(prediction: str, truth: str, right: bool) -> None:
    assert equivalent(prediction, truth, "expression") is right


def test_numbers_too_are_read_as_mathematics_but_texts_are_not() -> None:
    assert equivalent("2 + 2 = 4", "4", "number")
    assert equivalent(r"\frac{3}{-2}", "-1.5", "number")
    assert equivalent("3/-2", "-1.5", "number")
    assert equivalent(r"2\cdot 3\pi", r"6\pi", "number")
    assert not equivalent("2 + 2", "4", "number"), "who is asked for a number has to compute it"
    assert not equivalent("2 + 2 = 4", "5", "number")
    assert equivalent("0.3333333", "1/3", "number")
    assert not equivalent(r"\sqrt{16}", "4", "text")
    assert not equivalent("act", "cat", "expression")


@given(st.integers(1, 10**6), st.integers(2, 10**6), st.integers(6, 12))
def test_a_decimal_is_rounded_or_cut_only_from_what_no_decimal_writes(
    top: int, bottom: int, places: int
) -> None:
    value = Fraction(top, bottom)
    scale = 10**places
    cut = Fraction(top * scale // bottom, scale)
    assume(value >= Fraction(1, 50))  # less has too few digits of its own in so few places
    written = any(10**n % value.denominator == 0 for n in range(16))
    if cut * scale % 10:  # its last digit is no zero, which would be one place less
        assert rounds(cut, value) is not written
    beside = cut + Fraction(2 if cut * scale % 10 != 8 else 3, scale)
    assert not rounds(beside, value)


coefficients = st.lists(st.integers(-9, 9), min_size=1, max_size=4)


def _factors(roots: list[int]) -> str:
    return "".join(f"(x{-root:+d})" for root in roots)


def _expanded(roots: list[int]) -> list[int]:
    powers = [1]
    for root in roots:
        shifted, scaled = [0, *powers], [-root * c for c in powers] + [0]
        powers = [a + b for a, b in zip(shifted, scaled, strict=True)]
    return powers


def _written(powers: list[int]) -> str:
    return "+".join(f"({c})x^{{{n}}}" for n, c in enumerate(powers))


@given(coefficients)
def test_a_product_is_its_expansion_and_no_neighbour_of_it(roots: list[int]) -> None:
    powers = _expanded(roots)
    assert same_answer(_factors(roots), _written(powers))
    for n in range(len(powers)):
        beside = [c + (k == n) for k, c in enumerate(powers)]
        assert not same_answer(_factors(roots), _written(beside))


texts = st.text(r"0123456789.,+-*/^_=<>()[]{}|!%°√π∞±∪∈xyeiABCsin\ frac", max_size=60)


@given(texts, texts)
def test_any_text_is_read_or_is_not_and_nothing_is_raised(a: str, b: str) -> None:
    same_answer(a, b)
    if read(a) is not None:
        assert read(f" {a} ") == read(a)


def test_caps_hold() -> None:
    assert read("1+" * (MAX_CHARS // 2) + "1") is None  # too long
    assert read("(" * 60 + "1" + ")" * 60) is None  # too deep
    assert not same_answer("9^{9^{9^{9}}}", "9^{9^{9^{8}}}")
    assert not same_answer("(10^9)!", "(10^9)! + 1")
    assert not same_answer(", ".join(map(str, range(17))), ", ".join(map(str, range(16, -1, -1))))


HEAVY = [
    "+".join(f"1/{10**9 + k}" for k in range(36)),
    r"\cup".join(["ab"] * 100),
    ",".join(f"a^9b^{n}" for n in range(70)),
    r"\{" + r"\},\{".join([",".join("abcdefghijk")] * 16) + r"\}",
    "+".join(["x"] * 250),
    "5 m" + "^1}" * 160 + "!",
    r"5 \text{m}" + "^{2}" * 100,
    "+".join(f"(x+{k})^{{60}}" for k in range(40)),
    r"\frac{5" * 30,
    r"5\frac{" * 60,
    "{" * 30 + "1,2" + "}" * 30,
    "((((1,2),3),4),5)" * 20,
    "x^" * 200 + "x",
    "200!" * 100,
    ",".join(["x"] * 250),
]


@pytest.mark.parametrize("text", HEAVY)
def test_comparing_costs_less_than_a_plain_substitution_in_two_megabytes(text: str) -> None:
    def peer() -> None:
        re.sub("[<>]", "", "<>" * 1_000_000)

    def compare() -> None:
        equality._read.cache_clear()
        equivalent(text, text + "+1", "expression")
        equivalent(text, text[::-1], "number")
        equivalent(text, ",".join(text.split(",")[::-1]), "expression")

    def seconds(call: Callable[[], None]) -> float:
        began = time.process_time()
        call()
        return time.process_time() - began

    turns = [(seconds(compare), seconds(peer)) for _ in range(3)]
    assert min(ours for ours, _ in turns) < min(theirs for _, theirs in turns)


@pytest.mark.parametrize("depth", [0, 600])
def test_long_sums_do_not_depend_on_the_depth_of_the_caller(depth: int) -> None:
    def below(calls: int) -> bool:
        return below(calls - 1) if calls else same_answer("+".join(["x"] * 250), "250x")

    assert below(depth)


NO_UNITS = [
    *("3xy", "3ab", "3 pi", "3 squared", "3 plus two", "3 or four", "3 quarters", "3 tenths"),
    *("3 cos", "3 lakh", "3 factorial", "3 below zero", r"3{\times pi}", "3 half"),
]


@pytest.mark.parametrize("text", NO_UNITS)
def test_words_that_make_another_number_are_no_units(text: str) -> None:
    assert not equivalent(text, "3", "number")
    assert equivalent("3 square meters", "3", "number")
    assert equivalent("3 meters squared", "3", "number")


SEVERAL = [
    ("A", "A, C", False),
    ("A and C", "A, C", True),
    ("C, A", "A, C", True),
    ("B, D", "B and C", False),
    ("C or D", "C", False),
    ("C or D", "C or D", False),
    ("E = mc^2", "E", False),
    (r"\textbf{(C)}\ 12", "C", True),
    ("Option C", "C", True),
]


@pytest.mark.parametrize(("prediction", "truth", "right"), SEVERAL)
def test_choices_of_several_letters(prediction: str, truth: str, right: bool) -> None:
    assert equivalent(prediction, truth, "choice") is (right or prediction == truth)


def test_the_work_of_one_evaluation_is_bounded_by_its_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = "+".join(f"1/{10**9 + k}" for k in range(36))
    assert not same_answer(text, text + "+0")
    monkeypatch.setattr(treevalues, "_MAX_WORK", 10**9)
    assert same_answer(text, text + "+0")
