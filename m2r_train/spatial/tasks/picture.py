"""Count, Relation, Depth and Distance of a single picture, as CV-Bench asks them.

They read the scene's first frame. A thing asked about is wholly in the picture and hardly hidden.
"""

from __future__ import annotations

import math
from collections import Counter
from random import Random

from m2r_train.spatial.margins import Margins
from m2r_train.spatial.scene import Scene, Sight
from m2r_train.spatial.tasks.base import Question, choice, metres

_COUNTED_MOST = 8


def plain(scene: Scene, margins: Margins) -> list[int]:
    """Boxes alone in their category among those of which the picture shows anything, and plain to
    see in it."""
    frame = scene.frames[0]
    seen = Counter(scene.boxes[i].category for i in frame.sights)
    return [
        i
        for i, sight in frame.sights.items()
        if seen[scene.boxes[i].category] == 1 and _whole(sight, frame.area, margins)
    ]


def _whole(sight: Sight, area: int, margins: Margins) -> bool:
    shown = sight.pixels >= margins.seen * area and sight.rectangle is not None
    return shown and (sight.share or 0.0) >= margins.image_share


def count(scene: Scene, rng: Random, margins: Margins) -> Question | None:
    """Instances of a category; none of it is so small or so hidden that one could argue."""
    frame = scene.frames[0]
    if not scene.complete:
        return None
    found: dict[str, int] = {}
    for category, own in scene.by_category.items():
        shown = [i for i in own if i in frame.sights]
        doubtful = [i for i in shown if not _whole(frame.sights[i], frame.area, margins)]
        if not doubtful:
            found[category] = len(shown)
    able = [c for c, n in found.items() if 1 <= n <= _COUNTED_MOST]
    if not able:
        return None
    # As likely one as several: rooms hold one of most things.
    several = [c for c in able if found[c] > 1]
    category = rng.choice(several if several and rng.random() < 0.7 else able)
    n = found[category]
    near = [k for k in range(max(0, n - 3), n + 4) if k != n]
    others = [str(k) for k in rng.sample(near, 3)]
    return choice(
        "Count",
        f"How many {plural(category)} are in the image?",
        str(n),
        others,
        rng,
        f"I look for every {category} in the image and find {n}.",
        facts={"category": category, "value": n},
    )


def relation(scene: Scene, rng: Random, margins: Margins) -> Question | None:
    """Left or right, above or below, by the middles of the two rectangles in the picture."""
    pair = _pick(scene, rng, margins, 2)
    if pair is None:
        return None
    a, b = pair
    frame = scene.frames[0]
    one, other = frame.sights[a].rectangle, frame.sights[b].rectangle
    assert one is not None
    assert other is not None
    level = rng.random() < 0.5
    side = frame.width if level else frame.height
    k = 0 if level else 1
    first, second = (one[k] + one[k + 2]) / 2, (other[k] + other[k + 2]) / 2
    if abs(first - second) < margins.relation * side:
        return None
    words = ("left", "right") if level else ("above", "below")
    truth, wrong = words if first < second else words[::-1]
    x, y = scene.boxes[a].category, scene.boxes[b].category
    unit = "across" if level else "down"
    return choice(
        "Relation",
        f"Considering the relative positions of the {x} and the {y} in the image provided, where "
        f"is the {x} located with respect to the {y}?",
        truth,
        [wrong],
        rng,
        f"The middle of the {x} is at {100 * first / side:.0f} percent {unit}, that of the {y} at "
        f"{100 * second / side:.0f} percent. So the {x} is {truth}.",
        facts={"boxes": (a, b), "level": level},
    )


def depth(scene: Scene, rng: Random, margins: Margins) -> Question | None:
    """Closer to the camera by depth; asked only where the nearest corners say the same."""
    pair = _pick(scene, rng, margins, 2)
    if pair is None:
        return None
    frame = scene.frames[0]
    a, b = pair
    depths = [frame.to_camera(scene.boxes[i].centre)[2] for i in pair]
    nearest = [min(frame.to_camera(c)[2] for c in scene.boxes[i].corners) for i in pair]
    straight = [math.dist(frame.position, scene.boxes[i].centre) for i in pair]
    if abs(depths[0] - depths[1]) < margins.depth:
        return None
    first = depths[0] < depths[1]
    if first != (nearest[0] < nearest[1]) or first != (straight[0] < straight[1]):
        return None
    x, y = scene.boxes[a].category, scene.boxes[b].category
    truth, wrong = (x, y) if first else (y, x)
    return choice(
        "Depth",
        f"Which object is closer to the camera taking this photo, the {x} (highlighted by a red "
        f"box) or the {y} (highlighted by a blue box)?",
        truth,
        [wrong],
        rng,
        f"The {x} in the red box is about {metres(depths[0])} m away, the {y} in the blue box "
        f"{metres(depths[1])} m. The {truth} is closer.",
        marks=((a, "red"), (b, "blue")),
        facts={"boxes": pair},
    )


def distance(scene: Scene, rng: Random, margins: Margins) -> Question | None:
    """Closer to an anchor, centre to centre in space."""
    three = _pick(scene, rng, margins, 3)
    if three is None:
        return None
    anchor, a, b = three
    centre = scene.boxes[anchor].centre
    gaps = [math.dist(centre, scene.boxes[i].centre) for i in (a, b)]
    if abs(gaps[0] - gaps[1]) < margins.distance:
        return None
    name, x, y = (scene.boxes[i].category for i in three)
    truth, wrong = (x, y) if gaps[0] < gaps[1] else (y, x)
    return choice(
        "Distance",
        "Estimate the real-world distances between objects in this image. Which object is closer "
        f"to the {name} (highlighted by a red box), the {x} (highlighted by a blue box) or the {y} "
        "(highlighted by a green box)?",
        truth,
        [wrong],
        rng,
        f"From the {name} it is about {metres(gaps[0])} m to the {x} and {metres(gaps[1])} m to "
        f"the {y}. The {truth} is closer.",
        marks=((anchor, "red"), (a, "blue"), (b, "green")),
        facts={"boxes": three},
    )


def _pick(scene: Scene, rng: Random, margins: Margins, wanted: int) -> tuple[int, ...] | None:
    able = plain(scene, margins)
    return tuple(rng.sample(able, wanted)) if len(able) >= wanted else None


def plural(word: str) -> str:
    """The plural of a category's name by the regular rules of English."""
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return f"{word[:-1]}ies"
    if word.endswith("lf"):
        return f"{word[:-1]}ves"
    return f"{word}s"
