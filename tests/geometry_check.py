"""Answers worked out a second time, by other means than the code that asked.

Distances by sampling points of the boxes' surfaces, areas by scan lines, angles by complex
numbers, routes by walking along them in small steps, places in a picture by a 3 x 4 matrix, who is
seen by rays (``rays_check``). Nothing here is imported from ``m2r_train.spatial.geometry``, and of
a frame nothing is read but its camera.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise, product

import numpy as np
import rays_check

from m2r_train.spatial import Box, Scene
from m2r_train.spatial.tasks import Question

_SAMPLES = 41

# Shares of a picture's pixels. The renderer's polygons are half a pixel wider on each side than
# what rays hit: in pictures of 112 pixels rays see nine tenths of most things, but 0.0017 of a thin
# lamp that covers 0.0043 to it, which is counted, and 0.0006 of a stool behind a chair whose gaps
# it fills, which is not. So the bounds lie between. What has appeared to it covers 0.005, and what
# covers 0.001 has left a trace: between the two nothing is asked.
_SEEN = 0.001
_APPEARED, _UNAPPEARED = 0.0025, 0.0015


def surface(box: Box) -> np.ndarray:
    """Points of a box's outline at bottom and top, by turning a grid (complex numbers)."""
    t = np.linspace(-0.5, 0.5, _SAMPLES)
    half = np.full(_SAMPLES, 0.5)
    rim = np.concatenate([t - 0.5j, t + 0.5j, half + 1j * t, -half + 1j * t])
    flat = (rim.real * box.size[0] + 1j * rim.imag * box.size[1]) * np.exp(1j * box.yaw)
    return flat + complex(box.centre[0], box.centre[1])


def floor_gap(one: Box, other: Box) -> float:
    """Distance of two footprints over sampled outlines, refined around the best pair."""
    a, b = surface(one), surface(other)
    for points, box in ((a, other), (b, one)):
        local = (points - complex(*box.centre[:2])) * np.exp(-1j * box.yaw)
        if ((abs(local.real) <= box.size[0] / 2) & (abs(local.imag) <= box.size[1] / 2)).any():
            return 0.0
    best = math.inf
    for points, box in ((a, other), (b, one)):
        # How far each sampled point is outside of the other box, in that box's own axes.
        local = (points - complex(*box.centre[:2])) * np.exp(-1j * box.yaw)
        out_x = np.clip(abs(local.real) - box.size[0] / 2, 0, None)
        out_y = np.clip(abs(local.imag) - box.size[1] / 2, 0, None)
        best = min(best, float(np.hypot(out_x, out_y).min()))
    return best


def gap(one: Box, other: Box) -> float:
    """Closest distance in space: the floor's and the heights' gaps, from their intervals."""
    low = max(one.centre[2] - one.size[2] / 2, other.centre[2] - other.size[2] / 2)
    high = min(one.centre[2] + one.size[2] / 2, other.centre[2] + other.size[2] / 2)
    return math.hypot(max(0.0, low - high), floor_gap(one, other))


def turn(scene: Scene, at: complex, ahead: complex, target: complex) -> float:
    """Degrees to the left, in the frame of who stands at ``at``: +y is forward (synthesis.md)."""
    local = (target - at) / (ahead - at) * 1j  # forward becomes +y
    return math.degrees(math.atan2(-local.real, local.imag))


def place(scene: Scene, index: int) -> complex:
    if index == -1:
        door = scene.doors[0]
        return (complex(*door.one) + complex(*door.two)) / 2
    return complex(*scene.boxes[index].centre[:2])


def wrong(scene: Scene, question: Question, *, solid: bool = False) -> str | None:
    """Why an answer is wrong; None where it is right. ``solid``: as in ``rays_check.pixels``."""
    check = _CHECKS[re.sub(r"(Easy|Medium|Hard)$", "", question.task)]
    told = question.truth
    found = check(scene, question, solid) if check in _SIGHTS else check(scene, question)
    if isinstance(found, tuple):
        value, slack = found
        return None if abs(float(told) - value) <= slack else f"{told}, not {value:.3f}"
    return None if told == found else f"{told!r}, not {found!r}"


def _named(scene: Scene, category: str) -> list[Box]:
    return [box for box in scene.boxes if box.category == category]


def _object_count(scene: Scene, q: Question) -> tuple[float, float]:
    category = re.search(r"How many (.*)\(s\)", q.text)[1]
    return float(len(_named(scene, category))), 0.0


