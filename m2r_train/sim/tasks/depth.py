"""RelativeDepth: which of two things is closer to the camera."""

from __future__ import annotations

import math
from random import Random

from m2r_train.sim.tasks.base import Question, Stage, pair
from m2r_train.sim.teacher import concluded, depths

DEPTH_MARGIN = (1.5, 0.9, 0.5)  # metres by level


def relative_depth(stage: Stage, rng: Random) -> Question | None:
    """By camera-space depth; asked only where the straight-line distance says the same."""
    chosen = pair(stage, rng)
    if chosen is None:
        return None
    (one, here), (two, there) = seen = stage.seen(*chosen)
    if abs(here.depth - there.depth) < DEPTH_MARGIN[stage.level]:
        return None
    nearer = here.depth < there.depth
    if nearer != (math.hypot(here.x, here.depth) < math.hypot(there.x, there.depth)):
        return None
    answer = one.name if nearer else two.name
    return Question(
        task="RelativeDepth",
        text=f"Which is closer to the camera, the {one.name} or the {two.name}?",
        answer=answer,
        answer_type="text",
        reward="exact",
        thought=concluded(depths(seen), answer),
        subjects=chosen,
    )
