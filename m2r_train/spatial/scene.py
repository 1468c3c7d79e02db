"""A scene as every question reads it, whether it was simulated or annotated.

World axes are ScanNet's: x and y on the floor, z up, metres. A camera's are OpenCV's: x to the
right, y down, z forward, pixels from the top left corner.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

Point = tuple[float, float]  # (x, y) on the floor, metres
Vector = tuple[float, float, float]
Matrix = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Box:
    """One thing: its category, and the box around it that stands upright.

    ``centre`` (x, y, z) metres; ``size`` metres along its own x, its own y and z; ``yaw`` radians,
    counter-clockwise seen from above, turns its own x away from the world's.
    """

    category: str
    centre: Vector
    size: Vector
    yaw: float = 0.0

    @cached_property
    def footprint(self) -> tuple[Point, Point, Point, Point]:
        """The four corners on the floor, counter-clockwise seen from above."""
        x, y, _ = self.centre
        cos, sin = math.cos(self.yaw) / 2, math.sin(self.yaw) / 2
        a, b = cos * self.size[0], sin * self.size[0]  # half of its own x
        c, d = sin * self.size[1], cos * self.size[1]  # half of its own y is (-c, d)
        return (
            (x - a + c, y - b - d),
            (x + a + c, y + b - d),
            (x + a - c, y + b + d),
            (x - a - c, y - b + d),
        )

    @cached_property
    def reach(self) -> float:
        """Radius of the circle around the footprint, metres."""
        return math.hypot(self.size[0], self.size[1]) / 2

    @property
    def bottom(self) -> float:
        """Height of the underside, metres."""
        return self.centre[2] - self.size[2] / 2

    @property
    def top(self) -> float:
        """Height of the upper side, metres."""
        return self.centre[2] + self.size[2] / 2

    @property
    def place(self) -> Point:
        """The middle, seen from above."""
        return self.centre[0], self.centre[1]

    @property
    def corners(self) -> tuple[Vector, ...]:
        """All eight corners."""
        return tuple((x, y, z) for z in (self.bottom, self.top) for x, y in self.footprint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What one frame shows of one box.

    ``pixels`` shown; ``share`` 0..1 of those that it would have alone in an endless picture (None
    where it was not measured); ``rectangle`` left, top, right, bottom of the pixels shown.
    """

    pixels: int
    share: float | None = None
    rectangle: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One picture: the camera, and what is seen of each box, by index (the unseen left out).

    ``rotation`` (rows) and ``position`` take camera coordinates to the world's: p = R c + t.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    rotation: Matrix
    position: Vector
    sights: Mapping[int, Sight] = field(default_factory=dict)

    def to_camera(self, point: Vector) -> Vector:
        """World to camera coordinates, metres; the third is depth."""
        d = tuple(point[i] - self.position[i] for i in range(3))
        r = self.rotation
        x, y, z = (sum(r[i][k] * d[i] for i in range(3)) for k in range(3))
        return x, y, z

    def project(self, point: Vector) -> tuple[float, float] | None:
        """Pixel (column, row) of a point in the world; None behind the camera."""
        x, y, z = self.to_camera(point)
        if z <= 1e-6:
            return None
        return self.cx + self.fx * x / z, self.cy + self.fy * y / z

    def rectangle(self, box: Box) -> tuple[float, float, float, float] | None:
        """Left, top, right, bottom of the projected box, if all of it is in the picture."""
        seen = [self.project(corner) for corner in box.corners]
        if any(pixel is None for pixel in seen):
            return None
        columns = [pixel[0] for pixel in seen if pixel]
        rows = [pixel[1] for pixel in seen if pixel]
        edges = min(columns), min(rows), max(columns), max(rows)
        inside = edges[0] >= 0 and edges[1] >= 0 and edges[2] <= self.width
        return edges if inside and edges[3] <= self.height else None

    @property
    def area(self) -> int:
        """Pixels of the picture."""
        return self.width * self.height


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A way through walls: the two ends of the opening on the floor."""

    one: Point
    two: Point


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Boxes, frames in order, and the outlines of the rooms (none known: no question on size).

    ``complete``: every instance of the categories is annotated, so that they can be counted.
    """

    boxes: tuple[Box, ...]
    frames: tuple[Frame, ...]
    rooms: tuple[tuple[Point, ...], ...] = ()
    doors: tuple[Door, ...] = ()
    complete: bool = True

    @cached_property
    def by_category(self) -> dict[str, tuple[int, ...]]:
        """Indices of the boxes of each category."""
        found: dict[str, tuple[int, ...]] = {}
        for index, box in enumerate(self.boxes):
            found[box.category] = (*found.get(box.category, ()), index)
        return found

    @cached_property
    def unique(self) -> tuple[int, ...]:
        """Boxes that their category tells apart from all others."""
        count = Counter(box.category for box in self.boxes)
        return tuple(i for i, box in enumerate(self.boxes) if count[box.category] == 1)

    @cached_property
    def _most(self) -> tuple[dict[int, float], dict[int, float]]:
        covered: dict[int, float] = {}
        shown: dict[int, float] = {}
        for frame in self.frames:
            for index, sight in frame.sights.items():
                covered[index] = max(covered.get(index, 0.0), sight.pixels / frame.area)
                shown[index] = max(shown.get(index, 0.0), sight.share or 0.0)
        return covered, shown

    def most_seen(self, index: int) -> float:
        """The largest share of a frame's pixels that a box covers, 0..1."""
        return self._most[0].get(index, 0.0)

    def best_share(self, index: int) -> float:
        """The largest measured share of a box that a frame shows, 0..1."""
        return self._most[1].get(index, 0.0)

    @property
    def area(self) -> float:
        """Floor area of all rooms, square metres."""
        return sum(abs(polygon_area(room)) for room in self.rooms)


