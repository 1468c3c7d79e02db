"""An apartment as flat faces with colours, in groups that the painter puts in order.

Rooms are convex and their walls have no thickness, so a picture is right when rooms are painted
from the farthest to the nearest, each as floor, ceiling and walls, then its things. Things, and
the pieces of a thing, are convex prisms apart from each other: planes between them say which is
painted first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from m2r_train.sim.apartment.layout import Apartment
from m2r_train.sim.apartment.orders import Array, Order, Prism, order_of
from m2r_train.sim.apartment.shapes import Indices, Shape, colours_of, shape_of
from m2r_train.sim.apartment.shells import shell_of

NOBODY = -1


@dataclass(frozen=True, slots=True)
class Things:
    """The boxes of an apartment as columns of (n,): middle of the underside, size, turn."""

    x: Array
    y: Array
    bottom: Array
    width: Array
    depth: Array
    height: Array
    cos: Array
    sin: Array

    def seen_from(self, eye: Array) -> Array:
        """(n, 3): where an eye is in the coordinates of each box, stretched to size 1."""
        dx, dy = eye[0] - self.x, eye[1] - self.y
        across = (self.cos * dx + self.sin * dy) / self.width
        along = (self.cos * dy - self.sin * dx) / self.depth
        return np.stack([across, along, (eye[2] - self.bottom) / self.height], axis=1)


@dataclass(frozen=True, slots=True)
class Model:
    """All faces of an apartment, as arrays, and the groups to be ordered.

    ``corners`` (3, v); face k has the corners ``starts[k]`` to ``starts[k + 1]``, the plane
    ``normals[:, k]`` and ``offsets[k]``, and the middle ``middles[:, k]``; ``colours`` (3, f);
    ``owners``: the thing that a face belongs to. First come the faces of the empty rooms,
    ``shells``, then those of the things from ``firsts[i]`` to ``firsts[i + 1]``.
    """

    corners: Array
    starts: Indices
    normals: Array
    offsets: Array
    middles: Array
    colours: Array
    owners: Indices
    shells: tuple[Indices, ...]
    firsts: Indices
    shapes: tuple[Shape, ...]
    things: Things
    rooms: Order
    by_room: tuple[tuple[int, ...], ...]
    thing_orders: tuple[Order | None, ...]

    def sequence(self, eye: Array, wanted: npt.NDArray[np.bool_]) -> Indices:
        """The faces that are wanted, in the order in which they are painted."""
        own = self.things.seen_from(eye)
        shown = np.logical_or.reduceat(wanted, self.firsts[:-1]).tolist()
        first = self.firsts.tolist()
        parts: list[Indices] = []
        for room in self.rooms.back_to_front(eye):
            parts.append(self.shells[room])
            order, here = self.thing_orders[room], self.by_room[room]
            if order is not None and any(shown[i] for i in here):
                ordered = [here[k] for k in order.back_to_front(eye)]
                parts += [
                    self.shapes[i].back_to_front(own[i]) + first[i] for i in ordered if shown[i]
                ]
        faces = np.concatenate(parts)
        return faces[wanted[faces]]


def model_of(flat: Apartment) -> Model:
    """The faces of an apartment."""
    by_room = tuple(
        tuple(i for i, home in enumerate(flat.homes) if home == r) for r in range(len(flat.rooms))
    )
    shells = [
        shell_of(room, [flat.boxes[i] for i in own], flat.height)
        for room, own in zip(flat.rooms, by_room, strict=True)
    ]
    ends = np.cumsum([0, *(len(own) for own, _ in shells)])
    shapes = tuple(shape_of(box.category) for box in flat.boxes)
    things = _columns(flat)
    corners = np.concatenate(
        [*(own.reshape(-1, 3).T for own, _ in shells), _placed(things, shapes)], axis=1
    )
    counts = np.concatenate([np.full(ends[-1], 4), *(shape.counts for shape in shapes)])
    starts = np.concatenate([[0], np.cumsum(counts)])
    normals = _normals(corners, starts[:-1])
    of_things = np.array([len(shape.counts) for shape in shapes])
    painted = [
        colours_of(box.category, own) for box, own in zip(flat.boxes, flat.colours, strict=True)
    ]
    hulls = [Prism(b.footprint, b.bottom, b.top) for b in flat.boxes]
    return Model(
        corners=corners,
        starts=starts,
        normals=normals,
        offsets=(normals * corners[:, starts[:-1]]).sum(axis=0),
        middles=np.add.reduceat(corners, starts[:-1], axis=1) / counts,
        colours=np.concatenate([*(own for _, own in shells), *painted]).T.copy(),
        owners=np.concatenate(
            [np.full(ends[-1], NOBODY), np.repeat(np.arange(len(shapes)), of_things)]
        ),
        shells=tuple(np.arange(a, b) for a, b in pairwise(ends)),
        firsts=ends[-1] + np.concatenate([[0], np.cumsum(of_things)]),
        shapes=shapes,
        things=things,
        rooms=order_of([Prism(room.outline, 0.0, flat.height) for room in flat.rooms]),
        by_room=by_room,
        thing_orders=tuple(order_of([hulls[i] for i in own]) if own else None for own in by_room),
    )


def _columns(flat: Apartment) -> Things:
    rows = [(*b.place, b.bottom, *b.size, math.cos(b.yaw), math.sin(b.yaw)) for b in flat.boxes]
    return Things(*np.array(rows).T)


def _placed(things: Things, shapes: tuple[Shape, ...]) -> Array:
    """(3, v): the corners of all shapes, each stretched to its box, turned and moved."""
    u, v, h = np.concatenate([shape.corners for shape in shapes], axis=1)
    of = np.repeat(np.arange(len(shapes)), [shape.corners.shape[1] for shape in shapes])
    across, along = u * things.width[of], v * things.depth[of]
    cos, sin = things.cos[of], things.sin[of]
    return np.stack(
        [
            things.x[of] + cos * across - sin * along,
            things.y[of] + sin * across + cos * along,
            things.bottom[of] + h * things.height[of],
        ]
    )


def _normals(corners: Array, starts: Indices) -> Array:
    """(3, f): unit vectors towards the side from which a face is seen counter-clockwise."""
    a, b, c = (corners[:, starts + k] for k in range(3))
    p, q = b - a, c - a
    normals = np.stack(
        [p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]]
    )
    normals /= np.sqrt((normals * normals).sum(axis=0))
    return normals
