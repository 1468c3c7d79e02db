"""Exact distances between solids, in metres: the ground truth of the distance tasks.

Every solid stands on the floor, so two of them that are not balls come closest somewhere along
the height of their footprints' nearest points (a cone's widest circle is on the floor, a prism
has the same outline at any height): the answer is the distance of the footprints. A ball touches
the floor in one point only and is handled from its centre.
"""

from __future__ import annotations

import math

from m2r_train.sim.camera import footprint
from m2r_train.sim.scene import Solid


def centre_distance(one: Solid, other: Solid) -> float:
    """Distance of the two middles on the floor, metres."""
    return math.hypot(one.x - other.x, one.z - other.z)


def closest_distance(one: Solid, other: Solid) -> float:
    """Distance between the closest points of two solids, metres; 0 where they touch."""
    if one.shape == "ball":
        return max(0.0, _point_distance(other, one.x, one.height / 2, one.z) - one.height / 2)
    if other.shape == "ball":
        return closest_distance(other, one)
    return footprint_distance(one, other)


def footprint_distance(one: Solid, other: Solid) -> float:
    """Distance of two footprints on the floor, metres; a ball counts as its disc."""
    if one.shape != "box":
        return max(0.0, _outside_footprint(other, one.x, one.z) - one.radius)
    if other.shape != "box":
        return footprint_distance(other, one)
    if _boxes_overlap(one, other):
        return 0.0
    # Two convex shapes apart: the closest pair has a corner of one of them.
    return min(
        *(_outside_footprint(other, x, z) for x, z in _corners(one)),
        *(_outside_footprint(one, x, z) for x, z in _corners(other)),
    )


def _corners(solid: Solid) -> tuple[tuple[float, float], ...]:
    return footprint(solid.shape, solid.x, solid.z, solid.size, solid.yaw)


def _outside_footprint(solid: Solid, x: float, z: float) -> float:
    """Distance of a floor point from the footprint; 0 inside."""
    dx, dz = x - solid.x, z - solid.z
    if solid.shape != "box":
        return max(0.0, math.hypot(dx, dz) - solid.radius)
    cos, sin = math.cos(solid.yaw), math.sin(solid.yaw)
    across = abs(cos * dx - sin * dz) - 0.5 * solid.size[0]
    along = abs(sin * dx + cos * dz) - 0.5 * solid.size[2]
    return math.hypot(max(0.0, across), max(0.0, along))


def _point_distance(solid: Solid, x: float, y: float, z: float) -> float:
    """Distance of a point in space from a solid; 0 inside a prism."""
    if solid.shape == "ball":
        to_centre = math.hypot(x - solid.x, y - solid.height / 2, z - solid.z)
        return max(0.0, to_centre - solid.height / 2)
    if solid.shape == "cone":
        return _cone_distance(solid, math.hypot(x - solid.x, z - solid.z), y)
    return math.hypot(_outside_footprint(solid, x, z), max(0.0, y - solid.height))


def _cone_distance(cone: Solid, across: float, y: float) -> float:
    """Distance from the cone's flank: the segment (radius, 0)-(0, height) in its half plane."""
    radius, height = cone.radius, cone.height
    if across / radius + y / height <= 1:
        return 0.0
    along = ((radius - across) * radius + y * height) / (radius**2 + height**2)
    along = min(1.0, max(0.0, along))
    return math.hypot(across - radius * (1 - along), y - height * along)


def _boxes_overlap(one: Solid, other: Solid) -> bool:
    """Separating axis test of two turned rectangles."""
    ours, theirs = _corners(one), _corners(other)
    for yaw in (one.yaw, other.yaw):
        for ax, az in ((math.cos(yaw), -math.sin(yaw)), (math.sin(yaw), math.cos(yaw))):
            a = [x * ax + z * az for x, z in ours]
            b = [x * ax + z * az for x, z in theirs]
            if max(a) < min(b) or max(b) < min(a):
                return False
    return True
