"""The first number of an English text, in digits or words."""

from __future__ import annotations

import re

from m2r_train.benchmarks.base import as_float


def _words(text: str) -> list[str]:
    return text.split()


_UNITS = _words("""zero one two three four five six seven eight nine ten eleven twelve thirteen
    fourteen fifteen sixteen seventeen eighteen nineteen""")
_TENS = _words("twenty thirty forty fifty sixty seventy eighty ninety")
_SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000}
_VALUES = {word: i for i, word in enumerate(_UNITS)} | {
    word: 10 * i for i, word in enumerate(_TENS, start=2)
}

_WORD = "|".join((*_VALUES, *_SCALES))
_WORD_ALONE = re.compile(rf"\b(?:{_WORD})\b")
_NUMBER = re.compile(
    rf"""
    (?P<digits> [-+]? (?: [0-9]{{1,3}}(?:,[0-9]{{3}})+(?![0-9])(?:\.[0-9]+)?
                        | [0-9]+(?:\.[0-9]+)? | \.[0-9]+ ) )
  | \b(?P<words> (?:{_WORD}) (?: (?:\s+and\s+|[\s-]+) (?:{_WORD}) )* )\b
    """,
    re.IGNORECASE | re.VERBOSE,
)
_MAX_WORDS = 12


def first_number(text: str) -> float | None:
    """The first number that stands anywhere in a text; None without one."""
    match = _NUMBER.search(text)
    if match is None:
        return None
    if match["digits"]:
        return as_float(match["digits"].replace(",", ""))
    return float(_spelled(_WORD_ALONE.findall(match["words"].lower())[:_MAX_WORDS]))


def _spelled(words: list[str]) -> int:
    """The value of number words; those that do not continue the number begin another one."""
    total = current = 0
    last = 0  # the value of the word before
    for i, word in enumerate(words):
        if scale := _SCALES.get(word):
            current = (current or 1) * scale
            if scale > 100:
                total, current = total + current, 0
            last = scale
            continue
        value = _VALUES[word]
        if i and not (last >= 100 or (last >= 20 and last % 10 == 0 and 0 < value < 10)):
            break
        current, last = current + value, value
    return total + current
