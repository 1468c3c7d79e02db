"""Apartments from a seed: rooms that share walls, doors between them, furniture in its place."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from random import Random

from m2r_train.sim.apartment.goods import GOODS, ROOMS
from m2r_train.sim.scene import Rgb
from m2r_train.spatial.geometry import near_segment, polygons_apart
from m2r_train.spatial.scene import Box, Door, Point

DOOR_WIDTH, DOOR_HEIGHT = 0.9, 2.05
_LEAST_SIDE = 2.4  # of a room, metres
_WALL = 0.01  # metres between a thing and the walls, at least
_TRIES = 12
_ROOM_TRIES = 4
_FLOORS: tuple[Rgb, ...] = ((200, 165, 125), (175, 140, 105), (205, 190, 168), (150, 118, 88))
_TILES: tuple[Rgb, ...] = ((208, 208, 204), (190, 198, 202), (176, 168, 158))
_WALLS: tuple[Rgb, ...] = ((232, 226, 214), (212, 222, 228), (224, 232, 212), (238, 218, 206))


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """Part of a wall: from ``start`` over ``width`` along the room's side 0..3 (south, east, north,
    west, counter-clockwise from its first corner), and between two heights."""

    side: int
    start: float
    width: float
    bottom: float
    top: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A rectangle x0..x1, y0..y1; its doors and windows; where the camera can stand."""

    kind: str
    x0: float
    y0: float
    x1: float
    y1: float
    floor: Rgb
    wall: Rgb
    doors: tuple[Opening, ...] = ()
    windows: tuple[Opening, ...] = ()
    stand: Point = (0.0, 0.0)

    @property
    def outline(self) -> tuple[Point, Point, Point, Point]:
        """Corners, counter-clockwise from the south-west."""
        return (self.x0, self.y0), (self.x1, self.y0), (self.x1, self.y1), (self.x0, self.y1)

    @property
    def area(self) -> float:
        """Square metres."""
        return (self.x1 - self.x0) * (self.y1 - self.y0)

    def along(self, side: int, offset: float, inward: float = 0.0) -> Point:
        """The point ``offset`` metres along a side, ``inward`` metres into the room."""
        match side:
            case 0:
                return self.x0 + offset, self.y0 + inward
            case 1:
                return self.x1 - inward, self.y0 + offset
            case 2:
                return self.x1 - offset, self.y1 - inward
            case _:
                return self.x0 + inward, self.y1 - offset

    def length(self, side: int) -> float:
        """Metres of a side."""
        return self.x1 - self.x0 if side % 2 == 0 else self.y1 - self.y0


@dataclass(frozen=True, slots=True, kw_only=True)
class Apartment:
    """Rooms; ``links`` (room, room, door); things, their colours and rooms; height in metres."""

    rooms: tuple[Room, ...]
    links: tuple[tuple[int, int, Door], ...]
    boxes: tuple[Box, ...]
    colours: tuple[Rgb, ...]
    homes: tuple[int, ...]
    height: float


_Way = tuple[Point, Point, float]  # a segment on the floor, and how far around it is kept free


@dataclass(slots=True)
class _Furnishing:
    """A room while it is filled; what is kept free before doors, of what stands and what hangs, and
    before windows, of what is tall."""

    room: Room
    passages: list[_Way]
    leaves: list[_Way]
    views: list[_Way]
    boxes: list[Box] = field(default_factory=list)
    colours: list[Rgb] = field(default_factory=list)


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
        done = _furnish(rng, _with_windows(rng, shell, shells))
        if done is None:
            return None
        filled.append(done)
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


def _furnish(rng: Random, room: Room) -> _Furnishing | None:
    """The room with its things and a place for the camera that all doors can be reached from."""
    for _ in range(_ROOM_TRIES):
        filling = _Furnishing(room, _ways(room, 0.9), _ways(room, 0.05), _views(room))
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


def _stand(rng: Random, filling: _Furnishing) -> Point | None:
    room, boxes = filling.room, [b for b in filling.boxes if b.bottom < 1.2]
    doors = [room.along(d.side, d.start + d.width / 2) for d in room.doors]
    for _ in range(30):
        at = rng.uniform(room.x0 + 0.5, room.x1 - 0.5), rng.uniform(room.y0 + 0.5, room.y1 - 0.5)
        if any(near_segment(at, at, b, 0.45) for b in boxes):
            continue
        if not any(near_segment(at, door, b, 0.25) for door in doors for b in boxes):
            return at
    return None


def _place(rng: Random, filling: _Furnishing, category: str) -> Box | None:
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
    filling: _Furnishing,
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


def _fits(filling: _Furnishing, box: Box, hung: bool) -> bool:
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
