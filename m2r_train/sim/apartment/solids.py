"""An apartment as flat faces with colours, in groups that the painter puts in order.

Rooms are convex and their walls have no thickness, so a picture is right when rooms are painted
from the farthest to the nearest, each as floor, ceiling and walls, then its things. Things, and
the pieces of a thing, are convex prisms apart from each other: planes between them say which is
painted first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt

from m2r_train.sim.apartment.goods import GOODS
from m2r_train.sim.apartment.layout import Apartment, Room
from m2r_train.sim.catalogue import Piece
from m2r_train.sim.scene import Rgb
from m2r_train.spatial.scene import Box

Array = npt.NDArray[np.float64]
NOBODY = -1
_SIDES = 8  # of what is round
_BOARD, _BOARD_LENGTH = 0.5, 1.25  # metres, of the floor's faces
_PLANE_SLACK = 1e-6
_BOARD_TONES = (1.0, 0.94, 1.04, 0.97, 1.02, 0.91)
_FRAME: Rgb = (168, 150, 128)
_GLASS: Rgb = (196, 220, 240)


@dataclass(slots=True)
class Faces:
    """Polygons under construction: corners, colour, whose they are, whether both sides show."""

    corners: list[Sequence[tuple[float, float, float]]] = field(default_factory=list)
    colours: list[Rgb] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)

    def add(
        self, corners: Sequence[tuple[float, float, float]], colour: Rgb, owner: int = NOBODY
    ) -> None:
        """A flat convex polygon, counter-clockwise for who may see it."""
        self.corners.append(corners)
        self.colours.append(colour)
        self.owners.append(owner)

    def __len__(self) -> int:
        return len(self.corners)


@dataclass(frozen=True, slots=True)
class Prism:
    """A convex outline (counter-clockwise) from ``bottom`` to ``top``, narrowing to ``taper`` of
    itself at the top."""

    outline: tuple[tuple[float, float], ...]
    bottom: float
    top: float
    taper: float = 1.0


@dataclass(frozen=True, slots=True)
class Order:
    """Which of n convex things may hide which, as seen from anywhere.

    ``planes`` (n, p, 4): outward normals and offsets; ``beyond`` (n, p, n): whether all of another
    thing is outside the plane.
    """

    planes: Array
    beyond: npt.NDArray[np.bool_]
    known: dict[bytes, list[int]] = field(default_factory=dict)

    def back_to_front(self, eye: Array) -> list[int]:
        """The n things in an order in which none is painted over by what it hides."""
        outside = self.planes[..., :3] @ eye - self.planes[..., 3] > 0  # (n, p)
        key = outside.tobytes()
        if (found := self.known.get(key)) is None:
            found = self.known[key] = self._sorted(outside)
        return found

    def _sorted(self, outside: npt.NDArray[np.bool_]) -> list[int]:
        inner = np.any(self.beyond & ~outside[..., None], axis=1)  # [a, b]: b cannot hide a
        outer = np.any(self.beyond & outside[..., None], axis=1)  # [a, b]: a cannot hide b
        never = outer | inner.T  # [a, b]: a cannot hide b
        hides = np.asarray(never.T & ~never)  # [a, b]: a may hide b, and b not a
        left = list(range(len(hides)))
        order: list[int] = []
        while left:
            # What hides none of the others that are left is painted next; a ring is cut anywhere.
            pick = next((i for i in left if not any(hides[i, k] for k in left)), left[0])
            left.remove(pick)
            order.append(pick)
        return order


def order_of(prisms: Sequence[Prism]) -> Order:
    """The order of prisms by the planes of their sides, tops and undersides."""
    n, p = len(prisms), max(len(prism.outline) for prism in prisms) + 2
    planes = np.zeros((n, p, 4))
    planes[..., 3] = 1e9  # a plane that nothing is beyond
    points = [_points(prism) for prism in prisms]
    for i, prism in enumerate(prisms):
        rim = prism.outline
        for k, (a, b) in enumerate(zip(rim, (*rim[1:], rim[0]), strict=True)):
            nx, ny = b[1] - a[1], a[0] - b[0]
            planes[i, k] = nx, ny, 0.0, nx * a[0] + ny * a[1]
        planes[i, p - 2] = 0.0, 0.0, 1.0, prism.top
        planes[i, p - 1] = 0.0, 0.0, -1.0, -prism.bottom
    every = np.stack([np.resize(own, (2 * (p - 2), 3)) for own in points])  # repeats do no harm
    height = np.einsum("ipc,jvc->ipjv", planes[..., :3], every) - planes[..., None, None, 3]
    beyond = (height > -_PLANE_SLACK).all(axis=3)
    beyond[np.arange(n), :, np.arange(n)] = False
    return Order(planes, beyond)


@cache
def shape_order(category: str) -> Order:
    """The order of a category's pieces, in the coordinates of a box of size 1."""
    pieces = GOODS[category].look.pieces
    return order_of([Prism(_rim(p), p.y, p.y + p.h) for p in pieces])


