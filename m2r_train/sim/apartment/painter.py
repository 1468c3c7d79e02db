"""Faces to pictures. Every pixel gets the number of the face that it shows; the numbers give
colours, and who is seen how much. Pillow fills the polygons, numpy does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from m2r_train.sim.apartment.solids import Model
from m2r_train.sim.apartment.walk import Pose
from m2r_train.spatial.scene import Frame, Sight

FOCAL_SHARE = 0.62  # of the picture's side: 78 degrees from left to right
_NEAR = 0.05  # metres
_LAMP = np.array([0.33, -0.42, 0.85])
_AMBIENT, _DIRECT, _CEILING = 0.68, 0.34, 0.12
_DIM = 13.0  # metres from where a surface has half its brightness
_LARGEST_ALONE = 4.0  # sides of a picture that a thing may reach over, or it is not measured

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Shot:
    """A model seen from a pose: for each face the corners on a picture of ``size`` pixels.

    ``sequence``: faces to paint, from the farthest; ``flat``: x0, y0, x1, y1, ... of all corners;
    ``clipped``: corners of the faces that reach behind the camera.
    """

    model: Model
    pose: Pose
    size: int
    sequence: list[int]
    flat: list[float]
    starts: list[int]
    clipped: dict[int, list[float]]
    behind: npt.NDArray[np.bool_]

    def face(self, number: int) -> list[float]:
        """The corners of a face in the picture."""
        if (own := self.clipped.get(number)) is not None:
            return own
        return self.flat[2 * self.starts[number] : 2 * self.starts[number + 1]]

    def doubled(self) -> Shot:
        """The same on twice as many pixels a side, exactly as ``aim`` would have it."""
        return replace(
            self,
            size=2 * self.size,
            flat=[2.0 * v for v in self.flat],
            clipped={k: [2.0 * v for v in own] for k, own in self.clipped.items()},
        )


def focal(size: int) -> float:
    """Focal length of a picture, pixels."""
    return FOCAL_SHARE * size


def aim(model: Model, pose: Pose, size: int) -> Shot:
    """What there is to paint from a pose."""
    eye = np.array([pose.x, pose.y, pose.z])
    seen = (model.corners - eye) @ np.array(pose.rotation)
    depth = seen[:, 2]
    starts = model.starts[:-1]
    nearest = np.minimum.reduceat(depth, starts)
    facing = model.planes[:, :3] @ eye > model.planes[:, 3]
    facing &= np.maximum.reduceat(depth, starts) > _NEAR
    clip = nearest <= _NEAR
    safe = np.maximum(depth, _NEAR)
    pixels = size / 2 + focal(size) * seen[:, :2] / safe[:, None]
    low, high = np.minimum.reduceat(pixels, starts), np.maximum.reduceat(pixels, starts)
    off = ((high < 0) | (low > size)).any(axis=1)
    wanted = facing & (clip | ~off)
    cut = {int(k): _clip(seen, model.starts, int(k), size) for k in np.flatnonzero(wanted & clip)}
    return Shot(
        model=model,
        pose=pose,
        size=size,
        sequence=_sequence(model, eye, wanted),
        flat=pixels.ravel().tolist(),
        starts=model.starts.tolist(),
        clipped=cut,
        behind=clip,
    )


def _sequence(
    model: Model, eye: npt.NDArray[np.float64], wanted: npt.NDArray[np.bool_]
) -> list[int]:
    show = wanted.tolist()
    out: list[int] = []
    for room in model.rooms.back_to_front(eye):
        shell = model.shells[room]
        out += [k for k in shell if show[k]]
        order = model.thing_orders[room]
        if order is None:
            continue
        own = model.by_room[room]
        for i in order.back_to_front(eye):
            thing = model.things[own[i]]
            first, last = thing.pieces[0].start, thing.pieces[-1].stop
            if True in show[first:last]:
                for piece in thing.back_to_front(eye):
                    out += [k for k in thing.pieces[piece] if show[k]]
    return out


def _clip(
    seen: npt.NDArray[np.float64], starts: npt.NDArray[np.intp], face: int, size: int
) -> list[float]:
    """The part of a face in front of the camera, in pixels (Sutherland and Hodgman, one plane)."""
    corners = seen[starts[face] : starts[face + 1]].tolist()
    out: list[float] = []

    def put(x: float, y: float, z: float) -> None:
        out.append(size / 2 + focal(size) * x / z)
        out.append(size / 2 + focal(size) * y / z)

    for one, other in zip(corners, corners[1:] + corners[:1], strict=True):
        if one[2] > _NEAR:
            put(*one)
        if (one[2] > _NEAR) != (other[2] > _NEAR):
            t = (_NEAR - one[2]) / (other[2] - one[2])
            put(one[0] + t * (other[0] - one[0]), one[1] + t * (other[1] - one[1]), _NEAR)
    return out


def paint(shot: Shot) -> Ids:
    """(size, size) int32: 1 + the number of the face at each pixel; 0 where there is none."""
    canvas = Image.new("I", (shot.size, shot.size))
    fill = ImageDraw.Draw(canvas).draw.draw_polygon
    for number in shot.sequence:
        corners = shot.face(number)
        if len(corners) >= 6:
            fill(corners, number + 1, 1)
    return np.asarray(canvas)


def picture(shot: Shot) -> Image.Image:
    """``coloured(shot, paint(shot))`` without the numbers in between."""
    canvas = Image.new("RGBX", (shot.size, shot.size))
    fill = ImageDraw.Draw(canvas).draw.draw_polygon
    inks = shades(shot).tolist()
    for number in shot.sequence:
        corners = shot.face(number)
        if len(corners) >= 6:
            fill(corners, inks[number + 1], 1)
    return canvas


def shades(shot: Shot) -> npt.NDArray[np.uint32]:
    """Colours of faces (index 1 + number) as Pillow's RGBX: lamp, and falloff by distance."""
    model, pose = shot.model, shot.pose
    far = ((model.middles - (pose.x, pose.y, pose.z)) ** 2).sum(axis=1)
    normals = model.planes[:, :3]
    light = (
        _AMBIENT + _DIRECT * np.maximum(0.0, normals @ _LAMP) + _CEILING * (normals[:, 2] < -0.5)
    )
    colours = model.colours * (light / (1.0 + far / _DIM**2))[:, None]
    out = np.zeros((len(colours) + 1, 4), dtype=np.uint8)
    out[1:, :3] = np.minimum(colours, 255.0)
    packed: npt.NDArray[np.uint32] = out.view(np.uint32).ravel()
    return packed


