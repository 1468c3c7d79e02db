"""RelativeDirection of a video: three levels of the same question."""

from __future__ import annotations

import math
from random import Random

from m2r_train.spatial.geometry import bearing
from m2r_train.spatial.margins import Margins
from m2r_train.spatial.scene import Scene
from m2r_train.spatial.tasks.base import Question, choice, nameable

BACK_DEGREES = 135.0
# Degrees at which a level's answer changes.
_BORDERS = {
    "Easy": (0.0, 180.0),
    "Medium": (0.0, BACK_DEGREES, -BACK_DEGREES),
    "Hard": (0.0, 90.0, -90.0, 180.0),
}
_OPTIONS = {
    "Easy": ("left", "right"),
    "Medium": ("left", "right", "back"),
    "Hard": ("front-left", "front-right", "back-left", "back-right"),
}


def direction_easy(scene: Scene, rng: Random, margins: Margins) -> Question | None:
    """Left or right."""
    return _direction(scene, rng, margins, "Easy")


def direction_medium(scene: Scene, rng: Random, margins: Margins) -> Question | None:
    """Left, right or back."""
    return _direction(scene, rng, margins, "Medium")


def direction_hard(scene: Scene, rng: Random, margins: Margins) -> Question | None:
    """One of four quadrants."""
    return _direction(scene, rng, margins, "Hard")


def _class_of(angle: float, level: str) -> str:
    side = "left" if angle > 0 else "right"
    if level == "Easy":
        return side
    if level == "Medium":
        return "back" if abs(angle) >= BACK_DEGREES else side
    return f"{'front' if abs(angle) < 90 else 'back'}-{side}"


def _direction(scene: Scene, rng: Random, margins: Margins, level: str) -> Question | None:
    able = nameable(scene, margins)
    if len(able) < 3:
        return None
    p, f, q = rng.sample(able, 3)
    at, facing, target = (scene.boxes[i].place for i in (p, f, q))
    if min(math.dist(at, facing), math.dist(at, target)) < margins.observer:
        return None
    angle = bearing(at, facing, target)
    near = min(abs((angle - border + 180) % 360 - 180) for border in _BORDERS[level])
    if near < margins.angle:
        return None
    standing, ahead, asked = (scene.boxes[i].category for i in (p, f, q))
    start = f"If I am standing by the {standing} and facing the {ahead}, is the {asked} to "
    ask = {
        "Easy": f"the left or the right of the {ahead}?",
        "Medium": (
            "my left, right, or back? An object is to my back if I would have to turn at least 135 "
            "degrees in order to face it."
        ),
        "Hard": (
            "my front-left, front-right, back-left, or back-right? The directions refer to the "
            "quadrants of a Cartesian plane (if I am standing at the origin and facing along the "
            "positive y-axis)."
        ),
    }
    truth = _class_of(angle, level)
    turn = f"{abs(angle):.0f} degrees to the {'left' if angle > 0 else 'right'}"
    return choice(
        f"RelativeDirection{level}",
        start + ask[level],
        truth,
        [option for option in _OPTIONS[level] if option != truth],
        rng,
        f"I stand by the {standing} and look at the {ahead}. To face the {asked} I turn about "
        f"{turn}. So it is {truth}.",
        facts={"boxes": (p, f, q), "angle": angle},
    )