def _points(prism: Prism) -> Array:
    return np.array([(x, y, z) for z in (prism.bottom, prism.top) for x, y in prism.outline])


@dataclass(frozen=True, slots=True)
class Thing:
    """One box of the scene, and its pieces' faces (ranges)."""

    box: Box
    pieces: tuple[range, ...]

    def back_to_front(self, eye: Array) -> list[int]:
        """The pieces in the order in which they are painted.

        All things of a category are one shape, turned, stretched and moved: which piece is beyond
        which plane is the same in all, so that the order is that of the shape, seen from where the
        eye is in its own coordinates.
        """
        if len(self.pieces) == 1:
            return [0]
        box = self.box
        cos, sin = math.cos(box.yaw), math.sin(box.yaw)
        dx, dy = eye[0] - box.centre[0], eye[1] - box.centre[1]
        own = np.array(
            [
                (cos * dx + sin * dy) / box.size[0],
                (cos * dy - sin * dx) / box.size[1],
                (eye[2] - box.bottom) / box.size[2],
            ]
        )
        return shape_order(box.category).back_to_front(own)


@dataclass(frozen=True, slots=True)
class Model:
    """All faces of an apartment, as arrays, and the groups to be ordered.

    ``corners`` (v, 3); face k has the corners ``starts[k]`` to ``starts[k + 1]``, the plane
    ``planes[k]`` and the middle ``middles[k]``; ``shells`` are the faces of each empty room.
    """

    corners: Array
    starts: npt.NDArray[np.intp]
    planes: Array
    middles: Array
    colours: npt.NDArray[np.float64]
    owners: npt.NDArray[np.intp]
    shells: tuple[range, ...]
    rooms: Order
    things: tuple[Thing, ...]
    by_room: tuple[tuple[int, ...], ...]
    thing_orders: tuple[Order | None, ...]


def model_of(flat: Apartment) -> Model:
    """The faces of an apartment."""
    faces = Faces()
    shells = []
    by_room = tuple(
        tuple(i for i, home in enumerate(flat.homes) if home == r) for r in range(len(flat.rooms))
    )
    for number, room in enumerate(flat.rooms):
        start = len(faces)
        _shell(faces, room, flat.height)
        for i in by_room[number]:
            _shadow(faces, flat.boxes[i], room)
        shells.append(range(start, len(faces)))
    things = tuple(
        _thing(faces, box, colour, index)
        for index, (box, colour) in enumerate(zip(flat.boxes, flat.colours, strict=True))
    )
    hulls = [Prism(b.footprint, b.bottom, b.top) for b in flat.boxes]
    corners = np.array([c for own in faces.corners for c in own])
    starts = np.cumsum([0, *map(len, faces.corners)])
    a, b, c = corners[starts[:-1]], corners[starts[:-1] + 1], corners[starts[:-1] + 2]
    normals = np.cross(b - a, c - a)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    counts = np.diff(starts)
    return Model(
        corners=corners,
        starts=starts,
        planes=np.concatenate([normals, (normals * a).sum(axis=1, keepdims=True)], axis=1),
        middles=np.add.reduceat(corners, starts[:-1]) / counts[:, None],
        colours=np.array(faces.colours, dtype=np.float64),
        owners=np.array(faces.owners),
        shells=tuple(shells),
        rooms=order_of([Prism(room.outline, 0.0, flat.height) for room in flat.rooms]),
        things=things,
        by_room=by_room,
        thing_orders=tuple(order_of([hulls[i] for i in own]) if own else None for own in by_room),
    )


def _shell(faces: Faces, room: Room, height: float) -> None:
    """Floor in boards, ceiling, and four walls with their openings, all seen from inside."""
    across = max(1, round((room.x1 - room.x0) / _BOARD_LENGTH))
    along = max(1, round((room.y1 - room.y0) / _BOARD))
    xs = np.linspace(room.x0, room.x1, across + 1)
    ys = np.linspace(room.y0, room.y1, along + 1)
    for k in range(along):
        for j in range(across):
            tone = _BOARD_TONES[(j * 5 + k * 7 + j * k) % len(_BOARD_TONES)]
            a, b, c, d = float(xs[j]), float(ys[k]), float(xs[j + 1]), float(ys[k + 1])
            faces.add([(a, b, 0), (c, b, 0), (c, d, 0), (a, d, 0)], toned(room.floor, tone))
    faces.add([(x, y, height) for x, y in reversed(room.outline)], (244, 244, 240))
    for side in range(4):
        _wall(faces, room, side, height)