def _object_size(scene: Scene, q: Question) -> tuple[float, float]:
    category = re.search(r"of the (.*), measured", q.text.split(")", 1)[1])[1]
    (box,) = _named(scene, category)
    corners = surface(box)[[0, _SAMPLES - 1, _SAMPLES, 2 * _SAMPLES - 1]]
    sides = [abs(corners[0] - corners[1]), abs(corners[0] - corners[2]), box.size[2]]
    return 100 * max(sides), 0.5 + 1e-6


def _room_size(scene: Scene, q: Question) -> tuple[float, float]:
    """Even-odd counting of crossings, one scan line at a time."""
    total = 0.0
    for room in scene.rooms:
        ys = [y for _, y in room]
        lines = 4000
        step = (max(ys) - min(ys)) / lines
        for k in range(lines):
            y = min(ys) + (k + 0.5) * step
            cut = sorted(
                a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0])
                for a, b in zip(room, (*room[1:], room[0]), strict=True)
                if (a[1] > y) != (b[1] > y)
            )
            total += step * sum(hi - lo for lo, hi in zip(cut[::2], cut[1::2], strict=True))
    return total, 0.05 + 0.01


def _absolute_distance(scene: Scene, q: Question) -> tuple[float, float]:
    one, other = re.search(r"between the (.*) and the (.*) \(in meters\)", q.text).groups()
    (a,), (b,) = _named(scene, one), _named(scene, other)
    return gap(a, b), 0.05 + 1e-6


def _relative_distance(scene: Scene, q: Question) -> str:
    listed, anchor = re.search(r"objects \((.*)\) is the closest to the (.*)\?", q.text).groups()
    (box,) = _named(scene, anchor)
    return min(listed.split(", "), key=lambda c: min(gap(box, other) for other in _named(scene, c)))


def _relative_direction(scene: Scene, q: Question) -> str:
    p, f, r = re.search(
        r"standing by the (.*) and facing the (.*), is the (.*?) to (?:the left|my)", q.text
    ).groups()
    at, ahead, target = (complex(*_named(scene, c)[0].centre[:2]) for c in (p, f, r))
    angle = turn(scene, at, ahead, target)
    side = "left" if angle > 0 else "right"
    if q.task.endswith("Easy"):
        return side
    if q.task.endswith("Medium"):
        return "back" if abs(angle) >= 135 else side
    local = (target - at) / (ahead - at) * 1j
    return f"{'front' if local.imag > 0 else 'back'}-{'left' if local.real < 0 else 'right'}"


def _appearance_order(scene: Scene, q: Question, solid: bool) -> str:
    """Each is there, to a strict eye, before a sharp one sees the next."""
    categories = re.search(r"in the video: (.*)\?", q.text)[1].split(", ")
    shown = {category: np.zeros(len(scene.frames)) for category in categories}
    for k, frame in enumerate(scene.frames):
        for i, n in rays_check.pixels(scene, k, solid=solid).items():
            if (category := scene.boxes[i].category) in shown:
                shown[category][k] += n / (frame.width * frame.height)
    if not all((own >= _APPEARED).any() for own in shown.values()):
        return "never seen"
    strict = {category: int(np.argmax(own >= _APPEARED)) for category, own in shown.items()}
    sharp = {category: int(np.argmax(own >= _UNAPPEARED)) for category, own in shown.items()}
    order = sorted(categories, key=strict.__getitem__)
    if any(strict[one] >= sharp[other] for one, other in pairwise(order)):
        return f"doubtful ({strict}, {sharp})"
    return ", ".join(order)


def _route_plan(scene: Scene, q: Question) -> str:
    start, facing, end = re.search(
        r"beginning at the (.*) facing the (.*?)\. You want to navigate to the (.*?)\. You will",
        q.text,
    ).groups()
    stops = [start, *re.findall(r"Go forward until the (.*?)\.", q.text)]
    assert stops[-1] == end
    spots = [
        place(scene, -1) if c == "door" else complex(*_named(scene, c)[0].centre[:2]) for c in stops
    ]
    ahead = complex(*_named(scene, facing)[0].centre[:2])
    turns = []
    for one, other in pairwise(spots):
        if not _free(scene, one, other, {*stops}):
            return "no walk"
        angle = turn(scene, one, ahead, other)
        if abs(angle) < 45:
            return "straight on"
        word = "Back" if abs(angle) > 135 else "Left" if angle > 0 else "Right"
        turns.append(f"Turn {word}")
        ahead = other + (other - one)
    return ", ".join(turns)


