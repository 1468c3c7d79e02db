"""The loops that the paper names as a failure of its model (claims.md, open question 2)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

SEGMENT_CHARS = 100
REPEATS = 3

_SPACE = re.compile(r"\s")


def has_repetition(text: str, segment: int = SEGMENT_CHARS, repeats: int = REPEATS) -> bool:
    """Whether some segment of ``segment`` characters stands ``repeats`` times or more in ``text``.

    Occurrences must not overlap: a rule of 120 dashes is one, a short phrase repeated for
    some 300 characters is three. Linear in the text; prose without a loop costs one look at each
    word.
    """
    if len(text) < segment * repeats or not _may_repeat(text, segment // 2, repeats):
        return False
    return _repeats(text, segment, repeats, range(len(text) - segment + 1))


def _may_repeat(text: str, half: int, repeats: int) -> bool:
    """False only if no segment of 2 * half characters repeats.

    A segment has a space in its first half, and then the ``half`` characters from that space on
    repeat with it; or it has none, and then there is a word of at least ``half`` characters.
    """
    spaces = [match.start() for match in _SPACE.finditer(text)]
    edges = zip([-1, *spaces], [*spaces, len(text)], strict=True)
    if any(right - left > half for left, right in edges):
        return True
    windows = Counter(text[at : at + half] for at in spaces)
    return bool(windows) and max(windows.values()) >= repeats


def _repeats(text: str, segment: int, repeats: int, starts: Iterable[int]) -> bool:
    counted: dict[str, tuple[int, int]] = {}  # segment -> (occurrences, first free position)
    for at in starts:
        piece = text[at : at + segment]
        count, free = counted.get(piece, (0, 0))
        if at >= free:
            if count + 1 >= repeats:
                return True
            counted[piece] = (count + 1, at + segment)
    return False