def polygon_area(corners: tuple[Point, ...]) -> float:
    """Signed area (shoelace formula), positive counter-clockwise."""
    rest = (*corners[1:], corners[0])
    return 0.5 * sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(corners, rest, strict=True))


def mirrored(scene: Scene) -> Scene:
    """x -> -x in the world and in every picture: left and right change places."""

    def flip(point: Point) -> Point:
        return -point[0], point[1]

    def frame(f: Frame) -> Frame:
        r = f.rotation  # mirror the world's x and the camera's x, which keeps it a rotation
        (a, b, c), *below = r
        rows = ((a, -b, -c), *((-d, e, g) for d, e, g in below))
        sights = {
            i: replace(
                s,
                rectangle=None
                if s.rectangle is None
                else (
                    f.width - s.rectangle[2],
                    s.rectangle[1],
                    f.width - s.rectangle[0],
                    s.rectangle[3],
                ),
            )
            for i, s in f.sights.items()
        }
        x, y, z = f.position
        return replace(
            f,
            cx=f.width - f.cx,
            rotation=rows,
            position=(-x, y, z),
            sights=sights,
        )

    return replace(
        scene,
        boxes=tuple(
            replace(b, centre=(-b.centre[0], b.centre[1], b.centre[2]), yaw=-b.yaw)
            for b in scene.boxes
        ),
        frames=tuple(map(frame, scene.frames)),
        rooms=tuple(tuple(flip(p) for p in reversed(room)) for room in scene.rooms),
        doors=tuple(Door(one=flip(d.one), two=flip(d.two)) for d in scene.doors),
    )


def scaled(scene: Scene, factor: float) -> Scene:
    """Every length times ``factor``: the same pictures."""

    def grow(point: Point) -> Point:
        return point[0] * factor, point[1] * factor

    def grow3(vector: Vector) -> Vector:
        return vector[0] * factor, vector[1] * factor, vector[2] * factor

    return replace(
        scene,
        boxes=tuple(replace(b, centre=grow3(b.centre), size=grow3(b.size)) for b in scene.boxes),
        frames=tuple(replace(f, position=grow3(f.position)) for f in scene.frames),
        rooms=tuple(tuple(map(grow, room)) for room in scene.rooms),
        doors=tuple(Door(one=grow(d.one), two=grow(d.two)) for d in scene.doors),
    )
