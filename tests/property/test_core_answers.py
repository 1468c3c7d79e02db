"""Laws of the answer reader: total over all texts, true to what was boxed, an equivalence."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from m2r_train.core import contract
from m2r_train.core.answers import equivalent, option_letter
from m2r_train.core.contract import extract_answer, format_valid, read_completion
from m2r_train.core.latex import canonical, plain
from m2r_train.core.numerals import parse_number, parse_numeral

TYPES = ["choice", "number", "expression", "text"]
TAGS = ["<think>", "</think>", "<answer>", "</answer>", "\\boxed{", "{", "}", "\\{", "\\", "boxed"]
LATEX = [
    "\\frac",
    "\\sqrt",
    "{",
    "}",
    "(",
    ")",
    "^",
    "-",
    "1",
    "12",
    ".5",
    "x",
    "=",
    "%",
    " ",
    "\\pi",
]

tagged = st.lists(st.one_of(st.sampled_from(TAGS), st.text(max_size=5)), max_size=40).map("".join)
latex = st.lists(st.sampled_from(LATEX), max_size=60).map("".join)
anything = st.one_of(st.text(max_size=300), tagged, latex)
# What people box: no tags, no lone braces.
boxable = st.text(st.characters(exclude_characters="<>{}\\"), max_size=30)


@given(anything)
def test_reading_is_total(text: str) -> None:
    extracted = extract_answer(text)
    assert extracted is None or (extracted == extracted.strip() and extracted in text)
    assert read_completion(text) == (extracted, format_valid(text))
    assert format_valid(text) or not format_valid(text, strict=True)
    number = parse_number(text)
    assert number is None or math.isfinite(number)
    assert option_letter(text) in {None, *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
    canonical(text)


@given(anything, anything)
@example("A", "A{")
@example("0", "{0")
@pytest.mark.parametrize("answer_type", TYPES)
def test_equivalence_is_total_and_symmetric(answer_type: str, a: str, b: str) -> None:
    assert equivalent(a, b, answer_type) == equivalent(b, a, answer_type)  # type: ignore[arg-type]


@given(anything)
@pytest.mark.parametrize("answer_type", TYPES)
def test_every_answer_but_the_empty_one_equals_itself(answer_type: str, text: str) -> None:
    assert equivalent(text, f" {text}\n", answer_type) is bool(text.strip())  # type: ignore[arg-type]


@given(tagged, boxable, tagged)
def test_what_is_boxed_in_the_last_block_is_extracted(
    before: str, answer: str, inside: str
) -> None:
    inside = inside.replace("<", "(").replace("\\", "/").replace("{", "[").replace("}", "]")
    before = before.replace("<think>", "")
    text = f"{before}</think><answer>{inside}\\boxed{{{answer}}}</answer>"
    assert extract_answer(text) == answer.strip()


@given(tagged)
def test_nothing_inside_of_a_think_block_is_read(thought: str) -> None:
    thought = thought.replace("<think>", "").replace("</think>", "")
    assert extract_answer(f"<think>{thought}</think>") is None
    assert extract_answer(f"<think>{thought}") is None
    with_answer = f"<think>{thought}</think><answer>\\boxed{{7}}</answer>"
    assert extract_answer(with_answer) == "7"


@given(tagged)
@example("\\boxed{7} boxed")
@example("\\\\\\boxed{7}")
@example("{\\boxed{7")
def test_the_short_cut_to_the_last_box_agrees_with_the_parser(block: str) -> None:
    boxes = contract._boxes(block)
    assert contract._last_box(block) == (boxes[-1] if boxes else None)


@given(boxable, boxable, st.sampled_from(["", " ", "\n\n"]))
def test_the_contract_is_valid_and_anything_outside_of_it_is_not(
    thought: str, answer: str, gap: str
) -> None:
    text = f"<think>{thought}</think>{gap}<answer>\\boxed{{{answer}}}</answer>"
    assert format_valid(text, strict=True) is bool(thought.strip())
    for broken in (f"x{text}", f"{text}x", text.replace("</think>", "</think>x"), text + text):
        assert not format_valid(broken)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_double_written_out_is_read_back_exactly(x: float) -> None:
    assert parse_number(repr(x)) == x
    assert parse_number(f"${x!r}$ m") == x


@given(st.integers(-(10**30), 10**30), st.integers(1, 10**9), st.sampled_from(["", " cm", "."]))
def test_fractions_are_read_exactly_in_every_notation(top: int, bottom: int, tail: str) -> None:
    value = Fraction(top, bottom)
    sign, top = ("-", -top) if top < 0 else ("", top)
    for text in (
        f"{sign}{top}/{bottom}",
        f"{sign}\\frac{{{top}}}{{{bottom}}}",
        f"{sign}{top:,}/{bottom:,}",
    ):
        numeral = parse_numeral(text + tail)
        assert numeral is not None and numeral.value == value


@given(st.decimals(-(10**6), 10**6, places=4), st.decimals(-(10**6), 10**6, places=4))
def test_numbers_are_equivalent_exactly_when_they_are_equal(a: object, b: object) -> None:
    for answer_type in ("number", "expression"):
        assert equivalent(f"{a:,}", str(b), answer_type) is (a == b)  # type: ignore[arg-type]
        assert equivalent(f"{a:,}", f"{a}000", answer_type)  # type: ignore[arg-type]


@given(latex)
def test_the_canonical_form_is_its_own_canonical_form(text: str) -> None:
    first = canonical(text)
    if first is not None and not {"^", "√", "/", "-", "{", "}", ")"} & set(first):
        assert canonical(" ".join(first)) == first


@settings(max_examples=50)
@given(st.text(max_size=200))
def test_plain_notation_does_not_grow(text: str) -> None:
    assert len(plain(text)) <= len(text) + 4 * text.count("\\")
