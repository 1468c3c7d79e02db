"""Where the camera goes: round about in every room, and through the doors between."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from m2r_train.sim.apartment.layout import Apartment
from m2r_train.spatial.geometry import near_segment
from m2r_train.spatial.scene import Matrix, Point

EYE_METRES = (1.4, 1.6)
PITCH_DEGREES = (10.0, 18.0)  # downwards


@dataclass(frozen=True, slots=True)
class Pose:
    """Position in metres, yaw (0 looks along +x, counter-clockwise) and downward pitch, radians."""

    x: float
    y: float
    z: float
    yaw: float
    pitch: float

    @property
    def rotation(self) -> Matrix:
        """Camera (x right, y down, z forward) to world, as rows."""
        cy, sy, cp, sp = (
            math.cos(self.yaw), math.sin(self.yaw), math.cos(self.pitch), math.sin(self.pitch)
        )  # fmt: skip
        right, forward = (sy, -cy, 0.0), (cy * cp, sy * cp, -sp)
        down = (-cy * sp, -sy * sp, -cp)
        return tuple((right[i], down[i], forward[i]) for i in range(3))


def walk(rng: Random, flat: Apartment, frames: int) -> list[Pose]:
    """So many poses: a turn in every room, one look through every door that is walked through."""
    route = _route(flat)
    doors = sum(1 for kind, _ in route if kind == "door")
    rooms = len(flat.rooms)
    turning, extra = divmod(max(frames - doors, rooms), rooms)
    height, pitch = rng.uniform(*EYE_METRES), math.radians(rng.uniform(*PITCH_DEGREES))
    yaw, way = rng.uniform(0, 2 * math.pi), rng.choice((-1, 1))
    poses: list[Pose] = []
    before: Point | None = None
    for kind, number in route:
        if kind == "door":
            door = flat.links[number][2]
            at = (door.one[0] + door.two[0]) / 2, (door.one[1] + door.two[1]) / 2
            if before is not None:
                yaw = math.atan2(at[1] - before[1], at[0] - before[0])
            poses.append(Pose(at[0], at[1], height, yaw, pitch))
            before = at
            continue
        x, y = flat.rooms[number].stand
        steps = turning + (1 if number < extra else 0)
        for k in range(steps):
            turn = yaw + way * 2 * math.pi * k / steps
            # A person turns on the spot, but not like a tripod.
            lean = 0.12 * math.cos(turn), 0.12 * math.sin(turn)
            poses.append(Pose(x + lean[0], y + lean[1], height, turn, pitch))
        before = (x, y)
    return poses[:frames]


def views(rng: Random, flat: Apartment, room: int) -> list[Pose]:
    """From where photographs are taken: from corners that are free, across the room."""
    own = flat.rooms[room]
    height = rng.uniform(*EYE_METRES)
    boxes = [b for b, home in zip(flat.boxes, flat.homes, strict=True) if home == room]
    poses = []
    for x, y in own.outline:
        side = 1 if x == own.x0 else -1, 1 if y == own.y0 else -1
        at = x + 0.35 * side[0], y + 0.35 * side[1]
        tall = [b for b in boxes if b.top > height - 0.25]
        if any(near_segment(at, at, b, 0.35) for b in tall):
            continue
        across = math.atan2((own.y0 + own.y1) / 2 - at[1], (own.x0 + own.x1) / 2 - at[0])
        pitch = math.radians(rng.uniform(*PITCH_DEGREES))
        poses.append(Pose(*at, height, across + math.radians(rng.uniform(-10, 10)), pitch))
    return poses


def _route(flat: Apartment) -> list[tuple[str, int]]:
    """("room", number) and ("door", number) in order: depth first from the first room."""
    out: list[tuple[str, int]] = []

    def visit(room: int) -> None:
        out.append(("room", room))
        after = [(k, b) for k, (a, b, _) in enumerate(flat.links) if a == room]
        for door, other in after:
            out.append(("door", door))
            visit(other)
            out.append(("door", door))

    visit(0)
    while out and out[-1][0] == "door":
        out.pop()
    return out
