"""Which of many frames are shown."""

from __future__ import annotations


def evenly(count: int, wanted: int) -> list[int]:
    """``wanted`` indexes evenly spaced from the first to the last of ``count``; all if fewer."""
    if count <= wanted:
        return list(range(count))
    if wanted == 1:
        return [0]
    return [round(i * (count - 1) / (wanted - 1)) for i in range(wanted)]
