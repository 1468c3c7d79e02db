"""Where rays meet primitives, analytically.

A ray through a pixel is camera + t * (dx, dy, 1) with dx constant along a column and dy along a
row, so t is depth. What depends on the column alone (the walls of a turned box, the mantle of
a cylinder) is computed once per column: arrays are (w,) or (h,) until the last step, (h, w).
Every function returns (depth, light): depth of the entry point in metres, ``inf`` for a miss, and
the cosine 0..1 between the surface and the lamp.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from m2r_train.sim.catalogue import Part

Array = npt.NDArray[np.float64]
Hit = tuple[Array, Array]
Eye = tuple[float, float, float]  # the camera, metres

_LAMP = (-0.35, 0.8, -0.49)  # unit vector towards the lamp: over the camera's left shoulder
_TINY = 1e-9  # keeps a ray parallel to a face from dividing by zero


def hit(part: Part, eye: Eye, dx: Array, dy: Array) -> Hit:
    """Depth and light of one primitive for the rays (dx[w], dy[h]) from ``eye``, both (h, w)."""
    x, y, z = eye[0] - part.x, eye[1] - part.y, eye[2] - part.z
    match part.shape:
        case "box":
            return _box(part, (x, y, z), dx, dy)
        case "ball":
            return _ball(part.size[1] / 2, (x, y - part.size[1] / 2, z), dx, dy)
        case "cylinder":
            return _cylinder(part, (x, y, z), dx, dy)
        case "cone":
            return _cone(part, (x, y, z), dx, dy)


def _slab(origin: float, low: float, high: float, direction: Array) -> tuple[Array, Array]:
    """Entry and exit of the rays into low <= coordinate <= high."""
    safe = np.where(np.abs(direction) < _TINY, _TINY, direction)
    one, two = (low - origin) / safe, (high - origin) / safe
    return np.minimum(one, two), np.maximum(one, two)


def _prism(column: tuple[Array, Array], row: tuple[Array, Array], side: Array, dy: Array) -> Hit:
    """A vertical prism: what columns say (outline) and what rows say (height), put together."""
    near_row = row[0][:, None]
    near = np.maximum(column[0], near_row)
    far = np.minimum(column[1], row[1][:, None])
    depth = np.where((near <= far) & (near > 0), near, np.inf)
    cap = np.where(dy < 0, _LAMP[1], 0.0)[:, None]  # seen from above: lit; from below: not
    return depth, np.where(near_row > column[0], cap, side)


def _box(part: Part, eye: Eye, dx: Array, dy: Array) -> Hit:
    width, height, depth = part.size
    cos, sin = math.cos(part.yaw), math.sin(part.yaw)
    across, along = cos * dx - sin, sin * dx + cos
    x_near, x_far = _slab(cos * eye[0] - sin * eye[2], -width / 2, width / 2, across)
    z_near, z_far = _slab(sin * eye[0] + cos * eye[2], -depth / 2, depth / 2, along)
    # The face a ray enters looks against it.
    x_light = np.where(across > 0, -1.0, 1.0) * (cos * _LAMP[0] - sin * _LAMP[2])
    z_light = np.where(along > 0, -1.0, 1.0) * (sin * _LAMP[0] + cos * _LAMP[2])
    side = np.maximum(0.0, np.where(x_near > z_near, x_light, z_light))
    column = np.maximum(x_near, z_near), np.minimum(x_far, z_far)
    return _prism(column, _slab(eye[1], 0.0, height, dy), side, dy)


def _cylinder(part: Part, eye: Eye, dx: Array, dy: Array) -> Hit:
    radius = part.size[0] / 2
    a = dx * dx + 1
    b = eye[0] * dx + eye[2]
    root = b * b - a * (eye[0] ** 2 + eye[2] ** 2 - radius**2)
    spread = np.sqrt(np.maximum(root, 0.0))
    near = np.where(root > 0, (-b - spread) / a, np.inf)
    far = np.where(root > 0, (-b + spread) / a, -np.inf)
    entry = np.where(root > 0, near, 0.0)
    side = ((eye[0] + entry * dx) * _LAMP[0] + (eye[2] + entry) * _LAMP[2]) / radius
    row = _slab(eye[1], 0.0, part.size[1], dy)
    return _prism((near, far), row, np.maximum(side, 0.0), dy)


def _ball(radius: float, eye: Eye, dx: Array, dy: Array) -> Hit:
    a = dx * dx + (dy * dy)[:, None] + 1
    b = (eye[0] * dx + eye[2]) + (eye[1] * dy)[:, None]
    root = b * b - a * (eye[0] ** 2 + eye[1] ** 2 + eye[2] ** 2 - radius**2)
    near = (-b - np.sqrt(np.maximum(root, 0.0))) / a
    base = eye[0] * _LAMP[0] + eye[1] * _LAMP[1] + eye[2] * _LAMP[2]
    slope = (dx * _LAMP[0] + _LAMP[2]) + (dy * _LAMP[1])[:, None]
    light = np.maximum(0.0, (base + near * slope) / radius)
    return np.where((root > 0) & (near > 0), near, np.inf), light


def _cone(part: Part, eye: Eye, dx: Array, dy: Array) -> Hit:
    """Apex up. Rays are flatter than the flank (checked), so each meets one nappe, twice."""
    radius, height = part.size[0] / 2, part.size[1]
    slope = radius / height
    rim = slope * (height - eye[1])  # the cone's radius at the eye's height (negative above it)
    a = dx * dx + 1 - (slope * slope) * (dy * dy)[:, None]
    if a.min() <= 0:
        raise ValueError(f"a cone of radius {radius:.2f} m is too flat for its height {height:.2f}")
    b = (eye[0] * dx + eye[2]) + (rim * slope * dy)[:, None]
    root = b * b - a * (eye[0] ** 2 + eye[2] ** 2 - rim**2)
    spread = np.sqrt(np.maximum(root, 0.0))
    row_near, row_far = _slab(eye[1], 0.0, height, dy)
    flank = (-b - spread) / a
    near = np.maximum(flank, row_near[:, None])
    far = np.minimum((-b + spread) / a, row_far[:, None])
    norm = math.hypot(radius, height)
    at_x, at_z = eye[0] + near * dx, eye[2] + near
    around = np.maximum(np.hypot(at_x, at_z), _TINY)
    side = (height * (at_x * _LAMP[0] + at_z * _LAMP[2]) / around + radius * _LAMP[1]) / norm
    light = np.where(flank >= row_near[:, None], np.maximum(0.0, side), 0.0)
    return np.where((root > 0) & (near <= far) & (near > 0), near, np.inf), light
