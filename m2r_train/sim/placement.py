"""Rooms with things in them, drawn from a seed: apart, inside the room and inside the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from m2r_train.sim.camera import Sight, overlap, sight
from m2r_train.sim.catalogue import (
    COLOURS,
    FURNITURE,
    SOLID_HEIGHT,
    SOLID_SHAPES,
    SOLID_WIDTH,
)
from m2r_train.sim.geometry import closest_distance, footprint_distance
from m2r_train.sim.options import SimOptions
from m2r_train.sim.scene import FOCAL_SHARE, Camera, Rgb, Room, Scene, Solid

GAP_METRES = 0.2  # between any two footprints
WALL_GAP_METRES = 0.1
LENS_GAP_METRES = 0.8  # between the camera and anything
CLOSEST_METRES = 0.3  # between closest points: no distance may round to nothing
NEAREST_METRES, FARTHEST_METRES = 1.9, 5.0  # of a coloured solid's middle
FARTHEST_FURNITURE_METRES = 7.5
FRAME_SHARE = 0.02  # of the picture's side, kept free at the left and right edge
OVERLAP_SHARE = 0.15  # of the smaller rectangle that two solids may share in the picture
OVERLAP_FURNITURE_SHARE = 0.4  # furniture fills its rectangle less; what it hides is measured
_TRIES_PER_SOLID = 30
_AGAINST_WALL = ("bookcase", "cabinet")  # seen from the front: they have nothing behind

_FLOORS: tuple[Rgb, ...] = ((200, 165, 125), (175, 140, 105), (205, 195, 180), (165, 160, 155))
_WALLS: tuple[Rgb, ...] = ((232, 226, 214), (215, 224, 228), (226, 232, 216), (236, 218, 208))


def palette(options: SimOptions) -> tuple[str, ...]:
    """Every label that a scene of this style can show."""
    return tuple(FURNITURE if options.furniture else COLOURS)


def draw_scene(rng: Random, options: SimOptions, labels: Sequence[str]) -> Scene | None:
    """A room with one solid per label, or None where they found no place."""
    room, camera = _draw_room(rng, options), Camera(size=options.image_size)
    placed: list[tuple[Solid, Sight]] = []
    if options.furniture:  # the largest first: small things find a place between them
        labels = sorted(labels, key=lambda label: -FURNITURE[label].width[1])
    for label in labels:
        found = _place(rng, label, options, room=room, camera=camera, placed=placed)
        if found is None:
            return None
        placed.append(found)
    return Scene(room=room, solids=tuple(solid for solid, _ in placed), camera=camera)


def _draw_room(rng: Random, options: SimOptions) -> Room:
    """Both far corners of the floor are in view: half the width is under .51 of the depth."""
    if options.furniture:
        depth = rng.uniform(5.5, 8.5)
        return Room(
            width=rng.uniform(4.5, min(8.0, 1.02 * depth)),
            depth=depth,
            height=rng.uniform(2.4, 2.9),
            floor=rng.choice(_FLOORS),
            wall=rng.choice(_WALLS),
            lived_in=True,
        )
    depth = rng.uniform(5.2, 7.5)
    width = rng.uniform(4.0, min(7.0, 1.02 * depth))
    return Room(width=width, depth=depth, height=rng.uniform(2.4, 2.9))


def _place(
    rng: Random,
    label: str,
    options: SimOptions,
    *,
    room: Room,
    camera: Camera,
    placed: Sequence[tuple[Solid, Sight]],
) -> tuple[Solid, Sight] | None:
    make = _furniture if options.furniture else _coloured
    farthest = FARTHEST_FURNITURE_METRES if options.furniture else FARTHEST_METRES
    shared = OVERLAP_FURNITURE_SHARE if options.furniture else OVERLAP_SHARE
    for _ in range(_TRIES_PER_SOLID):
        solid = _somewhere(rng, room, make(rng, label), farthest)
        seen = _in_view(room, camera, solid)
        if seen is None or any(overlap(seen, there) > shared for _, there in placed):
            continue
        if all(_apart(solid, other) for other, _ in placed):
            return solid, seen
    return None


def _coloured(rng: Random, label: str) -> Solid:
    shape = rng.choice(SOLID_SHAPES)
    width = rng.uniform(*SOLID_WIDTH)
    height = width if shape == "ball" else rng.uniform(*SOLID_HEIGHT)
    if shape == "cone":
        height = max(height, width)  # a flat cone looks like a lid
    return Solid(
        shape=shape,
        colour=COLOURS[label],
        name=f"{label} {shape}",
        label=label,
        x=0.0,
        z=0.0,
        size=(width, height, rng.uniform(*SOLID_WIDTH) if shape == "box" else width),
        yaw=rng.uniform(-math.pi / 4, math.pi / 4) if shape == "box" else 0.0,
    )


def _furniture(rng: Random, label: str) -> Solid:
    kind = FURNITURE[label]
    quarter = 0 if label in _AGAINST_WALL else rng.choice((0, 0, 1, -1))
    width = rng.uniform(*kind.width)
    depth = width if kind.width == kind.depth else rng.uniform(*kind.depth)
    return Solid(
        shape="box",
        colour=rng.choice(kind.colours),
        name=label,
        label=label,
        x=0.0,
        z=0.0,
        size=(width, rng.uniform(*kind.height), depth),
        yaw=quarter * math.pi / 2 + rng.uniform(-0.25, 0.25),
    )


def _somewhere(rng: Random, room: Room, solid: Solid, farthest: float) -> Solid:
    """The solid on a random point of the floor that is roughly in view."""
    z = rng.uniform(NEAREST_METRES, min(farthest, room.depth - solid.radius))
    reach = max(0.0, min(0.5 * room.width, 0.5 * z / FOCAL_SHARE) - 0.8 * solid.radius)
    return replace(solid, x=room.x + rng.uniform(-reach, reach), z=z)


def _in_view(room: Room, camera: Camera, solid: Solid) -> Sight | None:
    """The solid's sight if it is inside the room and wholly in the picture."""
    radius = solid.radius
    if abs(solid.x - room.x) + radius + WALL_GAP_METRES > room.width / 2:
        return None
    if solid.z + radius + WALL_GAP_METRES > room.depth or solid.z - radius < LENS_GAP_METRES:
        return None
    seen = sight(camera, solid)
    margin = FRAME_SHARE * camera.size
    if seen.left < margin or seen.right > camera.size - margin:
        return None
    return None if seen.bottom > camera.size or seen.top < 0 else seen


def _apart(one: Solid, two: Solid) -> bool:
    """Whether two solids stand clear of each other on the floor."""
    gap = math.hypot(two.x - one.x, two.z - one.z) - one.radius - two.radius
    if gap < CLOSEST_METRES and closest_distance(one, two) < CLOSEST_METRES:
        return False
    return gap >= GAP_METRES or footprint_distance(one, two) >= GAP_METRES