def _free(scene: Scene, a: complex, b: complex, ends: set[str]) -> bool:
    """Whether points along the way are clear of boxes, and of walls away from doors."""
    way = a + (b - a) * np.linspace(0, 1, 400)
    for box in scene.boxes:
        if box.category in ends or box.bottom >= 1.5 or box.top <= 0.1:
            continue
        local = (way - complex(*box.centre[:2])) * np.exp(-1j * box.yaw)
        if ((abs(local.real) < box.size[0] / 2) & (abs(local.imag) < box.size[1] / 2)).any():
            return False

    def rooms_at(p: complex) -> set[int]:
        return {
            k
            for k, room in enumerate(scene.rooms)
            if min(x for x, _ in room) <= p.real <= max(x for x, _ in room)
            and min(y for _, y in room) <= p.imag <= max(y for _, y in room)
        }

    before = rooms_at(complex(way[0]))
    for p in way[1:]:
        here = rooms_at(complex(p))
        if not here:
            return False
        if before and here != before:  # a wall is crossed here
            near = min(
                abs(p - (complex(*d.one) + t * (complex(*d.two) - complex(*d.one))))
                for d, t in product(scene.doors, np.linspace(0, 1, 41))
            )
            if near > 0.1:
                return False
        before = here
    return True


def _count(scene: Scene, q: Question, solid: bool) -> str:
    area = scene.frames[0].width * scene.frames[0].height
    shown = rays_check.pixels(scene, 0, solid=solid)
    named = [i for i, box in enumerate(scene.boxes) if box.category == q.facts["category"]]
    return str(sum(shown.get(i, 0) >= _SEEN * area for i in named))


def _relation(scene: Scene, q: Question) -> str:
    """Of the boxes projected by a 3 x 4 matrix; the rendered rectangles hold what is seen."""
    a, b = q.facts["boxes"]
    first, second = (_middle(scene, i) for i in (a, b))
    if q.options and "left" in q.options:
        return "left" if first[0] < second[0] else "right"
    return "above" if first[1] < second[1] else "below"


def _middle(scene: Scene, index: int) -> np.ndarray:
    frame, box = scene.frames[0], scene.boxes[index]
    r, t = np.array(frame.rotation), np.array(frame.position)
    k = np.array([[frame.fx, 0, frame.cx], [0, frame.fy, frame.cy], [0, 0, 1]])
    matrix = k @ np.concatenate([r.T, -(r.T @ t)[:, None]], axis=1)
    rim = surface(box)
    points = np.array([(p.real, p.imag, z, 1) for p in rim for z in (box.bottom, box.top)])
    seen = points @ matrix.T
    pixels = seen[:, :2] / seen[:, 2:]
    return (pixels.min(axis=0) + pixels.max(axis=0)) / 2


def _depth(scene: Scene, q: Question) -> str:
    forward = np.array(scene.frames[0].rotation)[:, 2]
    eye = np.array(scene.frames[0].position)
    names = re.search(r"photo, the (.*) \(highlighted.*or the (.*) \(high", q.text).groups()
    far = [float(forward @ (np.array(scene.boxes[i].centre) - eye)) for i in q.facts["boxes"]]
    return names[int(far[1] < far[0])]


def _distance(scene: Scene, q: Question) -> str:
    anchor, a, b = (np.array(scene.boxes[i].centre) for i in q.facts["boxes"])
    names = re.search(r"box\), the (.*) \(highlighted.*or the (.*) \(high", q.text).groups()
    return names[int(np.linalg.norm(b - anchor) < np.linalg.norm(a - anchor))]


_CHECKS = {
    "ObjectCount": _object_count,
    "ObjectSize": _object_size,
    "RoomSize": _room_size,
    "AbsoluteDistance": _absolute_distance,
    "RelativeDistance": _relative_distance,
    "RelativeDirection": _relative_direction,
    "AppearanceOrder": _appearance_order,
    "RoutePlan": _route_plan,
    "Count": _count,
    "Relation": _relation,
    "Depth": _depth,
    "Distance": _distance,
}
_SIGHTS = (_appearance_order, _count)
