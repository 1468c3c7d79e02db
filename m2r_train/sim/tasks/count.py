"""ObjectCount: how many of a colour (solids) or a kind (furniture) are there, 0..4."""

from __future__ import annotations

from random import Random

from m2r_train.sim.tasks.base import Question, Stage
from m2r_train.sim.teacher import columns, concluded


def object_count(stage: Stage, rng: Random) -> Question:
    """Every solid must be visible: a hidden one would make the count wrong."""
    label = stage.focus or rng.choice(stage.labels)
    solids = stage.scene.solids
    found = [i for i in range(len(solids)) if solids[i].label == label]
    found.sort(key=lambda i: stage.sights[i].u)
    answer = str(len(found))
    thing = f"{label}s" if stage.options.furniture else f"{label} objects"
    return Question(
        task="ObjectCount",
        text=f"How many {thing} are in this room?",
        answer=answer,
        answer_type="number",
        reward="exact",
        thought=concluded(columns(stage.seen(*found)) if found else f"no {label}", answer),
        subjects=tuple(range(len(solids))),
    )
