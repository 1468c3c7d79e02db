"""The form of an annotated scene, checked field by field (docs/annotated-scenes.md)."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from m2r_train.spatial import Box, Door, Frame, Scene, Sight
from m2r_train.spatial.scene import Matrix, Point, Vector, polygon_area

MAX_BOXES, MAX_FRAMES, MAX_ROOMS, MAX_SIDE = 2000, 20_000, 64, 16_384
_FIELDS = ("version", "name", "complete", "rooms", "doors", "boxes", "camera", "frames")
_CATEGORY = re.compile(r"[A-Za-z][A-Za-z0-9 /'_-]{0,39}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_ROTATION_SLACK = 0.01


class Trouble(Exception):  # noqa: N818 - becomes a DataError with the file's name
    """What is wrong with a field, and what to do."""

    def __init__(self, field: str, what: str) -> None:
        super().__init__(f"{field}: {what}" if field else what)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictured:
    """A scene and the paths of its frames' pictures; ``places`` names each in the file."""

    name: str
    scene: Scene
    images: tuple[str, ...]
    places: tuple[str, ...]


def parse_scene(value: object) -> Pictured:
    """The scene that a JSON value describes. Raises Trouble for the first field that is wrong."""
    top = _object(value, "", _FIELDS)
    if top.get("version") != 1:
        raise Trouble("version", f"{_shown(top.get('version'))} is not 1; write 1")
    name = top.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Trouble(
            "name", f"{_shown(name)} is not letters, digits, . _ - (80 at most); rename it"
        )
    complete = top.get("complete", True)
    if not isinstance(complete, bool):
        raise Trouble("complete", f"{_shown(complete)} is not true or false; write one of them")
    ids: dict[str, int] = {}
    boxes = tuple(
        _box(box, f"boxes[{i}]", ids) for i, box in enumerate(_list(top, "boxes", 1, MAX_BOXES))
    )
    rooms = tuple(
        _room(room, f"rooms[{i}]") for i, room in enumerate(_list(top, "rooms", 0, MAX_ROOMS))
    )
    doors = tuple(
        _door(door, f"doors[{i}]") for i, door in enumerate(_list(top, "doors", 0, MAX_ROOMS))
    )
    frames = []
    images = []
    places = []
    for i, frame in enumerate(_list(top, "frames", 1, MAX_FRAMES)):
        place = f"frames[{i}]"
        own = _object(frame, place, ("image", "pose", "camera", "visible"))
        image = own.get("image")
        if not isinstance(image, str) or not image:
            raise Trouble(f"{place}.image", f"{_shown(image)} is not a path; name the picture")
        frames.append(_frame(own, place, top.get("camera"), ids))
        images.append(image)
        places.append(place)
    return Pictured(
        name=name,
        scene=Scene(boxes=boxes, frames=tuple(frames), rooms=rooms, doors=doors, complete=complete),
        images=tuple(images),
        places=tuple(places),
    )


def _box(value: object, place: str, ids: dict[str, int]) -> Box:
    own = _object(value, place, ("id", "category", "center", "size", "yaw"))
    label = own.get("id")
    if not isinstance(label, str) or not label:
        raise Trouble(f"{place}.id", f"{_shown(label)} is not a text; give each box its own")
    if label in ids:
        raise Trouble(f"{place}.id", f"{label!r} is that of boxes[{ids[label]}] too; rename one")
    ids[label] = len(ids)
    category = own.get("category")
    if not isinstance(category, str) or not _CATEGORY.fullmatch(category):
        raise Trouble(
            f"{place}.category",
            f"{_shown(category)} is not a word or a few (letters, digits, blanks; 40 at most); "
            "name what the thing is",
        )
    size = _vector(own.get("size"), f"{place}.size")
    if min(size) <= 0:
        raise Trouble(f"{place}.size", f"{list(size)} is not positive; give metres along each axis")
    return Box(
        category=category.lower().replace("_", " "),
        centre=_vector(own.get("center"), f"{place}.center"),
        size=size,
        yaw=_number(own.get("yaw", 0.0), f"{place}.yaw"),
    )


