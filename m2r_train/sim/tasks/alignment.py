"""SceneDescription and ObjectLocation: teach a small model where things are, before any reasoning.

They are for supervised training only: without them a small model learns colours but not places.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random

from m2r_train.sim.tasks.base import Question, Stage
from m2r_train.sim.teacher import decimal, places

COLUMN_MARGIN = 2 / 64  # of the picture's side, between neighbours of a list from left to right


def scene_description(stage: Stage, rng: Random) -> Question | None:
    """Everything from left to right; the answer is the order and the columns."""
    order = sorted(range(len(stage.sights)), key=lambda i: stage.sights[i].u)
    across = [stage.sights[i].u for i in order]
    margin = COLUMN_MARGIN * stage.scene.camera.size
    if any(after - before < margin for before, after in pairwise(across)):
        return None
    seen = stage.seen(*order)
    return Question(
        task="SceneDescription",
        text="Describe the objects from left to right.",
        answer=" ".join(f"{solid.label} {sight.column}" for solid, sight in seen),
        answer_type="text",
        reward="exact",
        thought=places(seen),
        subjects=tuple(range(len(order))),
    )


def object_location(stage: Stage, rng: Random) -> Question | None:
    """Column and depth of one thing."""
    names = stage.nameable()
    if not names:
        return None
    chosen = rng.choice(names)
    ((solid, sight),) = seen = stage.seen(chosen)
    return Question(
        task="ObjectLocation",
        text=f"Where is the {solid.name}?",
        answer=f"{sight.column} {decimal(sight.depth)}",
        answer_type="text",
        reward="exact",
        thought=places(seen),
        subjects=(chosen,),
    )
