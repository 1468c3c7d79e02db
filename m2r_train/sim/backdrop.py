"""The empty room: floor, ceiling and walls behind everything, with their light and shadows.

A ray's depth to floor or ceiling depends on its row alone, to a side wall on its column alone.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from m2r_train.sim.camera import footprint, rectangle
from m2r_train.sim.catalogue import parts
from m2r_train.sim.rays import Array, Eye
from m2r_train.sim.scene import Camera, Room, Solid

Colour = npt.NDArray[np.float32]

_FLOOR, _CEILING, _BACK, _LEFT, _RIGHT = range(5)
_TONES = (1.0, 1.08, 1.0, 0.86, 0.93)  # of the wall's colour (floor: its own)
_TILE_METRES = 0.5
_PLANK_METRES, _PLANK_LENGTH_METRES = 0.16, 1.3
_PLANK_TONES = 0.9 + 0.01 * np.array([3, 11, 6, 0, 9, 14, 2, 7, 12, 5, 1, 10, 15, 4, 8, 13])
_SKIRTING_METRES = 0.09
_SHADOW_METRES = 0.14  # how far a contact shadow reaches
_NEAREST = 0.05  # metres; what comes nearer is drawn over the whole picture


def falloff(depth: Array, room: Room) -> Array:
    """Brightness by depth in metres, 1 at the lens: a cue from which depth can be told."""
    dim = 13.0 if room.lived_in else 8.0  # here a surface has half its brightness
    fall: Array = 1.0 / (1.0 + (depth / dim) ** 2)
    return fall


def backdrop(room: Room, eye: Eye, dx: Array, dy: Array, light: float) -> tuple[Colour, Array]:
    """Colour (S, S, 3), 0..255, and depth (S, S) in metres of the room without its contents."""
    down, up = np.minimum(dy, -1e-6), np.maximum(dy, 1e-6)
    level = np.where(dy < 0, -eye[1] / down, (room.height - eye[1]) / up)
    row = np.minimum(level, room.depth)
    left, right = room.x - room.width / 2 - eye[0], room.x + room.width / 2 - eye[0]
    column = np.where(dx < 0, left / np.minimum(dx, -1e-6), right / np.maximum(dx, 1e-6))
    depth = np.minimum(row[:, None], column)
    by_row = np.where(row < room.depth, np.where(dy < 0, _FLOOR, _CEILING), _BACK)
    by_column = np.where(dx < 0, _LEFT, _RIGHT)
    surface = np.where(column < row[:, None], by_column, by_row[:, None]).astype(np.intp)
    bright = falloff(depth, room).astype(np.float32)
    ground = int(np.searchsorted(-dy, 0.0))  # the first row below the horizon
    floor = surface[ground:] == _FLOOR
    across = eye[0] - room.x + depth[ground:] * dx
    pattern = _planks if room.lived_in else _tiles
    bright[ground:] *= np.where(floor, pattern(across, depth[ground:]), 1.0)
    if room.lived_in:
        high = eye[1] + depth[ground:] * dy[ground:, None]
        bright[ground:][~floor & (high < _SKIRTING_METRES)] *= 0.6
    albedo = np.outer(_TONES, room.wall).astype(np.float32)
    albedo[_FLOOR] = room.floor
    colour = albedo.take(surface, axis=0)
    colour *= bright[:, :, None]
    colour *= _wall_light(dx.size, light)
    return colour, depth


def cast_shadow(colour: Colour, depth: Array, camera: Camera, solid: Solid) -> None:
    """Darken the floor in ``colour`` around the foot of a solid, in place."""
    dx, dy = ray_slopes(camera.size)
    reach = 2.5 * _SHADOW_METRES
    width, height, length = solid.size
    wide = (width + 2 * reach, height, length + 2 * reach)
    corners = footprint(solid.shape, solid.x, solid.z, wide, solid.yaw)
    rows, columns = crop(camera, corners, 0.0, 0.0)
    far = depth[rows, columns]
    x, z = camera.x + far * dx[columns] - solid.x, far - solid.z
    if parts(solid)[0].shape == "box":  # what stands on the floor, not the box around it all
        cos, sin = math.cos(solid.yaw), math.sin(solid.yaw)
        side = np.maximum(0.0, np.abs(cos * x - sin * z) - width / 2)
        along = np.maximum(0.0, np.abs(sin * x + cos * z) - length / 2)
        outside = np.hypot(side, along)
    else:
        outside = np.maximum(0.0, np.hypot(x, z) - width / 2)
    on_floor = np.abs(camera.height + far * dy[rows, None]) < 1e-6
    shade = 1.0 - 0.45 * np.exp(-((outside / _SHADOW_METRES) ** 2))
    colour[rows, columns] *= np.where(on_floor, shade, 1.0).astype(np.float32)[:, :, None]


def crop(
    camera: Camera, corners: tuple[tuple[float, float], ...], bottom: float, top: float
) -> tuple[slice, slice]:
    """Rows and columns that a prism from height ``bottom`` to ``top`` metres can cover."""
    if min(z for _, z in corners) < _NEAREST:
        return slice(0, camera.size), slice(0, camera.size)
    edges = rectangle(camera, corners, bottom, top)
    left, above, right, below = (
        min(camera.size, max(0, math.floor(edge) + more))
        for edge, more in zip(edges, (0, 0, 1, 1), strict=True)
    )
    return slice(above, below), slice(left, right)


@lru_cache(maxsize=8)
def ray_slopes(size: int) -> tuple[Array, Array]:
    """Per column dx (right) and per row dy (up) at unit depth, through the pixels' centres."""
    camera = Camera(size=size)
    middle = np.arange(size, dtype=np.float64) + 0.5
    dx = (middle - camera.cx) / camera.focal
    dy = (camera.cy - middle) / camera.focal
    dx.setflags(write=False)
    dy.setflags(write=False)
    return dx, dy


def _tiles(x: Array, z: Array) -> Array:
    parity = np.floor(x / _TILE_METRES) + np.floor(z / _TILE_METRES)
    return np.where(parity % 2 > 0, 0.78, 1.0)


def _planks(x: Array, z: Array) -> Array:
    """Boards along z, each with its own tone, the joints staggered."""
    across, offset = x / _PLANK_METRES, z / _PLANK_LENGTH_METRES
    board = np.floor(across)
    offset += (board % 3) / 3
    joint = np.floor(offset)
    number = board.astype(np.int32) * 7 + joint.astype(np.int32) * 13
    tone: Array = _PLANK_TONES[number & 15]
    seam = (across - board < 0.05) | (offset - joint < 0.008)
    fade = 0.25 / (1.0 + (z[seam] / 3.0) ** 2)  # far seams are thinner than a pixel
    tone[seam] *= 1.0 - fade
    return tone


@lru_cache(maxsize=8)
def _wall_light(size: int, strength: float) -> Colour:
    """Coloured light (S, S, 3) on floor and walls: red from the left, blue from the right, and
    brighter towards the bottom. A small vision encoder learns places from it."""
    across = np.linspace(0.0, 1.0, size)
    tint = np.stack([1.2 - 0.8 * across, np.full(size, 0.75), 0.4 + 0.8 * across], axis=-1)
    down = np.linspace(0.7, 1.1, size)
    full = tint[None, :, :] * down[:, None, None]
    light = (1.0 + strength * (full - 1.0)).astype(np.float32)
    light.setflags(write=False)
    return light