def _room(value: object, place: str) -> tuple[Point, ...]:
    if not isinstance(value, list) or not 3 <= len(value) <= 1000:
        raise Trouble(place, "not a list of 3 to 1000 corners; give the floor's outline")
    corners = tuple(_point(corner, f"{place}[{i}]") for i, corner in enumerate(value))
    area = polygon_area(corners)
    if abs(area) < 0.1:
        raise Trouble(place, f"an area of {abs(area):.3f} m2; give corners in order, in metres")
    return corners if area > 0 else corners[::-1]


def _door(value: object, place: str) -> Door:
    if not isinstance(value, list) or len(value) != 2:
        raise Trouble(place, "not two points; give both ends of the opening on the floor")
    one, two = (_point(end, f"{place}[{i}]") for i, end in enumerate(value))
    if math.dist(one, two) < 0.1:
        raise Trouble(place, "narrower than 0.1 m; give both ends of the opening, in metres")
    return Door(one=one, two=two)


def _frame(own: Mapping[str, object], place: str, shared: object, ids: Mapping[str, int]) -> Frame:
    given = own.get("camera", shared)
    where = f"{place}.camera" if "camera" in own else "camera"
    camera = _object(given, where, ("width", "height", "fx", "fy", "cx", "cy"))
    sides = []
    for name in ("width", "height"):
        side = camera.get(name)
        if not isinstance(side, int) or isinstance(side, bool) or not 1 <= side <= MAX_SIDE:
            raise Trouble(f"{where}.{name}", f"{_shown(side)} is not pixels; give a whole number")
        sides.append(side)
    fx, fy, cx, cy = (_number(camera.get(n), f"{where}.{n}") for n in ("fx", "fy", "cx", "cy"))
    if min(fx, fy) <= 0:
        raise Trouble(where, f"focal lengths {fx}, {fy} are not positive; give pixels")
    rotation, position = _pose(own.get("pose"), f"{place}.pose")
    return Frame(
        width=sides[0],
        height=sides[1],
        fx=fx,
        fy=fy,
        cx=cx,
        cy=cy,
        rotation=rotation,
        position=position,
        sights=_visible(own.get("visible", {}), f"{place}.visible", ids, sides[0] * sides[1]),
    )


def _pose(value: object, place: str) -> tuple[Matrix, Vector]:
    remedy = "give the camera-to-world matrix as four rows of four numbers, or leave the frame out"
    if not isinstance(value, list) or len(value) != 4:
        raise Trouble(place, f"not a 4 x 4 matrix; {remedy}")
    rows = []
    for i, row in enumerate(value):
        if not isinstance(row, list) or len(row) != 4:
            raise Trouble(f"{place}[{i}]", f"not four numbers; {remedy}")
        rows.append([_number(v, f"{place}[{i}][{k}]", remedy) for k, v in enumerate(row)])
    if max(abs(a - b) for a, b in zip(rows[3], (0, 0, 0, 1), strict=True)) > _ROTATION_SLACK:
        raise Trouble(f"{place}[3]", f"not 0, 0, 0, 1; {remedy}")
    r = [row[:3] for row in rows[:3]]
    for i in range(3):
        for k in range(3):
            dot = sum(r[j][i] * r[j][k] for j in range(3))
            if abs(dot - (i == k)) > _ROTATION_SLACK:
                raise Trouble(place, f"its upper left 3 x 3 is no rotation; {remedy}")
    cross = (
        r[1][0] * r[2][1] - r[2][0] * r[1][1],
        r[2][0] * r[0][1] - r[0][0] * r[2][1],
        r[0][0] * r[1][1] - r[1][0] * r[0][1],
    )
    if sum(c * r[i][2] for i, c in enumerate(cross)) < 0:
        raise Trouble(place, f"it mirrors; {remedy}")
    rotation = tuple((row[0], row[1], row[2]) for row in r)
    return rotation, (rows[0][3], rows[1][3], rows[2][3])