def coloured(shot: Shot, ids: Ids) -> Image.Image:
    """The picture of painted faces, RGBX."""
    pixels = shades(shot).take(ids)
    return Image.frombuffer("RGBX", (shot.size, shot.size), pixels, "raw", "RGBX", 0, 1)


def pixels_of(shot: Shot, ids: Ids) -> list[int]:
    """Pixels of every thing."""
    faces = np.bincount(ids.ravel(), minlength=len(shot.model.owners) + 1)[1:]
    owned = np.bincount(shot.model.owners + 1, weights=faces, minlength=len(shot.model.things) + 1)
    return [int(n) for n in owned[1:]]


def share_shown(shot: Shot, index: int, pixels: int) -> float:
    """Share 0..1 of a thing's pixels that are seen, of those it would have alone and without the
    picture's edges; 0 for what reaches behind the camera or far out of the picture."""
    faces = range(
        shot.model.things[index].pieces[0].start, shot.model.things[index].pieces[-1].stop
    )
    if shot.behind[faces.start : faces.stop].any():
        return 0.0
    flat = shot.flat[2 * shot.starts[faces.start] : 2 * shot.starts[faces.stop]]
    left, top = int(min(flat[0::2])) - 1, int(min(flat[1::2])) - 1
    width, height = int(max(flat[0::2])) + 2 - left, int(max(flat[1::2])) + 2 - top
    if max(width, height) > _LARGEST_ALONE * shot.size:
        return 0.0
    canvas = Image.new("L", (width, height))
    fill = ImageDraw.Draw(canvas).draw.draw_polygon
    eye = np.array([shot.pose.x, shot.pose.y, shot.pose.z])
    planes = shot.model.planes[faces.start : faces.stop]
    for number, facing in zip(faces, (planes[:, :3] @ eye > planes[:, 3]).tolist(), strict=True):
        if facing:
            own = shot.face(number)
            shifted = [v - (top if k % 2 else left) for k, v in enumerate(own)]
            fill(shifted, 1, 1)
    alone = int(np.count_nonzero(np.asarray(canvas)))
    return min(1.0, pixels / alone) if alone else 0.0


def rectangle(ids: Ids, shot: Shot, index: int) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the pixels of a thing that is seen."""
    pieces = shot.model.things[index].pieces
    own = (ids > pieces[0].start) & (ids <= pieces[-1].stop)
    columns, rows = np.flatnonzero(own.any(axis=0)), np.flatnonzero(own.any(axis=1))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


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
