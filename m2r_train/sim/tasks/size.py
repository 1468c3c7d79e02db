"""ObjectSize and RoomSize: metres of a thing, square metres of the floor."""

from __future__ import annotations

from random import Random

from m2r_train.sim.scene import Solid
from m2r_train.sim.tasks.base import Question, Stage
from m2r_train.sim.teacher import concluded, decimal, places


def longest_side(solid: Solid) -> float:
    """The longest side of a solid's oriented box, metres."""
    return max(solid.size)


def object_size(stage: Stage, rng: Random) -> Question | None:
    """The height of a coloured solid, the longest side of a piece of furniture."""
    names = stage.nameable()
    if not names:
        return None
    chosen = rng.choice(names)
    ((solid, _),) = seen = stage.seen(chosen)
    if stage.options.furniture:
        text = f"How many meters is the longest side of the {solid.name}?"
        answer = decimal(longest_side(solid))
    else:
        text = f"How many meters high is the {solid.name}?"
        answer = decimal(solid.height)
    return Question(
        task="ObjectSize",
        text=text,
        answer=answer,
        answer_type="number",
        reward="ednm",
        unit="m",
        thought=concluded(places(seen), answer),
        subjects=(chosen,),
    )


def room_size(stage: Stage, rng: Random) -> Question | None:
    """Floor area in whole square metres; both far corners of the floor must be in view."""
    room, camera = stage.scene.room, stage.scene.camera
    for side in (-0.5, 0.5):
        corner = room.x + side * room.width - camera.x
        if abs(camera.focal * corner / room.depth) > 0.48 * camera.size:
            return None
    answer = str(round(room.area))
    return Question(
        task="RoomSize",
        text="How many square meters is the floor of this room?",
        answer=answer,
        answer_type="number",
        reward="ednm",
        unit="m2",
        thought=concluded(f"width {decimal(room.width)} depth {decimal(room.depth)}", answer),
    )
