"""Empty rooms as flat faces: boards, ceiling, walls with their openings, shadows of what stands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from m2r_train.sim.apartment.orders import Array
from m2r_train.sim.apartment.rooms import Room
from m2r_train.sim.apartment.shapes import toned
from m2r_train.sim.scene import Rgb
from m2r_train.spatial.scene import Box

_BOARD, _BOARD_LENGTH = 0.5, 1.25  # metres, of the floor's faces
_BOARD_TONES = (1.0, 0.94, 1.04, 0.97, 1.02, 0.91)
_SHADOWS = ((0.06, 0.86), (0.02, 0.72))  # how far around a thing, metres, and how dark
_ALONG = np.array([(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)])  # a room's sides
_CEILING: Rgb = (244, 244, 240)
_FRAME: Rgb = (168, 150, 128)
_GLASS: Rgb = (196, 220, 240)


@dataclass(frozen=True, slots=True)
class Quads:
    """Rectangles under construction, counter-clockwise for who may see them."""

    corners: list[Array] = field(default_factory=list)  # (n, 4, 3) each
    colours: list[Array] = field(default_factory=list)  # (n, 3) each

    def add(self, corners: Array, colours: Array) -> None:
        """(n, 4, 3) metres and (n, 3) colours of n of them."""
        self.corners.append(corners)
        self.colours.append(colours)


def shell_of(room: Room, boxes: Sequence[Box], height: float) -> tuple[Array, Array]:
    """Corners (n, 4, 3) and colours (n, 3) of an empty room, in the order in which they are
    painted; all are seen from inside only."""
    quads = Quads()
    _boards(quads, room)
    _uprights(quads, room, height)
    _shade(quads, room, [box for box in boxes if box.bottom <= 0.05])
    return np.concatenate(quads.corners), np.concatenate(quads.colours)


def _boards(quads: Quads, room: Room) -> None:
    across = max(1, round((room.x1 - room.x0) / _BOARD_LENGTH))
    along = max(1, round((room.y1 - room.y0) / _BOARD))
    k, j = np.divmod(np.arange(across * along), across)
    xs = np.linspace(room.x0, room.x1, across + 1)
    ys = np.linspace(room.y0, room.y1, along + 1)
    corners = np.zeros((len(j), 4, 3))
    corners[..., 0] = np.stack([xs[j], xs[j + 1], xs[j + 1], xs[j]], axis=1)
    corners[..., 1] = np.stack([ys[k], ys[k], ys[k + 1], ys[k + 1]], axis=1)
    tones = np.array([toned(room.floor, tone) for tone in _BOARD_TONES], dtype=np.float64)
    quads.add(corners, tones[(j * 5 + k * 7 + j * k) % len(_BOARD_TONES)])


def _uprights(quads: Quads, room: Room, height: float) -> None:
    """The ceiling, and four walls with doors and windows."""
    top = np.full((1, 4, 3), height)
    top[0, :, :2] = room.outline[::-1]
    quads.add(top, np.array([_CEILING], dtype=np.float64))
    strips = [(side, *strip) for side in range(4) for strip in _strips(room, side, height)]
    sides = [strip[0] for strip in strips]
    start, stop, low, high = np.array([strip[1:5] for strip in strips]).T
    corner, along = np.array(room.outline)[sides], _ALONG[sides]
    a, b = corner + along * start[:, None], corner + along * stop[:, None]
    corners = np.empty((len(strips), 4, 3))
    # Seen from inside, a side runs from left to right when walked clockwise.
    corners[..., :2] = np.stack([b, a, a, b], axis=1)
    corners[..., 2] = np.stack([low, low, high, high], axis=1)
    quads.add(corners, np.array([strip[5] for strip in strips], dtype=np.float64))


_Strip = tuple[float, float, float, float, Rgb]  # from, to along the wall; low, high; colour


def _strips(room: Room, side: int, height: float) -> list[_Strip]:
    """What there is on a wall: itself around the doors, then skirting and frames, then windows."""
    length, paint = room.length(side), room.wall
    doors = sorted((d for d in room.doors if d.side == side), key=lambda d: d.start)
    wall: list[_Strip] = []
    trim: list[_Strip] = []
    at = 0.0
    for door in doors:
        end = door.start + door.width
        wall.append((at, door.start, 0.0, height, paint))
        wall.append((door.start, end, door.top, height, paint))
        trim.append((at, door.start, 0.0, 0.08, toned(paint, 0.72)))
        trim += [(x, x + 0.07, 0.0, door.top + 0.07, _FRAME) for x in (door.start - 0.07, end)]
        trim.append((door.start, end, door.top, door.top + 0.07, _FRAME))
        at = end
    wall.append((at, length, 0.0, height, paint))
    trim.append((at, length, 0.0, 0.08, toned(paint, 0.72)))
    for window in room.windows:
        if window.side == side:
            start, stop = window.start, window.start + window.width
            low, high, middle = window.bottom, window.top, (start + stop) / 2
            trim.append((start - 0.06, stop + 0.06, low - 0.06, high + 0.06, _FRAME))
            trim.append((start, middle - 0.025, low, high, _GLASS))
            trim.append((middle + 0.025, stop, low, high, _GLASS))
    return wall + trim


def _shade(quads: Quads, room: Room, boxes: Sequence[Box]) -> None:
    """A soft edge in two steps around what stands on the floor."""
    if not boxes:
        return
    data = [(*b.place, b.size[0], b.size[1], math.cos(b.yaw), math.sin(b.yaw)) for b in boxes]
    x, y, width, depth, cos, sin = np.array(data).T[:, :, None, None]
    reach = np.array([own for own, _ in _SHADOWS])[:, None]
    across = (width + 2 * reach) / 2 * np.array([-1, 1, 1, -1])  # (boxes, shadows, 4)
    along = (depth + 2 * reach) / 2 * np.array([-1, -1, 1, 1])
    corners = np.zeros((*across.shape, 3))
    corners[..., 0] = np.clip(x + cos * across - sin * along, room.x0, room.x1)
    corners[..., 1] = np.clip(y + sin * across + cos * along, room.y0, room.y1)
    tones = np.array([toned(room.floor, tone) for _, tone in _SHADOWS], dtype=np.float64)
    quads.add(corners.reshape(-1, 4, 3), np.tile(tones, (len(boxes), 1)))
