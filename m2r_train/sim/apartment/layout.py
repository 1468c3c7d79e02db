"""Apartments from a seed: rooms that share walls, doors between them, furniture in its place."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from random import Random

from m2r_train.sim.apartment.furnishing import furnish
from m2r_train.sim.apartment.rooms import Opening, Room
from m2r_train.sim.scene import Rgb
from m2r_train.spatial.scene import Box, Door, Point

DOOR_WIDTH, DOOR_HEIGHT = 0.9, 2.05
_LEAST_SIDE = 2.4  # of a room, metres
_FLOORS: tuple[Rgb, ...] = ((200, 165, 125), (175, 140, 105), (205, 190, 168), (150, 118, 88))
_TILES: tuple[Rgb, ...] = ((208, 208, 204), (190, 198, 202), (176, 168, 158))
_WALLS: tuple[Rgb, ...] = ((232, 226, 214), (212, 222, 228), (224, 232, 212), (238, 218, 206))


@dataclass(frozen=True, slots=True, kw_only=True)
class Apartment:
    """Rooms; ``links`` (room, room, door); things, their colours and rooms; height in metres."""

    rooms: tuple[Room, ...]
    links: tuple[tuple[int, int, Door], ...]
    boxes: tuple[Box, ...]
    colours: tuple[Rgb, ...]
    homes: tuple[int, ...]
    height: float


def draw_apartment(rng: Random, rooms: int) -> Apartment | None:
    """An apartment of so many rooms, or None where something found no place."""
    width = rng.uniform(3.2, 4.8) * math.sqrt(rooms) * 1.15
    plan = _split(rng, (0.0, 0.0, width, rng.uniform(0.75, 1.0) * width), rooms)
    if plan is None:
        return None
    plan.sort(key=lambda r: -(r[2] - r[0]) * (r[3] - r[1]))
    kinds = ["living room", *rng.sample(["bedroom", "kitchen", "bathroom"], 3), "bedroom"][:rooms]
    if rooms == 1:
        kinds = [rng.choice(["living room", "bedroom", "kitchen"])]
    shells = [
        Room(
            kind=kind,
            x0=r[0],
            y0=r[1],
            x1=r[2],
            y1=r[3],
            floor=rng.choice(_TILES if kind in ("kitchen", "bathroom") else _FLOORS),
            wall=rng.choice(_WALLS),
        )
        for kind, r in zip(kinds, plan, strict=True)
    ]
    linked = _link(rng, shells)
    if linked is None:
        return None
    shells, links = linked
    filled = []
    for shell in shells:
        done = furnish(rng, _with_windows(rng, shell, shells))
        if done is None:
            return None
        filled.append(done)
    if not any(done.boxes for done in filled):
        return None
    return Apartment(
        rooms=tuple(f.room for f in filled),
        links=tuple(links),
        boxes=tuple(box for f in filled for box in f.boxes),
        colours=tuple(c for f in filled for c in f.colours),
        homes=tuple(i for i, f in enumerate(filled) for _ in f.boxes),
        height=rng.uniform(2.4, 2.8),
    )


_Rect = tuple[float, float, float, float]


def _split(rng: Random, rect: _Rect, n: int) -> list[_Rect] | None:
    """Guillotine cuts across the longer side, in proportion to the rooms on each side."""
    if n == 1:
        return [rect] if min(rect[2] - rect[0], rect[3] - rect[1]) >= _LEAST_SIDE else None
    first = rng.randint(1, n - 1)
    share = first / n * rng.uniform(0.8, 1.2)
    x0, y0, x1, y1 = rect
    if x1 - x0 > y1 - y0:
        cut = x0 + share * (x1 - x0)
        parts = (x0, y0, cut, y1), (cut, y0, x1, y1)
    else:
        cut = y0 + share * (y1 - y0)
        parts = (x0, y0, x1, cut), (x0, cut, x1, y1)
    one, other = _split(rng, parts[0], first), _split(rng, parts[1], n - first)
    return one + other if one is not None and other is not None else None


def _shared(a: Room, b: Room) -> tuple[int, Point, Point] | None:
    """Side of ``a`` on which ``b`` lies, and the ends of the common wall, in a's direction."""
    for side, (u, v) in enumerate(((a.y0, b.y1), (a.x1, b.x0), (a.y1, b.y0), (a.x0, b.x1))):
        if abs(u - v) > 1e-9:
            continue
        if side % 2 == 0:
            low, high = max(a.x0, b.x0), min(a.x1, b.x1)
            ends = (low, u), (high, u)
        else:
            low, high = max(a.y0, b.y0), min(a.y1, b.y1)
            ends = (u, low), (u, high)
        if high - low > DOOR_WIDTH + 0.6:
            return side, *(ends if side < 2 else ends[::-1])
    return None


def _link(rng: Random, rooms: list[Room]) -> tuple[list[Room], list[tuple[int, int, Door]]] | None:
    """Doors that make a tree of the rooms; None if some room has no wall to share."""
    reached, links, rooms = [0], [], list(rooms)
    while len(reached) < len(rooms):
        able = [
            (a, b, shared)
            for a in reached
            for b in range(len(rooms))
            if b not in reached and (shared := _shared(rooms[a], rooms[b]))
        ]
        if not able:
            return None
        a, b, (side, p, q) = rng.choice(able)
        span = math.dist(p, q)
        start = rng.uniform(0.3, span - DOOR_WIDTH - 0.3)
        ux, uy = (q[0] - p[0]) / span, (q[1] - p[1]) / span
        one = p[0] + ux * start, p[1] + uy * start
        two = one[0] + ux * DOOR_WIDTH, one[1] + uy * DOOR_WIDTH
        for i, s, end in ((a, side, one), (b, (side + 2) % 4, two)):
            corner = rooms[i].outline[s]
            hole = Opening(
                side=s, start=math.dist(corner, end), width=DOOR_WIDTH, bottom=0.0, top=DOOR_HEIGHT
            )
            rooms[i] = replace(rooms[i], doors=(*rooms[i].doors, hole))
        links.append((a, b, Door(one=one, two=two)))
        reached.append(b)
    return rooms, links


def _with_windows(rng: Random, room: Room, rooms: list[Room]) -> Room:
    """A window in the middle of every other outer wall."""
    windows = []
    low = [min(r.x0 for r in rooms), min(r.y0 for r in rooms)]
    high = [max(r.x1 for r in rooms), max(r.y1 for r in rooms)]
    outer = (room.y0 == low[1], room.x1 == high[0], room.y1 == high[1], room.x0 == low[0])
    for side, out in enumerate(outer):
        length = room.length(side)
        if out and length > 2.2 and rng.random() < 0.6:
            width = min(1.6, 0.5 * length)
            windows.append(
                Opening(side=side, start=(length - width) / 2, width=width, bottom=0.95, top=2.1)
            )
    return replace(room, windows=tuple(windows))
