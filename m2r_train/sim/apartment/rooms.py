"""A room of an apartment: a rectangle with doors and windows in its walls."""

from __future__ import annotations

from dataclasses import dataclass

from m2r_train.sim.scene import Rgb
from m2r_train.spatial.scene import Point


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
