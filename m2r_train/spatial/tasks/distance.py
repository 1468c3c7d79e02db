"""AbsoluteDistance and RelativeDistance of a video: between the closest points of boxes."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from m2r_train.spatial.geometry import box_distance
from m2r_train.spatial.margins import Margins
from m2r_train.spatial.scene import Scene
from m2r_train.spatial.tasks.base import Question, choice, clear, metres, nameable, number


def absolute_distance(scene: Scene, rng: Random, margins: Margins) -> Question | None:
    """Metres with one decimal between two things that are alone in their category."""
    able = nameable(scene, margins)
    if len(able) < 2:
        return None
    a, b = rng.sample(able, 2)
    one, other = scene.boxes[a], scene.boxes[b]
    value = box_distance(one, other)
    if value < margins.least_distance:
        return None
    answer = metres(value)
    return number(
        "AbsoluteDistance",
        "Measuring from the closest point of each object, what is the direct distance between the "
        f"{one.category} and the {other.category} (in meters)?",
        answer,
        f"I find the {one.category} and the {other.category}, and take the points of them that are "
        f"closest to each other. The gap between these is about {answer} m.",
        unit="m",
        facts={"boxes": (a, b), "value": value},
    )


def relative_distance(scene: Scene, rng: Random, margins: Margins) -> Question | None:
    """The closest of four categories (by its closest instance) to an anchor.

    Any two candidates differ by ``margins.candidates``, the two closest by ``margins.distance``.
    """
    anchors = nameable(scene, margins)
    if not anchors:
        return None
    anchor = rng.choice(anchors)
    name = scene.boxes[anchor].category
    able = [
        category
        for category, own in scene.by_category.items()
        if category != name and all(clear(scene, i, margins) for i in own)
    ]
    if len(able) < 4:
        return None
    chosen = rng.sample(able, 4)
    gaps = {
        category: min(
            box_distance(scene.boxes[i], scene.boxes[anchor]) for i in scene.by_category[category]
        )
        for category in chosen
    }
    order = sorted(chosen, key=lambda category: gaps[category])
    if gaps[order[1]] - gaps[order[0]] < margins.distance:
        return None
    if any(gaps[b] - gaps[a] < margins.candidates for a, b in pairwise(order)):
        return None
    measured = ", ".join(f"the {category} {metres(gaps[category])} m" for category in chosen)
    return choice(
        "RelativeDistance",
        "Measuring from the closest point of each object, which of these objects "
        f"({', '.join(chosen)}) is the closest to the {name}?",
        order[0],
        order[1:],
        rng,
        f"From the closest point of the {name} I estimate: {measured}. The smallest is that of the "
        f"{order[0]}.",
        facts={"anchor": anchor, "categories": tuple(chosen)},
    )
