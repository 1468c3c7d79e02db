"""Levenshtein distance with one machine operation on whole columns for each character."""

from __future__ import annotations


def levenshtein(pattern: str, text: str) -> int:
    """Insertions, deletions and substitutions between two texts, case-sensitive.

    The bit-vector form of Myers (1999) for the global distance, with ``pattern`` in the bits of
    an integer: len(text) steps, each linear in len(pattern) / 64.
    """
    if not pattern or _runs_through(pattern, text):
        return len(text) - len(pattern)
    full = (1 << len(pattern)) - 1
    last = 1 << (len(pattern) - 1)
    where: dict[str, int] = {}
    for i, character in enumerate(pattern):
        where[character] = where.get(character, 0) | 1 << i
    rises, falls, distance = full, 0, len(pattern)  # vertical differences of the current column
    for character in text:
        match = where.get(character, 0)
        vertical = match | falls
        horizontal = (((match & rises) + rises) ^ rises) | match
        up = falls | ~(horizontal | rises) & full
        down = rises & horizontal
        distance += bool(up & last) - bool(down & last)
        up = (up << 1 | 1) & full
        down = down << 1 & full
        rises = down | ~(vertical | up) & full
        falls = up & vertical
    return distance


def _runs_through(pattern: str, text: str) -> bool:
    """Whether the text has all characters of the pattern in order: then the rest is inserted."""
    at = -1
    return all((at := text.find(character, at + 1)) >= 0 for character in pattern)
