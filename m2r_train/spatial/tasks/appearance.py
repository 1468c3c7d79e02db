"""AppearanceOrder: which of four categories comes into a video first, second, third, last."""

from __future__ import annotations

from itertools import pairwise, permutations
from random import Random

from m2r_train.spatial.margins import Margins
from m2r_train.spatial.scene import Scene
from m2r_train.spatial.tasks.base import Question, choice


def first_frame(scene: Scene, category: str, share: float) -> int | None:
    """Number (from 1) of the first frame in which a category covers ``share`` of the pixels."""
    own = scene.by_category[category]
    for k, frame in enumerate(scene.frames, 1):
        pixels = sum(frame.sights[i].pixels for i in own if i in frame.sights)
        if pixels >= share * frame.area:
            return k
    return None


def appearance_order(scene: Scene, rng: Random, margins: Margins) -> Question | None:
    """Asked only if a strict watcher and a sharp-eyed one (two thresholds) say the same order."""
    if not scene.complete:
        return None
    sharp = {c: first_frame(scene, c, margins.unappeared) for c in scene.by_category}
    strict = {c: first_frame(scene, c, margins.appeared) for c in scene.by_category}
    able = [c for c, frame in strict.items() if frame is not None]
    if len(able) < 4:
        return None
    chosen = rng.sample(able, 4)
    order = sorted(chosen, key=lambda c: strict[c] or 0)
    for one, other in pairwise(order):
        # The earlier one is clearly there before a trace of the later one is.
        if (strict[one] or 0) >= (sharp[other] or 0):
            return None
    truth = ", ".join(order)
    others = [", ".join(p) for p in permutations(order) if ", ".join(p) != truth]
    seen = ", ".join(f"the {c} in frame {strict[c]}" for c in order)
    return choice(
        "AppearanceOrder",
        "What will be the first-time appearance order of the following categories in the video: "
        f"{', '.join(chosen)}?",
        truth,
        rng.sample(others, 3),
        rng,
        f"I note when each first comes into view: {seen}. So the order is {truth}.",
        facts={"order": tuple(order)},
    )
