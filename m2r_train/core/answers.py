"""Whether two extracted answers are the same (R_gen, rewards.md section 3).

Rewards, data verification and the benchmark scorers share these functions. All of them are total
(no text makes them raise), linear in the text, and bounded by caps set before any parsing. No text
is run as code: expressions have the values that `equality` gives them by an own grammar (ADR 17).
"""

from __future__ import annotations

import re

from m2r_train.core.equality import has_tree, is_stated, same_answer
from m2r_train.core.latex import MAX_EXPRESSION_CHARS, plain, same_expression
from m2r_train.core.numerals import parse_numeral, same_number
from m2r_train.core.records import AnswerType
from m2r_train.core.treevalues import rounds

__all__ = ["equivalent", "option_letter"]

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