def _wall(faces: Faces, room: Room, side: int, height: float) -> None:
    length, colour = room.length(side), room.wall
    doors = sorted((d for d in room.doors if d.side == side), key=lambda d: d.start)

    def upright(
        start: float, stop: float, low: float, high: float, paint: Rgb, inward: float = 0.0
    ) -> None:
        a, b = room.along(side, start, inward), room.along(side, stop, inward)
        # Seen from inside, a side runs from left to right when walked clockwise.
        faces.add([(*b, low), (*a, low), (*a, high), (*b, high)], paint)

    at = 0.0
    for door in doors:
        upright(at, door.start, 0.0, height, colour)
        upright(door.start, door.start + door.width, door.top, height, colour)
        at = door.start + door.width
    upright(at, length, 0.0, height, colour)
    at = 0.0
    for door in doors:
        upright(at, door.start, 0.0, 0.08, toned(colour, 0.72))
        for start in (door.start - 0.07, door.start + door.width):
            upright(start, start + 0.07, 0.0, door.top + 0.07, _FRAME)
        upright(door.start, door.start + door.width, door.top, door.top + 0.07, _FRAME)
        at = door.start + door.width
    upright(at, length, 0.0, 0.08, toned(colour, 0.72))
    for window in room.windows:
        if window.side == side:
            stop = window.start + window.width
            upright(
                window.start - 0.06, stop + 0.06, window.bottom - 0.06, window.top + 0.06, _FRAME
            )
            middle = (window.start + stop) / 2
            for a, b in ((window.start, middle - 0.025), (middle + 0.025, stop)):
                upright(a, b, window.bottom, window.top, _GLASS)


def _shadow(faces: Faces, box: Box, room: Room) -> None:
    """A soft edge in two steps around what stands on the floor."""
    if box.bottom > 0.05:
        return
    for reach, tone in ((0.06, 0.86), (0.02, 0.72)):
        rim = _turned(box, box.size[0] + 2 * reach, box.size[1] + 2 * reach)
        inner = [(min(max(x, room.x0), room.x1), min(max(y, room.y0), room.y1)) for x, y in rim]
        faces.add([(x, y, 0.0) for x, y in inner], toned(room.floor, tone))


def _turned(box: Box, width: float, depth: float) -> list[tuple[float, float]]:
    cos, sin = math.cos(box.yaw), math.sin(box.yaw)
    x, y, _ = box.centre
    return [
        (
            x + cos * sx * width / 2 - sin * sy * depth / 2,
            y + sin * sx * width / 2 + cos * sy * depth / 2,
        )
        for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]


def _thing(faces: Faces, box: Box, colour: Rgb, index: int) -> Thing:
    pieces = []
    for piece in GOODS[box.category].look.pieces:
        prism = _prism(box, piece)
        start = len(faces)
        _cover(faces, prism, toned(piece.colour or colour, piece.tone), index)
        pieces.append(range(start, len(faces)))
    return Thing(box, tuple(pieces))


@cache
def _rim(piece: Piece) -> tuple[tuple[float, float], ...]:
    """The outline of a piece, in shares of its thing's width and depth."""
    if piece.shape == "box":
        turns = ((-1, -1), (1, -1), (1, 1), (-1, 1))
        return tuple((piece.x + x * piece.w / 2, piece.z + z * piece.d / 2) for x, z in turns)
    angles = [2 * math.pi * (k + 0.5) / _SIDES for k in range(_SIDES)]
    return tuple(
        (piece.x + piece.w / 2 * math.cos(t), piece.z + piece.d / 2 * math.sin(t)) for t in angles
    )


def _prism(box: Box, piece: Piece) -> Prism:
    width, depth, height = box.size
    rim = _rim(piece)
    cos, sin = math.cos(box.yaw), math.sin(box.yaw)
    x, y, _ = box.centre
    bottom = box.bottom + piece.y * height
    return Prism(
        tuple(
            (x + cos * u * width - sin * v * depth, y + sin * u * width + cos * v * depth)
            for u, v in rim
        ),
        bottom,
        bottom + piece.h * height,
        0.15 if piece.shape == "cone" else 1.0,
    )


def _cover(faces: Faces, prism: Prism, colour: Rgb, owner: int) -> None:
    """Top, underside and sides of a prism, seen from outside."""
    n = len(prism.outline)
    cx = sum(x for x, _ in prism.outline) / n
    cy = sum(y for _, y in prism.outline) / n
    upper = [(cx + prism.taper * (x - cx), cy + prism.taper * (y - cy)) for x, y in prism.outline]
    faces.add([(x, y, prism.top) for x, y in upper], colour, owner)
    if prism.bottom > 0.02:
        faces.add([(x, y, prism.bottom) for x, y in reversed(prism.outline)], colour, owner)
    for k in range(n):
        a, b = prism.outline[k], prism.outline[(k + 1) % n]
        c, d = upper[(k + 1) % n], upper[k]
        faces.add(
            [(*a, prism.bottom), (*b, prism.bottom), (*c, prism.top), (*d, prism.top)],
            colour,
            owner,
        )


@cache
def toned(colour: Rgb, tone: float) -> Rgb:
    """A colour made darker or lighter."""
    red, green, blue = (min(255, round(channel * tone)) for channel in colour)
    return red, green, blue
