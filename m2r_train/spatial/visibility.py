"""What a camera sees of annotated boxes, where nobody has measured it: a coarse grid of rays.

Boxes are solid, room outlines are walls with gaps at the doors; anything that is not annotated
hides nothing.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from m2r_train.spatial.geometry import edges, inside
from m2r_train.spatial.scene import Box, Frame, Scene, Sight

Array = npt.NDArray[np.float64]

_COLUMNS = 80  # of the grid over the picture's width
_PAD = 0.5  # of the picture's sides, on each side: what sticks out is seen there
_WALL_SLACK = 0.2  # metres that a box on a wall may reach through it


def with_sights(scene: Scene) -> Scene:
    """The scene with the sights of every frame computed; those that are given stay."""
    return replace(scene, frames=tuple(_frame(scene, frame) for frame in scene.frames))


def _frame(scene: Scene, frame: Frame) -> Frame:
    step = frame.width / _COLUMNS
    columns = np.arange(-_PAD * frame.width + step / 2, (1 + _PAD) * frame.width, step)
    rows = np.arange(-_PAD * frame.height + step / 2, (1 + _PAD) * frame.height, step)
    u, v = np.meshgrid(columns, rows)
    within = (u >= 0) & (u < frame.width) & (v >= 0) & (v < frame.height)
    camera = np.stack(
        [(u - frame.cx) / frame.fx, (v - frame.cy) / frame.fy, np.ones_like(u)], axis=-1
    )
    rays = camera @ np.array(frame.rotation).T  # depth is the parameter along a ray
    eye = np.array(frame.position)
    depths = np.full((len(scene.boxes), *u.shape), np.inf)
    alone = []
    walls = wall_depth(scene, eye, rays)
    for index, box in enumerate(scene.boxes):
        own = _box_depth(box, eye, rays)
        alone.append(int(np.count_nonzero(np.isfinite(own))))
        depths[index] = np.where(own <= walls + _slack(scene, frame, box), own, np.inf)
    first = depths.argmin(axis=0)
    sights = {}
    for index in range(len(scene.boxes)):
        shown = (first == index) & within & np.isfinite(depths[index])
        n = int(np.count_nonzero(shown))
        given = frame.sights.get(index)
        if not n and given is None:
            continue
        measured = Sight(
            pixels=round(n * step * step),
            share=n / alone[index] if alone[index] else 0.0,
            rectangle=_rectangle(shown, step, frame) if n else None,
        )
        if given is not None:
            measured = Sight(
                pixels=given.pixels,
                share=measured.share if given.share is None else given.share,
                rectangle=given.rectangle or measured.rectangle,
            )
        sights[index] = measured
    return replace(frame, sights=sights)


def _slack(scene: Scene, frame: Frame, box: Box) -> float:
    """Metres by which a box may reach into a wall: one of the camera's own room may, or its
    outline would hide it; what hangs on the other side of a wall must not show through."""
    eye = frame.position[0], frame.position[1]
    homes = [room for room in scene.rooms if inside(box.place, room)]
    return _WALL_SLACK if not homes or any(inside(eye, room) for room in homes) else 0.0


def _rectangle(
    shown: npt.NDArray[np.bool_], step: float, frame: Frame
) -> tuple[float, float, float, float]:
    columns, rows = np.flatnonzero(shown.any(axis=0)), np.flatnonzero(shown.any(axis=1))
    pad_x, pad_y = _PAD * frame.width, _PAD * frame.height
    return (
        max(0.0, columns[0] * step - pad_x),
        max(0.0, rows[0] * step - pad_y),
        min(float(frame.width), (columns[-1] + 1) * step - pad_x),
        min(float(frame.height), (rows[-1] + 1) * step - pad_y),
    )


def _box_depth(box: Box, eye: Array, rays: Array) -> Array:
    """Depth at which rays (..., 3) enter a box; ``inf`` for a miss, and from inside."""
    cos, sin = np.cos(box.yaw), np.sin(box.yaw)
    turn = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    start, way = turn @ (eye - np.array(box.centre)), rays @ turn.T
    way = np.where(np.abs(way) < 1e-9, 1e-9, way)
    half = np.array(box.size) / 2
    one, two = (-half - start) / way, (half - start) / way
    near, far = np.minimum(one, two).max(axis=-1), np.maximum(one, two).min(axis=-1)
    return np.where((near <= far) & (near > 0), near, np.inf)


def wall_depth(scene: Scene, eye: Array, rays: Array) -> Array:
    """Depth at which rays meet the first wall that has no door there."""
    out = np.full(rays.shape[:-1], np.inf)
    for room in scene.rooms:
        for p, q in edges(room):
            sx, sy = q[0] - p[0], q[1] - p[1]
            cross = rays[..., 0] * sy - rays[..., 1] * sx
            cross = np.where(np.abs(cross) < 1e-12, 1e-12, cross)
            t = ((p[0] - eye[0]) * sy - (p[1] - eye[1]) * sx) / cross
            along = ((p[0] - eye[0]) * rays[..., 1] - (p[1] - eye[1]) * rays[..., 0]) / cross
            hit = (t > 1e-6) & (along >= 0) & (along <= 1)
            x, y = eye[0] + t * rays[..., 0], eye[1] + t * rays[..., 1]
            for door in scene.doors:
                hit &= ~_near_segment(x, y, door.one, door.two)
            out = np.where(hit, np.minimum(out, t), out)
    return out


def _near_segment(
    x: Array, y: Array, a: tuple[float, float], b: tuple[float, float]
) -> npt.NDArray[np.bool_]:
    dx, dy = b[0] - a[0], b[1] - a[1]
    t = np.clip(((x - a[0]) * dx + (y - a[1]) * dy) / (dx * dx + dy * dy), 0.0, 1.0)
    near: npt.NDArray[np.bool_] = np.hypot(x - a[0] - t * dx, y - a[1] - t * dy) < 0.1
    return near
