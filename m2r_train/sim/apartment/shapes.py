"""The shape of each category: the faces of its pieces, in a box of size 1.

All things of a category are this shape, stretched, turned and moved, so that which piece is beyond
which side of another is the same in all: their order is that of the shape, seen from where the eye
is in the box's own coordinates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from m2r_train.sim.apartment.goods import GOODS
from m2r_train.sim.apartment.orders import Array, Order, Prism, order_of
from m2r_train.sim.catalogue import Piece
from m2r_train.sim.scene import Rgb

Indices = npt.NDArray[np.intp]
_SIDES = 8  # of what is round
_CONE_TOP = 0.15  # of its width at the foot

Corner = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Shape:
    """Faces of a category's pieces, flat and convex, counter-clockwise seen from outside.

    ``corners`` (3, v): x and y in -0.5..0.5 and height in 0..1, one face after the other;
    ``counts`` (f,): corners of each face; ``faces``: the faces of each piece.
    """

    corners: Array
    counts: Indices
    faces: tuple[Indices, ...]
    order: Order
    known: dict[tuple[int, ...], Indices] = field(default_factory=dict)

    def back_to_front(self, eye: Array) -> Indices:
        """The faces in the order in which they are painted, seen from ``eye`` (3,) in the box."""
        order = tuple(self.order.back_to_front(eye))
        if (found := self.known.get(order)) is None:
            found = self.known[order] = np.concatenate([self.faces[piece] for piece in order])
        return found


@cache
def shape_of(category: str) -> Shape:
    """The shape of a category of ``GOODS``."""
    pieces = GOODS[category].look.pieces
    covers = [_cover(piece) for piece in pieces]
    ends = np.cumsum([0, *map(len, covers)])
    whole = [face for cover in covers for face in cover]
    return Shape(
        corners=np.array([corner for face in whole for corner in face]).T.copy(),
        counts=np.array([len(face) for face in whole]),
        faces=tuple(np.arange(a, b) for a, b in pairwise(ends)),
        order=order_of([Prism(_rim(p), p.y, p.y + p.h) for p in pieces]),
    )


@cache
def colours_of(category: str, own: Rgb) -> Array:
    """(f, 3): colours of the faces of a thing of this category and colour."""
    pieces = GOODS[category].look.pieces
    inks = np.array([toned(p.colour or own, p.tone) for p in pieces], dtype=np.float64)
    colours = np.repeat(inks, [len(faces) for faces in shape_of(category).faces], axis=0)
    colours.setflags(write=False)
    return colours


def _rim(piece: Piece) -> tuple[tuple[float, float], ...]:
    """The outline of a piece."""
    if piece.shape == "box":
        turns = ((-1, -1), (1, -1), (1, 1), (-1, 1))
        return tuple((piece.x + x * piece.w / 2, piece.z + z * piece.d / 2) for x, z in turns)
    angles = [2 * math.pi * (k + 0.5) / _SIDES for k in range(_SIDES)]
    return tuple(
        (piece.x + piece.w / 2 * math.cos(t), piece.z + piece.d / 2 * math.sin(t)) for t in angles
    )


def _cover(piece: Piece) -> list[tuple[Corner, ...]]:
    """Top, underside and sides."""
    taper = _CONE_TOP if piece.shape == "cone" else 1.0
    rim = _rim(piece)
    low = [(x, y, piece.y) for x, y in rim]
    high = [
        (piece.x + taper * (x - piece.x), piece.z + taper * (y - piece.z), piece.y + piece.h)
        for x, y in rim
    ]
    turned = [(*low[1:], low[0]), (*high[1:], high[0])]
    sides = zip(low, *turned, high, strict=True)
    return [tuple(high), tuple(reversed(low)), *sides]


@cache
def toned(colour: Rgb, tone: float) -> Rgb:
    """A colour made darker or lighter."""
    red, green, blue = (min(255, round(channel * tone)) for channel in colour)
    return red, green, blue
