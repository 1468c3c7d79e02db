"""Digits and signs as 5 x 7 dots, scaled up without smoothing: readable at 64 pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

GLYPH_WIDTH, GLYPH_HEIGHT = 5, 7

_ROWS: dict[str, str] = {
    "0": "01110 10001 10011 10101 11001 10001 01110",
    "1": "00100 01100 00100 00100 00100 00100 01110",
    "2": "01110 10001 00001 00110 01000 10000 11111",
    "3": "11110 00001 00001 01110 00001 00001 11110",
    "4": "00010 00110 01010 10010 11111 00010 00010",
    "5": "11111 10000 11110 00001 00001 10001 01110",
    "6": "00110 01000 10000 11110 10001 10001 01110",
    "7": "11111 00001 00010 00100 01000 01000 01000",
    "8": "01110 10001 10001 01110 10001 10001 01110",
    "9": "01110 10001 10001 01111 00001 00010 01100",
    "+": "00000 00100 00100 11111 00100 00100 00000",
    "-": "00000 00000 00000 11111 00000 00000 00000",
    "x": "00000 10001 01010 00100 01010 10001 00000",
}

GLYPHS: dict[str, npt.NDArray[np.bool_]] = {
    sign: np.array([[dot == "1" for dot in row] for row in rows.split()])
    for sign, rows in _ROWS.items()
}


def draw_text(
    image: npt.NDArray[np.uint8],
    text: str,
    corner: tuple[int, int],
    *,
    scale: int,
    colour: tuple[int, int, int],
) -> None:
    """Write ``text`` into ``image`` (H, W, 3) in place; ``corner`` is its upper left (row, column),
    a dot is ``scale`` pixels a side."""
    top, left = corner
    for sign in text:
        dots = np.kron(GLYPHS[sign], np.ones((scale, scale), dtype=bool))
        height, width = dots.shape
        image[top : top + height, left : left + width][dots] = colour
        left += (GLYPH_WIDTH + 1) * scale


def text_width(text: str, scale: int) -> int:
    """Width in pixels of ``text`` at ``scale``, without the last gap."""
    return ((GLYPH_WIDTH + 1) * len(text) - 1) * scale