def _visible(value: object, place: str, ids: Mapping[str, int], area: int) -> dict[int, Sight]:
    if not isinstance(value, Mapping):
        raise Trouble(place, "not an object of box ids; give {id: {pixels: n}}")
    out = {}
    for label, cell in value.items():
        where = f"{place}.{label}"
        if label not in ids:
            raise Trouble(where, f"no box has this id{_hint(str(label), tuple(ids))}; correct it")
        own = _object(cell, where, ("pixels", "share", "rectangle"))
        pixels = _number(own.get("pixels"), f"{where}.pixels")
        if not 0 <= pixels <= area:
            raise Trouble(f"{where}.pixels", f"{pixels:g} is not within 0 to {area}; correct it")
        share = None
        if "share" in own:
            share = _number(own["share"], f"{where}.share")
            if not 0 <= share <= 1:
                raise Trouble(f"{where}.share", f"{share:g} is not within 0 to 1; correct it")
        rectangle = None
        if "rectangle" in own:
            edges = own["rectangle"]
            if not isinstance(edges, list) or len(edges) != 4:
                raise Trouble(
                    f"{where}.rectangle", "not four numbers; give left, top, right, bottom"
                )
            a, b, c, d = (_number(v, f"{where}.rectangle[{i}]") for i, v in enumerate(edges))
            if not (a < c and b < d):
                raise Trouble(
                    f"{where}.rectangle", "empty; give left, top, right, bottom in pixels"
                )
            rectangle = a, b, c, d
        out[ids[str(label)]] = Sight(pixels=int(pixels), share=share, rectangle=rectangle)
    return out


def _object(value: object, place: str, fields: tuple[str, ...]) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        _fail(place, f"not an object but {_shown(value)}", f"give {', '.join(fields)}")
    for name in value:
        if name not in fields:
            where = f"{place}.{name}" if place else str(name)
            _fail(where, f"no such field{_hint(str(name), fields)}", f"fields: {', '.join(fields)}")
    return value


def _list(top: Mapping[str, object], field: str, least: int, most: int) -> list[object]:
    value = top.get(field, [])
    if not isinstance(value, list) or not least <= len(value) <= most:
        what = f"{len(value)} of them" if isinstance(value, list) else _shown(value)
        raise Trouble(field, f"{what}, not a list of {least} to {most}; correct it")
    return value


def _number(value: object, place: str, remedy: str = "give a finite number") -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Trouble(place, f"{_shown(value)} is not a finite number; {remedy}")
    if abs(value) > 1e9:
        raise Trouble(place, f"{value:g} is beyond any place; give metres or pixels")
    return float(value)


def _point(value: object, place: str) -> Point:
    if not isinstance(value, list) or len(value) != 2:
        raise Trouble(place, f"{_shown(value)} is not two numbers; give x, y in metres")
    return _number(value[0], f"{place}[0]"), _number(value[1], f"{place}[1]")


def _vector(value: object, place: str) -> Vector:
    if not isinstance(value, list) or len(value) != 3:
        raise Trouble(place, f"{_shown(value)} is not three numbers; give x, y, z in metres")
    x, y, z = (_number(v, f"{place}[{i}]") for i, v in enumerate(value))
    return x, y, z


def _fail(place: str, what: str, remedy: str) -> NoReturn:
    raise Trouble(place, f"{what}; {remedy}")


def _shown(value: object) -> str:
    text = repr(value)
    return (
        "nothing"
        if value is None
        else ascii(text[:40])[1:-1]
        if not text.isprintable()
        else text[:40]
    )


def _hint(word: str, names: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, names, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
