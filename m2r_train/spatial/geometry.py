"""What is true of boxes on a floor: distances, angles, and where one can walk. Metres, degrees."""

from __future__ import annotations

import math
from itertools import pairwise

from m2r_train.spatial.scene import Box, Point, Scene

_SLACK = 1e-6  # metres, for rounding


def box_distance(one: Box, other: Box) -> float:
    """Distance of the closest points of two upright boxes; 0 where they touch or overlap.

    Upright boxes are prisms, so the distance across the floor and the gap in height are
    independent: the answer is the hypotenuse.
    """
    gap = max(0.0, one.bottom - other.top, other.bottom - one.top)
    return math.hypot(gap, polygon_distance(one.footprint, other.footprint))


def polygon_distance(one: tuple[Point, ...], other: tuple[Point, ...]) -> float:
    """Distance of two convex polygons (counter-clockwise); 0 where they overlap."""
    if not _separated(one, other) and not _separated(other, one):
        return 0.0
    return min(
        min(point_segment(p, a, b) for p in ps for a, b in edges(qs))
        for ps, qs in ((one, other), (other, one))
    )


def polygons_apart(one: tuple[Point, ...], other: tuple[Point, ...], gap: float) -> bool:
    """Whether the distance of two convex polygons (counter-clockwise) is ``gap`` or more, for a gap
    above 0 (their sides first, for speed).

    What is wholly on the far side of a side is at least as far from the polygon as from that side;
    what is on the far side of none overlaps it.
    """
    clear = max(_clearance(one, other), _clearance(other, one))
    if clear > gap + _SLACK:
        return True
    return clear > -_SLACK and polygon_distance(one, other) >= gap


def segment_polygon(a: Point, b: Point, polygon: tuple[Point, ...]) -> float:
    """Distance of a segment from a convex polygon; 0 where it meets it."""
    if any(crossing(a, b, p, q) is not None for p, q in edges(polygon)) or inside(a, polygon):
        return 0.0
    return min(
        *(point_segment(end, p, q) for p, q in edges(polygon) for end in (a, b)),
        *(point_segment(p, a, b) for p in polygon),
    )


def near_segment(a: Point, b: Point, box: Box, gap: float) -> bool:
    """Whether an upright box comes nearer than ``gap`` to the segment (circles first, for speed).

    The box lies in the circle around its middle, so what the circle is clear of, the box is; and
    the circle within it is no nearer than the box.
    """
    middle = point_segment(box.place, a, b)
    if middle > box.reach + gap + _SLACK:
        return False
    if middle < min(box.size[0], box.size[1]) / 2 + gap - _SLACK:
        return True
    return segment_polygon(a, b, box.footprint) < gap


def edges(polygon: tuple[Point, ...]) -> list[tuple[Point, Point]]:
    """The polygon's sides, the closing one last."""
    return list(pairwise((*polygon, polygon[0])))


def point_segment(p: Point, a: Point, b: Point) -> float:
    """Distance of a point from the segment a-b."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    length = dx * dx + dy * dy
    t = 0.0 if length == 0 else ((p[0] - a[0]) * dx + (p[1] - a[1]) * dy) / length
    t = 0.0 if t < 0.0 else min(t, 1.0)
    return math.hypot(p[0] - a[0] - t * dx, p[1] - a[1] - t * dy)


def inside(p: Point, polygon: tuple[Point, ...]) -> bool:
    """Whether a point is inside any simple polygon (even-odd rule)."""
    within = False
    for a, b in edges(polygon):
        if (a[1] > p[1]) != (b[1] > p[1]):
            at = a[0] + (p[1] - a[1]) / (b[1] - a[1]) * (b[0] - a[0])
            within ^= p[0] < at
    return within


def crossing(a: Point, b: Point, p: Point, q: Point) -> Point | None:
    """Where the segments a-b and p-q meet; None where they do not, or are parallel."""
    rx, ry, sx, sy = b[0] - a[0], b[1] - a[1], q[0] - p[0], q[1] - p[1]
    cross = rx * sy - ry * sx
    if abs(cross) < 1e-12:
        return None
    t = ((p[0] - a[0]) * sy - (p[1] - a[1]) * sx) / cross
    u = ((p[0] - a[0]) * ry - (p[1] - a[1]) * rx) / cross
    if 0 <= t <= 1 and 0 <= u <= 1:
        return a[0] + t * rx, a[1] + t * ry
    return None


def bearing(at: Point, facing: Point, target: Point) -> float:
    """Degrees -180..180 from the line at->facing to at->target, to the left positive."""
    fx, fy, tx, ty = facing[0] - at[0], facing[1] - at[1], target[0] - at[0], target[1] - at[1]
    return math.degrees(math.atan2(fx * ty - fy * tx, fx * tx + fy * ty))


def walkable(
    scene: Scene, a: Point, b: Point, leave_out: tuple[int, ...], clearance: float
) -> bool:
    """Whether one can walk straight from a to b: no box but those left out (and what hangs above
    or lies flat) within ``clearance``, and walls crossed only well inside doors."""
    for index, box in enumerate(scene.boxes):
        on_the_way = index not in leave_out and box.bottom < 1.5 and box.top > 0.1
        if on_the_way and near_segment(a, b, box, clearance):
            return False
    for room in scene.rooms:
        for p, q in edges(room):
            at = crossing(a, b, p, q)
            if at is not None and not _in_a_door(scene, at, clearance):
                return False
    return all(
        _in_a_door(scene, end, clearance) or any(inside(end, room) for room in scene.rooms)
        for end in (a, b)
    )


def _in_a_door(scene: Scene, at: Point, clearance: float) -> bool:
    return any(
        point_segment(at, door.one, door.two) < 0.1
        and math.dist(at, door.one) >= clearance
        and math.dist(at, door.two) >= clearance
        for door in scene.doors
    )


def _separated(one: tuple[Point, ...], other: tuple[Point, ...]) -> bool:
    """Whether a side of ``one`` (counter-clockwise, convex) has all of ``other`` outside."""
    return any(
        all((b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]) < 0 for p in other)
        for a, b in edges(one)
    )


def _clearance(one: tuple[Point, ...], other: tuple[Point, ...]) -> float:
    """How far ``other`` is beyond the side of ``one`` that it is farthest beyond; below 0 if it
    reaches inwards of all of them."""
    most = -math.inf
    for (ax, ay), (bx, by) in edges(one):
        nx, ny = by - ay, ax - bx
        nearest = min([nx * x + ny * y for x, y in other]) - nx * ax - ny * ay
        most = max(most, nearest / math.hypot(nx, ny))
    return most
