"""ObjectCount, ObjectSize, RoomSize of a video."""

from __future__ import annotations

from random import Random

from m2r_train.spatial.geometry import inside
from m2r_train.spatial.margins import Margins
from m2r_train.spatial.scene import Scene, polygon_area
from m2r_train.spatial.tasks.base import Question, clear, metres, nameable, number

_MOST_ROOMS_LISTED = 6


def object_count(scene: Scene, rng: Random, margins: Margins) -> Question | None:
    """A category of two or more, every one of them clearly seen."""
    if not scene.complete:
        return None
    able = [
        category
        for category, own in scene.by_category.items()
        if len(own) >= 2 and all(clear(scene, i, margins) for i in own)
    ]
    if not able:
        return None
    category = rng.choice(able)
    own = scene.by_category[category]
    answer = str(len(own))
    first = [next(k for k, f in enumerate(scene.frames, 1) if i in f.sights) for i in own]
    listed = ", ".join(f"one from frame {k}" for k in sorted(first))
    return number(
        "ObjectCount",
        f"How many {category}(s) are in this room?",
        answer,
        f"I watch for every {category} and count each only once: {listed}. That makes {answer}.",
        unit=None,
        facts={"category": category, "boxes": own},
    )


def object_size(scene: Scene, rng: Random, margins: Margins) -> Question | None:
    """The longest side of the box, to the centimetre."""
    able = nameable(scene, margins)
    if not able:
        return None
    index = rng.choice(able)
    box = scene.boxes[index]
    sides = sorted((round(100 * side) for side in box.size), reverse=True)
    if sides[0] < 1:
        return None
    return number(
        "ObjectSize",
        "What is the length of the longest dimension (length, width, or height) of the "
        f"{box.category}, measured in centimeters?",
        str(sides[0]),
        f"The {box.category} measures about {sides[0]} cm, {sides[1]} cm and {sides[2]} cm along "
        f"its three sides. The longest of them is {sides[0]} cm.",
        unit="cm",
        facts={"box": index, "value": 100 * max(box.size)},
    )


def room_size(scene: Scene, rng: Random, margins: Margins) -> Question | None:
    """Floor area of all rooms; the camera has to stand in each of them once."""
    if not scene.rooms or len(scene.rooms) > _MOST_ROOMS_LISTED:
        return None
    if not all(any(inside(f.position[:2], room) for f in scene.frames) for room in scene.rooms):
        return None
    areas = [abs(polygon_area(room)) for room in scene.rooms]
    answer = metres(scene.area)
    if float(answer) < 1:
        return None
    if len(areas) == 1:
        thought = f"One room is shown. Its floor covers about {answer} square meters."
    else:
        terms = " + ".join(f"{area:.2f}" for area in areas)
        total = sum(round(area, 2) for area in areas)
        if metres(total) != answer:  # the terms' own rounding would show
            return None
        thought = (
            f"{len(areas)} rooms are shown. Their floors add up: {terms} = {total:.2f}, about "
            f"{answer} square meters."
        )
    return number(
        "RoomSize",
        "What is the size of this room (in square meters)? If multiple rooms are shown, estimate "
        "the size of the combined space.",
        answer,
        thought,
        unit="m2",
        facts={"value": scene.area},
    )
