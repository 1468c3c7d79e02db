"""Furniture in its place: proposed along walls, in the middle or at a table, kept if it fits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from random import Random

from m2r_train.sim.apartment.goods import GOODS, ROOMS
from m2r_train.sim.apartment.rooms import Room
from m2r_train.sim.scene import Rgb
from m2r_train.spatial.geometry import near_segment, polygons_apart
from m2r_train.spatial.scene import Box, Point

_WALL = 0.01  # metres between a thing and the walls, at least
_TRIES = 12
_ROOM_TRIES = 4

_Way = tuple[Point, Point, float]  # a segment on the floor, and how far around it is kept free


@dataclass(slots=True)
class Furnishing:
    """A room while it is filled; what is kept free before doors, of what stands and what hangs, and
    before windows, of what is tall."""

    room: Room
    passages: list[_Way]
    leaves: list[_Way]
    views: list[_Way]
    boxes: list[Box] = field(default_factory=list)
    colours: list[Rgb] = field(default_factory=list)


def furnish(rng: Random, room: Room) -> Furnishing | None:
    """The room with its things and a place for the camera that all doors can be reached from."""
    for _ in range(_ROOM_TRIES):
        filling = Furnishing(room, _ways(room, 0.9), _ways(room, 0.05), _views(room))
        for category, fewest, most in ROOMS[room.kind]:
            wanted = rng.randint(fewest, most)
            colour = rng.choice(GOODS[category].look.colours)
            for _ in range(wanted):
                box = _place(rng, filling, category)
                if box is None:
                    break
                filling.boxes.append(box)
                filling.colours.append(colour)
        stand = _stand(rng, filling)
        if stand is not None:
            filling.room = replace(room, stand=stand)
            return filling
    return None


def _stand(rng: Random, filling: Furnishing) -> Point | None:
    room, boxes = filling.room, [b for b in filling.boxes if b.bottom < 1.2]
    doors = [room.along(d.side, d.start + d.width / 2) for d in room.doors]
    for _ in range(30):
        at = rng.uniform(room.x0 + 0.5, room.x1 - 0.5), rng.uniform(room.y0 + 0.5, room.y1 - 0.5)
        if any(near_segment(at, at, b, 0.45) for b in boxes):
            continue
        if not any(near_segment(at, door, b, 0.25) for door in doors for b in boxes):
            return at
    return None


def _place(rng: Random, filling: Furnishing, category: str) -> Box | None:
    good, look = GOODS[category], GOODS[category].look
    for _ in range(_TRIES):
        size = rng.uniform(*look.width), rng.uniform(*look.depth), rng.uniform(*look.height)
        if look.width == look.depth:
            size = size[0], size[0], size[2]
        box = _propose(rng, filling, category, size, rng.uniform(*good.bottom))
        if box is not None and _fits(filling, box, good.stand == "hung"):
            return box
    return None


def _propose(
    rng: Random,
    filling: Furnishing,
    category: str,
    size: tuple[float, float, float],
    bottom: float,
) -> Box | None:
    room, stand = filling.room, GOODS[category].stand
    middle = bottom + size[2] / 2
    if stand == "beside":
        tables = [b for b in filling.boxes if b.category in ("table", "desk")]
        if tables:
            return _beside(rng, rng.choice(tables), category, size)
    if stand == "free":
        x0, x1 = room.x0 + 0.9 + size[0] / 2, room.x1 - 0.9 - size[0] / 2
        y0, y1 = room.y0 + 0.9 + size[0] / 2, room.y1 - 0.9 - size[0] / 2
        if x0 < x1 and y0 < y1:
            return Box(
                category=category,
                centre=(rng.uniform(x0, x1), rng.uniform(y0, y1), middle),
                size=size,
                yaw=rng.choice((0.0, math.pi / 2)) + rng.uniform(-0.1, 0.1),
            )
    side = rng.randrange(4)
    length = room.length(side)
    if length < size[0] + 0.2:
        return None
    gap = 0.02 if stand == "hung" else 0.09
    offset = rng.uniform(size[0] / 2 + 0.1, length - size[0] / 2 - 0.1)
    x, y = room.along(side, offset, gap + size[1] / 2)
    # The front of side 0 (south) looks north: its own -y is the world's +y after half a turn.
    return Box(
        category=category, centre=(x, y, middle), size=size, yaw=math.pi + side * math.pi / 2
    )


def _beside(rng: Random, table: Box, category: str, size: tuple[float, float, float]) -> Box:
    """A chair that looks at a side of a table."""
    side = rng.choice((0, 0, 1, 2, 2, 3))
    turn = table.yaw + side * math.pi / 2
    reach = table.size[1 - side % 2] / 2 + size[1] / 2 + rng.uniform(0.06, 0.2)
    room = table.size[side % 2] / 2 - size[0] / 2
    shift = rng.uniform(-room, room) if room > 0 else 0.0
    cos, sin = math.cos(turn), math.sin(turn)
    x = table.centre[0] + cos * shift - sin * reach
    y = table.centre[1] + sin * shift + cos * reach
    # Its own -y points back at the table.
    return Box(category=category, centre=(x, y, size[2] / 2), size=size, yaw=turn)


def _fits(filling: Furnishing, box: Box, hung: bool) -> bool:
    room = filling.room
    x0, y0, x1, y1 = room.x0 + _WALL, room.y0 + _WALL, room.x1 - _WALL, room.y1 - _WALL
    for x, y in box.footprint:
        if not (x0 < x < x1 and y0 < y < y1):
            return False
    free = filling.leaves if hung else filling.passages
    if box.top > 0.95:
        free = free + filling.views
    if any(near_segment(a, b, box, gap) for a, b, gap in free):
        return False
    return all(_apart(box, other) for other in filling.boxes)


def _ways(room: Room, reach: float) -> list[_Way]:
    return [
        (
            room.along(door.side, door.start - 0.1, reach / 2),
            room.along(door.side, door.start + door.width + 0.1, reach / 2),
            reach / 2 + 0.02,
        )
        for door in room.doors
    ]


def _views(room: Room) -> list[_Way]:
    return [
        (
            room.along(window.side, window.start),
            room.along(window.side, window.start + window.width),
            0.15,
        )
        for window in room.windows
    ]


def _apart(one: Box, other: Box) -> bool:
    """Footprints clear of each other (circles around and within them first, for speed).

    Also between what hangs and what stands below: the painter orders things by their footprints.
    """
    far = math.hypot(one.centre[0] - other.centre[0], one.centre[1] - other.centre[1])
    if far > one.reach + other.reach + 0.08:
        return True
    if far < (min(one.size[:2]) + min(other.size[:2])) / 2:
        return False
    gap = 0.015 if {"hung"} & {GOODS[one.category].stand, GOODS[other.category].stand} else 0.05
    if one.bottom >= other.top + 0.02 or other.bottom >= one.top + 0.02:
        gap = 0.015
    elif gap < 0.05 and min(one.size[1], other.size[1]) < 0.12:
        gap = 0.1  # nothing stands right in front of a picture
    return polygons_apart(one.footprint, other.footprint, gap)
