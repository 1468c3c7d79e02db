"""Faces to pictures: Pillow fills the polygons from the farthest to the nearest, with colours for
the picture, and with the numbers of things for who is seen where and how much.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from m2r_train.sim.apartment.orders import Array
from m2r_train.sim.apartment.shapes import Indices
from m2r_train.sim.apartment.solids import Model
from m2r_train.sim.apartment.walk import Pose
from m2r_train.spatial.scene import Frame, Sight

FOCAL_SHARE = 0.62  # of the picture's side: 78 degrees from left to right
_NEAR = 0.05  # metres
_LAMP = np.array([0.33, -0.42, 0.85])
_AMBIENT, _DIRECT, _CEILING = 0.68, 0.34, 0.12
_DIM = 13.0  # metres from where a surface has half its brightness
_LARGEST_ALONE = 4.0  # sides of a picture that a thing may reach over, or it is not measured
MOST_BYTES = 255  # numbers that a byte tells apart from nothing

Owners = npt.NDArray[np.uint8]  # (size, size): 1 + the thing at each pixel, 0 for none


@dataclass(frozen=True)
class Shot:
    """A model seen from a pose, on a picture of ``size`` pixels a side.

    ``pixels`` (2, v): x and y of corners; those of face k are ``first[k]`` to ``last[k]``, what is
    behind the camera cut off. ``sequence``: the faces to paint, from the farthest; ``facing`` (f,):
    who shows its front; ``behind`` (f,): who reaches behind the camera.
    """

    model: Model
    pose: Pose
    size: int
    pixels: Array
    first: Indices
    last: Indices
    sequence: Indices
    facing: npt.NDArray[np.bool_]
    behind: npt.NDArray[np.bool_]

    @cached_property
    def bounds(self) -> list[tuple[int, int, int, int] | None]:
        """Left, top, right, bottom of whole pixels around every thing, with one to spare; None for
        what reaches behind the camera."""
        model = self.model
        ends = model.starts[model.firsts]
        corners = self.pixels[:, : ends[-1]]
        low = np.minimum.reduceat(corners, ends[:-1], axis=1).astype(np.intp) - 1
        high = np.maximum.reduceat(corners, ends[:-1], axis=1).astype(np.intp) + 2
        cut = np.logical_or.reduceat(self.behind, model.firsts[:-1]).tolist()
        edges = zip(cut, *low.tolist(), *high.tolist(), strict=True)
        return [
            None if near else (left, top, right, base) for near, left, top, right, base in edges
        ]

    def sized(self, size: int) -> Shot:
        """The same view on a picture of another size."""
        return replace(self, size=size, pixels=self.pixels * (size / self.size))


def focal(size: int) -> float:
    """Focal length of a picture, pixels."""
    return FOCAL_SHARE * size


def aim(model: Model, pose: Pose, size: int) -> Shot:
    """What there is to paint from a pose."""
    eye = np.array([pose.x, pose.y, pose.z])
    seen = np.array(pose.rotation).T @ (model.corners - eye[:, None])
    starts = model.starts[:-1]
    facing = eye @ model.normals > model.offsets
    facing &= np.maximum.reduceat(seen[2], starts) > _NEAR
    behind = np.minimum.reduceat(seen[2], starts) <= _NEAR
    pixels = _pixels(seen[:2], np.maximum(seen[2], _NEAR), size)
    low, high = (
        np.minimum.reduceat(pixels, starts, axis=1),
        np.maximum.reduceat(pixels, starts, axis=1),
    )
    off = ((high < 0) | (low > size)).any(axis=0)
    wanted = facing & (behind | ~off)
    first, last = starts.copy(), model.starts[1:].copy()
    cut = np.flatnonzero(wanted & behind)
    if len(cut):
        rest, counts = _clip(seen, model.starts, cut)
        last[cut] = pixels.shape[1] + np.cumsum(counts)
        first[cut] = last[cut] - counts
        pixels = np.concatenate([pixels, _pixels(rest[:2], rest[2], size)], axis=1)
    sequence = model.sequence(eye, wanted & (last - first >= 3))
    return Shot(model, pose, size, pixels, first, last, sequence, facing, behind)


def _pixels(across: Array, depth: Array, size: int) -> Array:
    pixels: Array = size / 2 + focal(size) * across / depth
    return pixels


def _clip(seen: Array, starts: Indices, faces: Indices) -> tuple[Array, Indices]:
    """The corners (3, n) of what is in front of the camera, and how many there are of each face
    (Sutherland and Hodgman, one plane: a corner in front stays, a side that crosses adds one)."""
    counts = starts[faces + 1] - starts[faces]
    ends = np.cumsum(counts)
    at = np.repeat(starts[faces] - ends + counts, counts) + np.arange(ends[-1])
    after = at + 1
    after[ends - 1] = starts[faces]
    one, other = seen[:, at], seen[:, after]
    front = one[2] > _NEAR
    crosses = front != (other[2] > _NEAR)
    share = (_NEAR - one[2]) / np.where(crosses, other[2] - one[2], 1.0)
    met = one + share * (other - one)
    met[2] = _NEAR
    kept = np.stack([front, crosses], axis=1).ravel()
    corners = np.stack([one, met], axis=2).reshape(3, -1)[:, kept]
    return corners, np.add.reduceat(kept, 2 * (ends - counts), dtype=np.intp)


def picture(shot: Shot) -> Image.Image:
    """RGB."""
    canvas = Image.new("RGB", (shot.size, shot.size))
    fill(canvas, shot, shot.sequence, inks_of(shot).tolist())
    return canvas


def things_of(shot: Shot) -> Image.Image:
    """The number of the thing at each pixel, plus 1; 0 where there is none ("L")."""
    if len(shot.model.shapes) > MOST_BYTES:
        raise ValueError(f"{len(shot.model.shapes)} things in an apartment; at most {MOST_BYTES}")
    canvas = Image.new("L", (shot.size, shot.size))
    owners = shot.model.owners[shot.sequence] + 1
    faces = shot.sequence[np.logical_or.accumulate(owners > 0)]  # 0 on 0 need not be painted
    inks = owners[len(owners) - len(faces) :].tolist()
    fill(canvas, shot, faces, inks)
    return canvas


def fill(canvas: Image.Image, shot: Shot, faces: Indices, inks: list[int]) -> None:
    """Paint faces of a shot in their order, each with the ink at its place."""
    _polygons(canvas, shot.pixels, shot.first[faces], shot.last[faces], inks)


def _polygons(
    canvas: Image.Image, pixels: Array, first: Indices, last: Indices, inks: list[int]
) -> None:
    draw = ImageDraw.Draw(canvas).draw.draw_polygon
    counts = last - first
    ends = np.cumsum(counts)
    at = np.repeat(last - ends, counts) + np.arange(counts.sum())
    flat = pixels.T[at].ravel().tolist()
    begin = 0
    for end, ink in zip((2 * ends).tolist(), inks, strict=True):
        draw(flat[begin:end], ink, 1)
        begin = end


def inks_of(shot: Shot) -> npt.NDArray[np.uint32]:
    """Colours of the faces to paint, as Pillow packs RGB: lamp, and falloff by distance."""
    model, pose, faces = shot.model, shot.pose, shot.sequence
    away = model.middles[:, faces] - np.array([[pose.x], [pose.y], [pose.z]])
    normals = model.normals[:, faces]
    light = _AMBIENT + _DIRECT * np.maximum(0.0, _LAMP @ normals) + _CEILING * (normals[2] < -0.5)
    shade = light / (1.0 + (away**2).sum(axis=0) / _DIM**2)
    out = np.zeros((len(faces), 4), dtype=np.uint8)
    out[:, :3] = np.minimum(model.colours[:, faces] * shade, 255.0).T
    packed: npt.NDArray[np.uint32] = out.view(np.uint32).ravel()
    return packed


def pixels_of(shot: Shot, things: Image.Image) -> list[int]:
    """Pixels of every thing."""
    counts: list[int] = things.histogram()
    return counts[1 : len(shot.model.shapes) + 1]


def share_shown(shot: Shot, index: int, pixels: int) -> float:
    """Share 0..1 of a thing's pixels that are seen, of those it would have alone and without the
    picture's edges; 0 for what reaches behind the camera or far out of the picture."""
    bounds = shot.bounds[index]
    if bounds is None:
        return 0.0
    left, top, right, bottom = bounds
    if max(right - left, bottom - top) > _LARGEST_ALONE * shot.size:
        return 0.0
    begin, end = shot.model.firsts[index : index + 2]
    own = begin + np.flatnonzero(shot.facing[begin:end])
    start = shot.model.starts[begin]
    moved = shot.pixels[:, start : shot.model.starts[end]] - np.array([[left], [top]])
    canvas = Image.new("L", (right - left, bottom - top))
    _polygons(canvas, moved, shot.first[own] - start, shot.last[own] - start, [1] * len(own))
    alone = canvas.histogram()[1]
    return min(1.0, pixels / alone) if alone else 0.0


def rectangle(shot: Shot, things: Owners, index: int) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the pixels of a thing that is seen."""
    bounds = shot.bounds[index] or (0, 0, shot.size, shot.size)
    left, top, right, bottom = (min(shot.size, max(0, edge)) for edge in bounds)
    own = things[top:bottom, left:right] == index + 1
    columns, rows = own.any(axis=0).nonzero()[0], own.any(axis=1).nonzero()[0]
    return (
        float(left + columns[0]),
        float(top + rows[0]),
        float(left + columns[-1] + 1),
        float(top + rows[-1] + 1),
    )


def frame_of(shot: Shot, sights: dict[int, Sight]) -> Frame:
    """The camera of a shot, with what it sees."""
    return Frame(
        width=shot.size,
        height=shot.size,
        fx=focal(shot.size),
        fy=focal(shot.size),
        cx=shot.size / 2,
        cy=shot.size / 2,
        rotation=shot.pose.rotation,
        position=(shot.pose.x, shot.pose.y, shot.pose.z),
        sights=sights,
    )
