"""AbsoluteDistance and RelativeDistance: metres between two things, and which of two is nearer."""

from __future__ import annotations

from random import Random

from m2r_train.sim.geometry import centre_distance, closest_distance
from m2r_train.sim.scene import Solid
from m2r_train.sim.tasks.base import Question, Stage, pair
from m2r_train.sim.teacher import concluded, decimal, points

DISTANCE_MARGIN = (0.8, 0.5, 0.3)  # metres by level, between the two candidates


def separation(stage: Stage, one: Solid, two: Solid) -> float:
    """Metres between two solids by the measure that the options name."""
    measure = closest_distance if stage.options.distance == "closest" else centre_distance
    return measure(one, two)


def absolute_distance(stage: Stage, rng: Random) -> Question | None:
    """Metres with one decimal; the question says from where it is measured."""
    chosen = pair(stage, rng)
    if chosen is None:
        return None
    (one, _), (two, _) = seen = stage.seen(*chosen)
    answer = decimal(separation(stage, one, two))
    ends = "closest points" if stage.options.distance == "closest" else "centers"
    return Question(
        task="AbsoluteDistance",
        text=f"How many meters are between the {ends} of the {one.name} and the {two.name}?",
        answer=answer,
        answer_type="number",
        reward="ednm",
        unit="m",
        thought=concluded(points(seen), answer),
        subjects=chosen,
    )


def relative_distance(stage: Stage, rng: Random) -> Question | None:
    """Which of two is closer to an anchor; needs three nameable solids."""
    names = stage.nameable()
    if len(names) < 3:
        return None
    chosen = tuple(rng.sample(names, 3))
    (anchor, _), (one, _), (two, _) = stage.seen(*chosen)
    first, second = separation(stage, one, anchor), separation(stage, two, anchor)
    if abs(first - second) < DISTANCE_MARGIN[stage.level]:
        return None
    answer = one.name if first < second else two.name
    thought = (
        f"{one.label} to {anchor.label} {decimal(first)}"
        f" {two.label} to {anchor.label} {decimal(second)}"
    )
    return Question(
        task="RelativeDistance",
        text=f"Which is closer to the {anchor.name}, the {one.name} or the {two.name}?",
        answer=answer,
        answer_type="text",
        reward="exact",
        thought=concluded(thought, answer),
        subjects=chosen,
    )
