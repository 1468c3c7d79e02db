"""What a camera sees, by four rays through every pixel.

The renderer fills polygons from the farthest to the nearest, and ``spatial.visibility`` knows boxes
alone; here every piece of every thing is a convex body, and the first that a ray enters is seen.
Of the renderer nothing is used but what it draws: the pieces of each category, and how high a door
is. Walls hide what is behind them for who leaves a room through them beside a door.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from m2r_train.sim.apartment.goods import GOODS
from m2r_train.sim.apartment.layout import DOOR_HEIGHT
from m2r_train.sim.catalogue import Piece
from m2r_train.spatial import Box, Frame, Scene

_FINE = 2  # rays along a side of a pixel: one misses what is thinner
_ROUND = 8  # sides of what is round
_CONE_TOP = 0.15  # of its width at the foot
_ON_WALL = 0.05  # metres from a wall's line to a door that is in it
_WHOLE = Piece("box", 0, 0, 0, 1, 1, 1)
_AROUND = Piece("box", 0, -0.05, 0, 1.1, 1.1, 1.1)  # handles stick out a little

_known: list[tuple[Scene, dict[int, dict[int, float]]]] = []  # the scene asked about last


def pixels(scene: Scene, number: int, *, solid: bool = False) -> dict[int, float]:
    """Pixels that frame ``number`` shows of each box, the unseen left out.

    ``solid``: boxes are what is seen, and doors reach to the ceiling (annotated scenes).
    """
    if not _known or _known[0][0] is not scene:
        _known[:] = [(scene, {})]
    frames = _known[0][1]
    if number not in frames:
        frames[number] = _pixels(scene, scene.frames[number], solid=solid)
    return frames[number]


def _pixels(scene: Scene, frame: Frame, *, solid: bool) -> dict[int, float]:
    eye, rays = np.array(frame.position), _rays(frame)
    nearest = _to_walls(scene, eye, rays, math.inf if solid else DOOR_HEIGHT)
    owner = np.full(len(rays), -1)
    for index, box in enumerate(scene.boxes):
        start, ways = _into(box, eye[None])[0], _into(box, eye + rays) - _into(box, eye[None])
        near = np.flatnonzero(_entry(_AROUND, start, ways) < nearest)
        pieces = (_WHOLE,) if solid else GOODS[box.category].look.pieces
        for piece in pieces:
            depth = _entry(piece, start, ways[near])
            first = depth < nearest[near]
            nearest[near[first]], owner[near[first]] = depth[first], index
    counts = np.bincount(owner[owner >= 0], minlength=len(scene.boxes))
    return {i: n / _FINE**2 for i, n in enumerate(counts.tolist()) if n}


def _rays(frame: Frame) -> np.ndarray:
    """(rays, 3): the way one metre deeper into the picture, in the world."""
    v, u = np.mgrid[0 : frame.height * _FINE, 0 : frame.width * _FINE].reshape(2, -1) + 0.5
    u, v = u / _FINE, v / _FINE
    across = np.stack([(u - frame.cx) / frame.fx, (v - frame.cy) / frame.fy, np.ones(len(u))])
    return np.einsum("ij,jn->ni", np.array(frame.rotation), across)


def _into(box: Box, points: np.ndarray) -> np.ndarray:
    """(n, 3) points in the box's own measure: -0.5..0.5 twice, and 0..1 upwards."""
    flat = (points[:, 0] + 1j * points[:, 1] - complex(*box.centre[:2])) * np.exp(-1j * box.yaw)
    up = (points[:, 2] - box.centre[2]) / box.size[2] + 0.5
    return np.stack([flat.real / box.size[0], flat.imag / box.size[1], up], axis=1)


def _entry(piece: Piece, start: np.ndarray, ways: np.ndarray) -> np.ndarray:
    """(n,) depth where rays enter a piece from outside; ``inf`` where they miss it."""
    low, high = np.full(len(ways), -math.inf), np.full(len(ways), math.inf)
    for normal, offset in _sides(piece):
        rate, room = ways @ normal, offset - normal @ start
        with np.errstate(divide="ignore", invalid="ignore"):
            met = room / rate
        low = np.where(rate < 0, np.maximum(low, met), low)
        high = np.where(rate > 0, np.minimum(high, met), high)
        high = np.where((rate == 0) & (room < 0), -math.inf, high)
    return np.where((low < high) & (low > 0), low, math.inf)


def _sides(piece: Piece) -> list[tuple[np.ndarray, float]]:
    """(outward normal, offset) of the half-spaces whose common part is the piece."""
    sides = [
        (np.array([0.0, 0.0, 1.0]), piece.y + piece.h),
        (np.array([0.0, 0.0, -1.0]), -piece.y),
    ]
    if piece.shape == "box":
        for axis, middle, size in ((0, piece.x, piece.w), (1, piece.z, piece.d)):
            way = np.eye(3)[axis]
            sides += [(way, middle + size / 2), (-way, size / 2 - middle)]
        return sides
    narrow = 1 - _CONE_TOP if piece.shape == "cone" else 0.0
    for k in range(_ROUND):
        # A side of the rim lies at cos(pi / 8) of the radius, and leans inwards by the taper.
        turn = 2 * math.pi * (k + 1) / _ROUND
        flat = math.cos(turn) / (piece.w / 2), math.sin(turn) / (piece.d / 2)
        lean = math.cos(math.pi / _ROUND) * narrow / piece.h
        normal = np.array([*flat, lean])
        foot = np.array([piece.x, piece.z, piece.y])
        sides.append((normal, float(normal @ foot) + math.cos(math.pi / _ROUND)))
    return sides


def _to_walls(scene: Scene, eye: np.ndarray, rays: np.ndarray, door_height: float) -> np.ndarray:
    """(n,) depth where rays leave a room through its wall."""
    nearest = np.full(len(rays), math.inf)
    for room in scene.rooms:
        for a, b in pairwise((*room, room[0])):
            one, way = complex(*a), complex(*b) - complex(*a)
            unit = way / abs(way)
            # Along the wall, and out of the room: to the right of who goes counter-clockwise.
            at = (complex(*eye[:2]) - one) / unit
            move = (rays[:, 0] + 1j * rays[:, 1]) / unit
            with np.errstate(divide="ignore", invalid="ignore"):
                depth = at.imag / -move.imag
            along = at.real + depth * move.real
            hit = (move.imag < 0) & (depth > 0) & (along >= 0) & (along <= abs(way))
            low = eye[2] + depth * rays[:, 2] < door_height
            for door in scene.doors:
                ends = [(complex(*end) - one) / unit for end in (door.one, door.two)]
                if max(abs(end.imag) for end in ends) < _ON_WALL:
                    span = sorted(end.real for end in ends)
                    hit &= ~(low & (along > span[0]) & (along < span[1]))
            nearest = np.where(hit, np.minimum(nearest, depth), nearest)
    return nearest
