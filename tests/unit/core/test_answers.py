"""Reading and comparing answers: every row of rewards.md sections 1 to 3, and the edges."""

from __future__ import annotations

import pytest

from m2r_train.core.answers import equivalent, option_letter
from m2r_train.core.contract import extract_answer, format_valid, read_completion

EXTRACTIONS = [
    ("the box in the answer block", r"<think>a</think><answer>\boxed{7}</answer>", "7"),
    (
        "the authors' sample output",
        "<think>a</think>\n<answer>\n\\boxed{C. 22.6}\n</answer>",
        "C. 22.6",
    ),
    ("the last of several boxes", r"<answer>\boxed{6} no, \boxed{7}</answer>", "7"),
    ("the last balanced box", r"<answer>\boxed{7} or \boxed{8</answer>", "7"),
    ("braces inside of the box", r"<answer>\boxed{\frac{1}{2}}</answer>", r"\frac{1}{2}"),
    ("escaped braces inside of the box", r"<answer>\boxed{\{1, 2\}}</answer>", r"\{1, 2\}"),
    ("one escaped brace inside of the box", r"<answer>\boxed{\left\{7}</answer>", r"\left\{7"),
    ("the innermost of nested boxes", r"<answer>\boxed{\boxed{7}}</answer>", "7"),
    ("space between box and brace", r"<answer>\boxed {7}</answer>", "7"),
    ("a box with its backslash doubled", r"<answer>\\boxed{7}</answer>", "7"),
    ("a stray brace before the box", r"<answer>} \boxed{7}</answer>", "7"),
    ("the word boxed after the box", r"<answer>\boxed{7} is boxed</answer>", "7"),
    ("the text of a block without a box", "<think>a</think><answer> 7 \n</answer>", "7"),
    ("the text when the box is not closed", r"<answer>\boxed{7</answer>", r"\boxed{7"),
    ("the last of several blocks", "<answer>7</answer><answer>8</answer>", "8"),
    ("the last complete block", r"<answer>7</answer><answer>\boxed{8}", "7"),
    ("the inner of two openings", "<answer>x<answer>8</answer>", "8"),
    ("a second closing tag changes nothing", "<answer>7</answer></answer>", "7"),
    ("no answer block, no answer", r"<think>a</think>\boxed{7}", None),
    ("a block that the length limit cut", r"<think>a</think><answer>\boxed{7}", None),
    ("a closing tag alone", "7</answer>", None),
    ("nothing at all", "", None),
    ("a box in the think block", r"<think>\boxed{7}</think><answer></answer>", ""),
    ("an answer block in the think block", r"<think><answer>\boxed{7}</answer></think>", None),
    ("a think block that never ends", r"<think>a<answer>\boxed{7}</answer>", None),
    ("thought begun by the prompt", r"<answer>\boxed{7}</answer></think><answer>8</answer>", "8"),
    ("only thought begun by the prompt", r"a <answer>\boxed{7}</answer> b</think>", None),
    ("a stray end of thought behind", "<think>a</think><answer>7</answer></think>", "7"),
    ("nested thought", "<think>a<think>b</think><answer>7</answer></think>", None),
    ("an answer before the thought", r"<answer>7</answer><think>\boxed{8}</think>", "7"),
    ("a block torn by thought", r"<answer>7<think>\boxed{8}</think></answer>", None),
    ("tags are case-sensitive", "<ANSWER>7</ANSWER>", None),
]


@pytest.mark.parametrize(
    ("completion", "expected"), [c[1:] for c in EXTRACTIONS], ids=[c[0] for c in EXTRACTIONS]
)
def test_the_extracted_answer_is(completion: str, expected: str | None) -> None:
    assert extract_answer(completion) == expected


FORMATS = [
    # the table of rewards.md section 2
    (r"<think>a</think><answer>\boxed{7}</answer>", True, True),
    ("<think>a</think>\n<answer>7</answer>", True, False),
    ("<answer>7</answer>", False, False),
    ("<think>a</think><answer>7</answer> done", False, False),
    ("<think>a</think><answer>7</answer><answer>8</answer>", False, False),
    (r"<think></think><answer>\boxed{7}</answer>", False, False),
    (r"<think>a</think><answer>\boxed{7}", False, False),
    # its words: "nothing before, between or after"
    (" \n<think>a</think> \n\t<answer>\\boxed{7}</answer>\n ", True, True),
    (r"so <think>a</think><answer>\boxed{7}</answer>", False, False),
    (r"<think>a</think> so <answer>\boxed{7}</answer>", False, False),
    (r"<think>a</think><think>b</think><answer>\boxed{7}</answer>", False, False),
    (r"<think> </think><answer>\boxed{7}</answer>", False, False),
    (r"<answer>\boxed{7}</answer><think>a</think>", False, False),
    (r"<think>a<answer>b</answer></think><answer>\boxed{7}</answer>", False, False),
    (r"<think>a<answer></think>\boxed{7}</answer>", False, False),
    (r"<think>a</think><answer>\boxed{7} \boxed{8}</answer>", True, False),
    (r"<think>\boxed{7}</think><answer>7</answer>", True, False),
    (r"<think>a</think><answer>\boxed{7</answer>", True, False),
    ("", False, False),
]


