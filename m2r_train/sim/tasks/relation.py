"""RelationHorizontal and RelationVertical: where is one thing in the picture, seen from another."""

from __future__ import annotations

from random import Random

from m2r_train.sim.tasks.base import Question, Stage, pair
from m2r_train.sim.teacher import columns, concluded, rows

# By level, as shares of the picture's side: 20, 12, 7 and 14, 10, 7 pixels of 64. All are more
# than a tenth, so the two columns (rows) of the chain always differ.
HORIZONTAL_MARGIN = (20 / 64, 12 / 64, 7 / 64)
VERTICAL_MARGIN = (14 / 64, 10 / 64, 7 / 64)


def relation_horizontal(stage: Stage, rng: Random) -> Question | None:
    """Left or right, by the centres of the two rectangles."""
    chosen = pair(stage, rng)
    if chosen is None:
        return None
    (one, here), (two, there) = seen = stage.seen(*chosen)
    if abs(here.u - there.u) < HORIZONTAL_MARGIN[stage.level] * stage.scene.camera.size:
        return None
    answer = "left" if here.u < there.u else "right"
    return Question(
        task="RelationHorizontal",
        text=f"Is the {one.name} to the left or right of the {two.name}?",
        answer=answer,
        answer_type="text",
        reward="exact",
        thought=concluded(columns(seen), answer),
        subjects=chosen,
    )


def relation_vertical(stage: Stage, rng: Random) -> Question | None:
    """Above or below, by the centres of the two rectangles."""
    chosen = pair(stage, rng)
    if chosen is None:
        return None
    (one, here), (two, there) = seen = stage.seen(*chosen)
    if abs(here.v - there.v) < VERTICAL_MARGIN[stage.level] * stage.scene.camera.size:
        return None
    answer = "above" if here.v < there.v else "below"
    return Question(
        task="RelationVertical",
        text=f"Is the {one.name} above or below the {two.name} in the image?",
        answer=answer,
        answer_type="text",
        reward="exact",
        thought=concluded(rows(seen), answer),
        subjects=chosen,
    )
