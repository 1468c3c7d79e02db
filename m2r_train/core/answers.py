"""The output contract ``<think>..</think><answer>\\boxed{..}</answer>``: reading and comparing.

Rewards, data verification and the benchmark scorers share these functions: a completion has one
meaning everywhere. All of them are total (no text makes them raise), linear in the text, and
bounded by caps set before any parsing. No text is run as code: expressions have the values that
`equality` gives them by an own grammar (rewards.md sections 1 to 3, ADR 17).
"""

from __future__ import annotations

import re

from m2r_train.core.equality import has_tree, is_stated, same_answer
from m2r_train.core.latex import MAX_EXPRESSION_CHARS, plain, same_expression
from m2r_train.core.numerals import parse_number, parse_numeral, same_number
from m2r_train.core.records import AnswerType
from m2r_train.core.treevalues import rounds

__all__ = [
    "equivalent",
    "extract_answer",
    "format_valid",
    "option_letter",
    "parse_number",
    "read_completion",
]

_CONTRACT = ["<think>", "</think>", "<answer>", "</answer>"]

_TAG = re.compile(r"</?(?:think|answer)>")

# A text of nothing but "<" costs no more than its first few thousand; what follows them is not
# read. A completion of 4096 tokens has fewer.
_MAX_ANGLES = 5000

# (tag, start, end) in order of position
Tags = list[tuple[str, int, int]]

# Boxes are looked for in the end of a block; real blocks are a few dozen characters.
_MAX_BOX_SEARCH = 8192

# An escaped brace, \{, is text; a box may have its backslash doubled by careless quoting.
_BRACE = re.compile(r"(?P<box>\\\\?boxed\s*\{)|\\.|(?P<open>\{)|(?P<close>\})", re.DOTALL)

_LETTER = re.compile(
    r"(?:(?i:option|choice|answer)\s*(?::|is)?\s*(?=\(?[A-Za-z]\)?\W*$))?[{\s]*(?:"
    r"\(\s*([A-Za-z])\s*\)"  # (c)
    r"|\[\s*([A-Za-z])\s*\]"  # [c]
    r"|([A-Za-z])\s*(?:$|[.:,;)\]]|-\s)"  # C   C. 22.6   c) left   C: left
    r"|([B-HJ-Z])\s+[^\s=+*/^<>]"  # B left: but "A chair" and "I see" are words
    r"|(A)\s+[^a-z\s=+*/^<>]"  # A 22.6
    r")"
)
_SEVERAL = re.compile(
    r"\W*[A-Za-z]\W*?(?:(?:[,;&/]|\b(?:and|or)\b)\s*\(?[A-Za-z]\)?\s*)+\W*", re.IGNORECASE
)


def extract_answer(completion: str) -> str | None:
    """The final answer of a completion, or None when it has none.

    In order (rewards.md section 1): the content of the last brace-balanced ``\\boxed{..}`` inside
    the last complete ``<answer>`` block; else that block's text; both stripped. Whatever stands
    inside ``<think>`` is not read, nor what stands before a ``</think>`` that the prompt opened.
    """
    return _extract(completion, _tags(completion))


def format_valid(completion: str, strict: bool = False) -> bool:
    """Format reward R_fmt (rewards.md section 2): does the completion keep to the contract?

    True when, outer whitespace aside, it is one non-empty think block, optional whitespace, one
    answer block and nothing else. ``strict`` also asks for exactly one ``\\boxed{}`` in the answer.
    """
    text = completion.strip()
    return _keeps_contract(text, _tags(text), strict)


def read_completion(completion: str, strict: bool = False) -> tuple[str | None, bool]:
    """(`extract_answer`, `format_valid`) of a completion, for the price of one scan."""
    text = completion.strip()
    tags = _tags(text)
    return _extract(text, tags), _keeps_contract(text, tags, strict)


def option_letter(text: str) -> str | None:
    """The leading option letter, upper case: of "C. 22.6", "(c)", "C", "\\text{c}"; else None.

    A word is no letter ("Cat"), nor is the article of "A chair".
    """
    # The letter is in front; 64 characters are enough to see what follows it.
    match = _LETTER.match(plain(text[:64]))
    if match is None:
        return None
    letter: str = match[match.lastindex or 0]
    return letter.upper()


def equivalent(prediction: str, truth: str, answer_type: AnswerType) -> bool:
    """Whether an extracted answer equals the ground truth (R_gen, rewards.md section 3).

    The first test is equality of the trimmed texts, in any case but for an expression, where m and
    M differ. Then, by ``answer_type``: choice compares option letters, all of them; number compares
    exact rationals, units dropped; expression and text compare numbers as numbers, and otherwise
    the forms without LaTeX dressing, spaces and case.
    Expressions are the same where their values are (`same_answer`): 2√2 is √8. So are numbers that
    are no plain numerals; but a numeral has to be answered by one, not by work that is left to do.
    No partial credit and no tolerance, but that a decimal of six places or more may be rounded from
    a value that no decimal writes. Texts beyond `MAX_EXPRESSION_CHARS` are compared verbatim.
    """
    prediction, truth = prediction.strip(), truth.strip()
    if len(prediction) > MAX_EXPRESSION_CHARS or len(truth) > MAX_EXPRESSION_CHARS:
        return prediction == truth
    if not prediction or not truth:
        return False
    if prediction == truth:
        return True
    if answer_type != "expression" and prediction.casefold() == truth.casefold():
        return True
    if answer_type == "choice":
        return _same_choice(prediction, truth)
    return _same_value(prediction, truth, answer_type)


