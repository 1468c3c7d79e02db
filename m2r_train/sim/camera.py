"""What the camera sees of a solid: its rectangle in the picture, its place and its depth."""

from __future__ import annotations

import math
from dataclasses import dataclass

from m2r_train.sim.scene import Camera, Scene, Shape, Solid


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """A solid in the picture: rectangle and centre in pixels, depth and offset in metres.

    ``x`` is metres to the right of the camera, ``depth`` metres along its axis to the middle of
    the solid; ``column`` and ``row`` are the centre's place on a 10 x 10 grid.
    """

    left: float
    top: float
    right: float
    bottom: float
    u: float
    v: float
    x: float
    depth: float
    column: int
    row: int

    @property
    def area(self) -> float:
        """Area of the rectangle, square pixels."""
        return (self.right - self.left) * (self.bottom - self.top)


def project(camera: Camera, x: float, y: float, z: float) -> tuple[float, float]:
    """Pixel (column, row) of a point in metres; ``z`` must be positive."""
    return (
        camera.cx + camera.focal * (x - camera.x) / z,
        camera.cy + camera.focal * (camera.height - y) / z,
    )


def footprint(
    shape: Shape, x: float, z: float, size: tuple[float, float, float], yaw: float
) -> tuple[tuple[float, float], ...]:
    """Corners (x, z) of the footprint: the turned rectangle, or the square around a circle."""
    half_w, half_d = 0.5 * size[0], 0.5 * size[2]
    cos, sin = (math.cos(yaw), math.sin(yaw)) if shape == "box" else (1.0, 0.0)
    ax, az, bx, bz = cos * half_w, -sin * half_w, sin * half_d, cos * half_d
    return (
        (x + ax + bx, z + az + bz),
        (x + ax - bx, z + az - bz),
        (x - ax + bx, z - az + bz),
        (x - ax - bx, z - az - bz),
    )


def rectangle(
    camera: Camera, corners: tuple[tuple[float, float], ...], bottom_y: float, top_y: float
) -> tuple[float, float, float, float]:
    """Left, top, right, bottom in pixels of a vertical prism over ``corners`` (all z > 0)."""
    focal, cx, cy = camera.focal, camera.cx, camera.cy
    columns = [cx + focal * (x - camera.x) / z for x, z in corners]
    near, far = min(z for _, z in corners), max(z for _, z in corners)
    above, below = camera.height - top_y, camera.height - bottom_y
    top = cy + focal * (above / (near if above < 0 else far))
    bottom = cy + focal * (below / (near if below > 0 else far))
    return min(columns), top, max(columns), bottom


def sight(camera: Camera, solid: Solid) -> Sight:
    """How one solid stands in the picture; the centre is that of its projected box."""
    corners = footprint(solid.shape, solid.x, solid.z, solid.size, solid.yaw)
    left, top, right, bottom = rectangle(camera, corners, 0.0, solid.height)
    u, v = 0.5 * (left + right), 0.5 * (top + bottom)
    return Sight(
        left=left,
        top=top,
        right=right,
        bottom=bottom,
        u=u,
        v=v,
        x=solid.x - camera.x,
        depth=solid.z,
        column=grid(u, camera.size),
        row=grid(v, camera.size),
    )


def look(scene: Scene) -> tuple[Sight, ...]:
    """The sight of every solid, in the scene's order."""
    return tuple(sight(scene.camera, solid) for solid in scene.solids)


def grid(pixel: float, size: int) -> int:
    """The digit 0..9 of a pixel position: which tenth of the picture it falls in."""
    return min(9, max(0, int(10 * pixel / size)))


def overlap(one: Sight, other: Sight) -> float:
    """Shared area of two rectangles as a share of the smaller, 0..1."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / min(one.area, other.area)