@pytest.mark.parametrize(("completion", "valid", "strictly"), FORMATS)
def test_the_format_is_valid(completion: str, valid: bool, strictly: bool) -> None:
    assert format_valid(completion) is valid
    assert format_valid(completion, strict=True) is strictly


@pytest.mark.parametrize("completion", [c[1] for c in EXTRACTIONS] + [c[0] for c in FORMATS])
@pytest.mark.parametrize("strict", [False, True])
def test_one_reading_gives_both_the_answer_and_the_format(completion: str, strict: bool) -> None:
    both = (extract_answer(completion), format_valid(completion, strict))
    assert read_completion(completion, strict) == both


LETTERS = [
    ("C. 22.6", "C"),
    ("(c)", "C"),
    ("C", "C"),
    ("c", "C"),
    ("[b]", "B"),
    ("A) left", "A"),
    ("A: left", "A"),
    ("A - left", "A"),
    ("B left", "B"),
    ("A 22.6", "A"),
    ("**D**", "D"),
    (r"\text{C}", "C"),
    (r"\textbf{(D)}", "D"),
    ("$C$", "C"),
    ("(A) chair", "A"),
    ("Cat", None),
    ("A chair", None),
    ("I see", None),
    ("A-frame", None),
    ("x = 5", None),
    ("C22", None),
    ("22.6", None),
    ("", None),
    ("é", None),
    ("Ａ", None),
]


@pytest.mark.parametrize(("text", "letter"), LETTERS)
def test_the_leading_option_letter_is(text: str, letter: str | None) -> None:
    assert option_letter(text) == letter


EQUIVALENT = [
    ("C. 22.6", "C", "choice"),
    ("c", "C", "choice"),
    ("(C)", "C. chair", "choice"),
    ("Left", "left", "choice"),
    ("7", "7", "number"),
    ("7.0", "7", "number"),
    ("1,000", "1000", "number"),
    ("1/2", "0.5", "number"),
    (r"\frac{1}{2}", "0.5", "number"),
    ("1.5e3", "1500", "number"),
    (r"1.5\times10^{3}", "1500", "number"),
    ("7 cm", "7", "number"),
    ("75%", "0.75", "number"),
    ("75%", "75", "number"),
    ("75", r"75\%", "number"),
    ("0%", "0", "number"),
    ("1e999999999", "1E999999999 ", "number"),  # exact text comes first: never computed
    (r"3\pi", "3π", "number"),
    ("0.10000000000000000000001", "0.10000000000000000000001", "number"),
    (r"\dfrac{a+b}{2}", "(a + b)/2", "expression"),
    (r"\frac12", "0.5", "expression"),
    ("x^{2}", "x^2", "expression"),
    (r"\sqrt{2}", "√2", "expression"),
    (r"2 \cdot x", "2x", "expression"),
    ("x = 5", "5", "expression"),
    (r"\left(1, 2\right)", "(1,2)", "expression"),
    (r"\{1,2\}", "{1, 2}", "expression"),
    (r"12\text{ cm}", "12", "expression"),
    (r"45^{\circ}", "45°", "expression"),
    ("Left  Turn.", "left turn", "text"),
    (r"\text{left turn}", "Left turn", "text"),
    ("12", "12.0", "text"),
]


@pytest.mark.parametrize(("prediction", "truth", "answer_type"), EQUIVALENT)
def test_these_are_the_same_answer(prediction: str, truth: str, answer_type: str) -> None:
    assert equivalent(prediction, truth, answer_type)  # type: ignore[arg-type]


DIFFERENT = [
    ("B. 22.6", "C. 22.6", "choice"),
    ("Cat", "C", "choice"),
    ("22.6", "C", "choice"),
    ("right", "left", "choice"),
    ("", "", "choice"),
    ("8", "7", "number"),
    ("0.333", "1/3", "number"),
    ("0.10000000000000000000001", "0.1", "number"),  # the same double, another number
    ("-7", "7", "number"),
    ("5 million", "5", "number"),
    ("5 feet 10 inches", "5", "number"),
    ("5, 6", "5", "number"),
    ("seven", "7", "number"),
    ("750%", "75", "number"),
    ("", "0", "number"),
    ("", "", "number"),
    ("5x", "5", "expression"),
    ("5x", "5", "number"),
    ("23", "2*3", "expression"),
    ("y = 5", "x = 5", "expression"),
    (r"\frac{1}{2x}", r"\frac{1}{2}x", "expression"),
    ("(1,2)", "(2,1)", "expression"),
    ("x^2", "x2", "expression"),
    ("-x", "x", "expression"),
    ("left", "right", "text"),
    ("left", "not left", "text"),
]


@pytest.mark.parametrize(("prediction", "truth", "answer_type"), DIFFERENT)
def test_these_are_different_answers(prediction: str, truth: str, answer_type: str) -> None:
    assert not equivalent(prediction, truth, answer_type)  # type: ignore[arg-type]


def test_texts_over_the_cap_are_compared_verbatim() -> None:
    assert equivalent(" " + "x" * 600, "x" * 600 + "\n", "text")
    assert not equivalent("X" * 600, "x" * 600, "text")