def _same_choice(prediction: str, truth: str) -> bool:
    if _SEVERAL.fullmatch(prediction[:64]) or _SEVERAL.fullmatch(truth[:64]):
        chosen, right = _several(prediction), _several(truth)
        return chosen == right and len(chosen) > 0
    one, other = option_letter(prediction), option_letter(truth)
    return one == other if one or other else same_expression(prediction, truth)


def _several(text: str) -> frozenset[str]:
    """The letters of "A and C"; none of "A or C", which chooses nothing."""
    words = re.findall(r"[A-Za-z]+", plain(text[:64]))
    if any(word.casefold() == "or" for word in words):
        return frozenset()
    return frozenset(word.upper() for word in words if len(word) == 1)


_CLOCK = re.compile(
    r"([0-9]{1,2}):([0-5][0-9])\s*(?:(?:\\text\{)?\s*([ap])\.?\s*m\.?\s*\}?)?", re.IGNORECASE
)
_WORDISH = re.compile(r"[A-Za-z\s,.(){}]*")


def _same_clock(prediction: str, truth: str) -> bool | None:
    """Of times of a day, of which one at least says which half; None of all else."""
    a, b = _CLOCK.fullmatch(prediction), _CLOCK.fullmatch(truth)
    halves = {match[3].casefold() for match in (a, b) if match and match[3]}
    if not halves:
        return None
    return a is not None and b is not None and len(halves) == 1 and _time(a) == _time(b)


def _time(match: re.Match[str]) -> tuple[int, int]:
    return int(match[1]), int(match[2])


def _same_value(prediction: str, truth: str, answer_type: AnswerType) -> bool:
    clock = _same_clock(prediction, truth)
    if clock is not None:
        return clock
    any_unit = answer_type == "number"
    a, b = (parse_numeral(text, any_unit=any_unit) for text in (prediction, truth))
    # x = 5 is 5 by the other side's leave only: it is not y = 5.
    both_assign = not any_unit and "=" in prediction and "=" in truth
    if a is not None and b is not None and not both_assign:
        return same_number(a, b) or rounds(a.value, b.value) or rounds(b.value, a.value)
    words = _WORDISH.fullmatch(plain(prediction)) and _WORDISH.fullmatch(plain(truth))
    as_text = answer_type == "text" or words or not (has_tree(prediction) or has_tree(truth))
    if as_text and (both_assign or a is b) and same_expression(prediction, truth):
        return True
    if answer_type == "text":
        return False
    if answer_type == "number" and b is not None and not is_stated(prediction):
        return False  # who is asked for a number has to compute it
    return same_answer(prediction, truth)


def _tags(text: str) -> Tags:
    tags: Tags = []
    at = text.find("<")
    for _ in range(_MAX_ANGLES):
        if at < 0:
            break
        if match := _TAG.match(text, at):
            tags.append((match[0], at, match.end()))
        at = text.find("<", at + 1)
    return tags


def _extract(text: str, tags: Tags) -> str | None:
    block = _last_answer_block(text, tags)
    if block is None:
        return None
    box = _last_box(block)
    return (block if box is None else box).strip()


def _keeps_contract(text: str, tags: Tags, strict: bool) -> bool:
    if [tag for tag, _, _ in tags] != _CONTRACT:
        return False
    (_, first, think_start), (_, think_end, gap_start), (_, gap_end, start), (_, end, last) = tags
    if first != 0 or last != len(text) or text[gap_start:gap_end].strip():
        return False
    if not text[think_start:think_end].strip():
        return False
    block = text[start:end]
    return not strict or (len(block) <= _MAX_BOX_SEARCH and len(_boxes(block)) == 1)


def _last_answer_block(text: str, tags: Tags) -> str | None:
    """The text of the last ``<answer>..</answer>`` that lies outside of every think block."""
    block: str | None = None
    thinking, start = 0, -1
    opened_by_prompt = True  # until a <think> shows otherwise
    for tag, at, end in tags:
        if tag == "<think>":
            thinking, start, opened_by_prompt = thinking + 1, -1, False
        elif tag == "</think>":
            if opened_by_prompt:  # all before this was thought
                block = None
            thinking, start, opened_by_prompt = max(thinking - 1, 0), -1, False
        elif thinking:
            continue
        elif tag == "<answer>":
            start = end
        elif start >= 0:
            block, start = text[start:at], -1
    return block


def _last_box(block: str) -> str | None:
    word = block.rfind("boxed")
    if word < 0:
        return None
    end = block.find("}", word)
    if end >= 0 and block[max(word - 1, 0) : word + 6] == "\\boxed{":
        content = block[word + 6 : end]
        if "{" not in content and "\\" not in content:
            return content  # as nearly all are; what nests or escapes is parsed
    boxes = _boxes(block[-_MAX_BOX_SEARCH:])
    return boxes[-1] if boxes else None


def _boxes(text: str) -> list[str]:
    """The contents of all brace-balanced ``\\boxed{..}``, in order of where they open."""
    open_braces: list[tuple[bool, int]] = []
    spans: list[tuple[int, int]] = []
    for match in _BRACE.finditer(text):
        kind = match.lastgroup
        if kind == "close" and open_braces:
            is_box, start = open_braces.pop()
            if is_box:
                spans.append((start, match.start()))
        elif kind in ("box", "open"):
            open_braces.append((kind == "box", match.end()))
    return [text[start:end] for start, end in sorted(spans)]
