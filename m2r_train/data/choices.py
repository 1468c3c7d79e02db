"""Multiple choice as users write it, brought to one form: bare option texts and a letter."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

_LETTERS = string.ascii_uppercase
# "A. cat", "(A) cat", "A) cat", "A: cat". A letter and a blank is no prefix: "A dog".
_PREFIX = re.compile(r"\s*(?:\(([A-Za-z])\)|([A-Za-z])\s*[.):])\s*(\S.*)\Z", re.DOTALL)
_BARE = re.compile(r"\s*\(?([A-Za-z])\)?[.:]?\s*\Z")


def plain_options(options: Sequence[str]) -> tuple[str, ...]:
    """Option texts without their letters: ``["A. cat", "B. dog"]`` -> ``("cat", "dog")``.

    Letters are taken off only where every option has one and they run A, B, C, ...: a lone
    "B: drive" among other options is text.

    Raises:
        ValueError: fewer than 2 or more than 26 options, or two with the same text.
    """
    if not 2 <= len(options) <= len(_LETTERS):
        raise ValueError(f"{len(options)} options: 2 to {len(_LETTERS)} are needed")
    matches = [_PREFIX.match(option) for option in options]
    letters = "".join((match[1] or match[2]).upper() for match in matches if match)
    texts = tuple(option.strip() for option in options)
    if letters == _LETTERS[: len(options)]:
        texts = tuple(match[3].strip() for match in matches if match)
    if len({_plain(text) for text in texts}) < len(texts):  # "AA" and "Aa" are two genotypes
        raise ValueError("two options have the same text")
    return texts


def option_letter(answer: str, options: Sequence[str]) -> str:
    """The letter that an answer means: ``"B"``, ``"(b)"``, ``"B. dog"`` and ``"dog"`` -> ``"B"``.

    ``options`` are the texts of :func:`plain_options`.

    Raises:
        ValueError: the answer means no option, or can be read as two different ones.
    """
    last = _LETTERS[len(options) - 1]
    readings = _by_text(answer, options)
    if bare := _BARE.match(answer):
        readings.add(bare[1].upper())
    elif prefixed := _PREFIX.match(answer):
        # "C. 22.6 cm" still means C; "C. 22.6" where that is option B's text contradicts itself.
        by_rest = _by_text(prefixed[3], options)
        if by_rest or not readings:
            readings |= {(prefixed[1] or prefixed[2]).upper()} | by_rest
    valid = sorted(letter for letter in readings if letter <= last)
    if not valid:
        raise ValueError(f"{answer[:40]!r} is no option: neither a letter A-{last} nor a text")
    if len(valid) > 1:
        raise ValueError(f"{answer[:40]!r} can mean option {' or '.join(valid)}")
    return valid[0]


def _by_text(answer: str, options: Sequence[str]) -> set[str]:
    """Letters of the options with this text; case counts only where it decides between two."""
    exact = {_LETTERS[i] for i, text in enumerate(options) if _plain(text) == _plain(answer)}
    return exact or {
        _LETTERS[i]
        for i, text in enumerate(options)
        if _plain(text).casefold() == _plain(answer).casefold()
    }


def _plain(text: str) -> str:
    """Blanks and a final full stop say nothing about which option is meant."""
    return " ".join(text.split()).removesuffix(".")
