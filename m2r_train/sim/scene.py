"""A room with solids in it, in metres, and the transformations that its answers must respect.

Axes: x to the right, y up, z away from the camera. The floor is y = 0. The room's floor is the
rectangle x in [room.x - width/2, room.x + width/2], z in [0, depth]; the camera stands at z = 0
with its back to the near wall, so the whole floor area can be judged from the picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

Shape = Literal["box", "ball", "cone", "cylinder"]
Rgb = tuple[int, int, int]

FOCAL_SHARE, HORIZON_SHARE = 0.9, 0.25  # of the picture's side


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """A pinhole with a shifted lens: it looks along +z and its horizon is at a quarter height.

    ``size`` is the side S of the square picture in pixels; focal length 0.9 S, principal point
    (S/2, S/4). Shifting the lens instead of pitching the camera keeps verticals vertical and makes
    the ray parameter equal to depth.
    """

    size: int
    x: float = 0.0
    height: float = 1.2

    @property
    def focal(self) -> float:
        """Focal length, pixels."""
        return FOCAL_SHARE * self.size

    @property
    def cx(self) -> float:
        """Principal point's column, pixels."""
        return 0.5 * self.size

    @property
    def cy(self) -> float:
        """Principal point's row (the horizon), pixels."""
        return HORIZON_SHARE * self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Inner measures in metres; ``x`` is the middle of the floor, the colours are RGB bytes.

    ``lived_in`` rooms have planks, a skirting board and soft shadows; bare ones a tiled floor.
    """

    width: float
    depth: float
    height: float
    x: float = 0.0
    floor: Rgb = (185, 182, 175)
    wall: Rgb = (165, 165, 165)
    lived_in: bool = False

    @property
    def area(self) -> float:
        """Floor area, square metres."""
        return self.width * self.depth


@dataclass(frozen=True, slots=True, kw_only=True)
class Solid:
    """One thing on the floor.

    ``name`` is how a question calls it ("red box", "sofa"); ``label`` is the one word that tells
    it apart ("red", "sofa"); ``size`` is (width, height, depth) in metres before the turn by
    ``yaw`` (radians, about the vertical); ``x``, ``z`` is the middle of its footprint. Round
    shapes have width = depth. Furniture is annotated by its oriented box, as the benchmarks do.
    """

    shape: Shape
    colour: Rgb
    name: str
    label: str
    x: float
    z: float
    size: tuple[float, float, float]
    yaw: float = 0.0

    @property
    def height(self) -> float:
        """Height, metres."""
        return self.size[1]

    @property
    def radius(self) -> float:
        """Radius of the circle around the footprint, metres."""
        if self.shape == "box":
            return 0.5 * math.hypot(self.size[0], self.size[2])
        return 0.5 * self.size[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything a picture shows and a question can be about."""

    room: Room
    solids: tuple[Solid, ...]
    camera: Camera


def mirrored(scene: Scene) -> Scene:
    """The scene seen in a mirror (x -> -x): left and right change places, lengths do not."""
    return Scene(
        room=replace(scene.room, x=-scene.room.x),
        solids=tuple(replace(solid, x=-solid.x, yaw=-solid.yaw) for solid in scene.solids),
        camera=replace(scene.camera, x=-scene.camera.x),
    )


def scaled(scene: Scene, factor: float) -> Scene:
    """Every length times ``factor``, the camera's height included: the same picture geometry."""
    room, camera = scene.room, scene.camera
    return Scene(
        room=replace(
            room,
            width=room.width * factor,
            depth=room.depth * factor,
            height=room.height * factor,
            x=room.x * factor,
        ),
        solids=tuple(
            replace(
                solid,
                x=solid.x * factor,
                z=solid.z * factor,
                size=(solid.size[0] * factor, solid.size[1] * factor, solid.size[2] * factor),
            )
            for solid in scene.solids
        ),
        camera=replace(camera, x=camera.x * factor, height=camera.height * factor),
    )


def translated(scene: Scene, offset: float) -> Scene:
    """Room, solids and camera moved along x by ``offset`` metres: no answer may change."""
    return Scene(
        room=replace(scene.room, x=scene.room.x + offset),
        solids=tuple(replace(solid, x=solid.x + offset) for solid in scene.solids),
        camera=replace(scene.camera, x=scene.camera.x + offset),
    )
