"""VLMEvalKit's option finder, used by several of its tables (benchmarks.md section 9)."""

from __future__ import annotations

import re
from collections.abc import Mapping

NO_ANSWER = "Z"
"""What the finder returns for a text that declines to answer."""

_MARKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))

_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)

_ANSWER_IS = re.compile(r"answer is\s*\**\s*([A-D])\b", re.IGNORECASE)


def find_option(text: str, options: Mapping[str, str]) -> str | None:
    """The option letter that a text chooses, `NO_ANSWER` where it declines, None where unclear.

    ``options`` maps letters to texts. In order: the one letter among the last four words; a lone
    Z; a refusal; "answer is X" with X in A..D; the one option whose text a short answer contains.
    """
    words = text.translate(_MARKS).split()
    present = [letter for letter in options if letter in words]
    if len(present) == 1 and words.index(present[0]) > len(words) - 5:
        return present[0]
    if not present and NO_ANSWER in words:
        return NO_ANSWER
    if any(refusal in text for refusal in _REFUSALS):
        return NO_ANSWER
    if match := _ANSWER_IS.search(text):
        return match[1].upper()
    return _by_text(text, options)


def _by_text(text: str, options: Mapping[str, str]) -> str | None:
    if len(text) > 2 * sum(map(len, options.values())):
        return None
    lowered = text.lower()
    found = [letter for letter, option in options.items() if option.lower() in lowered]
    return found[0] if len(found) == 1 else None
