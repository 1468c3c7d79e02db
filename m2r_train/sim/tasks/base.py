"""What a task is: a scene it would like, and a question about a scene, or None if ambiguous."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from m2r_train.core.records import AnswerType, RewardKind
from m2r_train.sim.camera import Sight, look
from m2r_train.sim.options import SimOptions
from m2r_train.sim.scene import Scene, Solid


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question with its only answer; ``subjects`` are the solids that must be visible."""

    task: str
    text: str
    answer: str
    answer_type: AnswerType
    reward: RewardKind
    thought: str
    subjects: tuple[int, ...] = ()
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """A scene as the tasks read it: sights alongside solids, and the level of difficulty.

    ``level`` 0, 1, 2 is two, three, four or more solids; margins shrink with it. ``focus`` is
    the label that the scene was drawn around, if any; ``labels`` are all labels of its style.
    """

    scene: Scene
    sights: tuple[Sight, ...]
    labels: tuple[str, ...]
    options: SimOptions
    focus: str | None = None

    @classmethod
    def of(
        cls, scene: Scene, labels: tuple[str, ...], options: SimOptions, focus: str | None = None
    ) -> Stage:
        """The stage of a scene."""
        return cls(scene, look(scene), labels, options, focus)

    @property
    def level(self) -> int:
        """Difficulty 0..2."""
        return min(2, max(0, len(self.scene.solids) - 2))

    def seen(self, *indices: int) -> list[tuple[Solid, Sight]]:
        """Solids with their sights, in the order asked for."""
        return [(self.scene.solids[i], self.sights[i]) for i in indices]

    def nameable(self) -> list[int]:
        """Solids that their label tells apart from all others."""
        count = Counter(solid.label for solid in self.scene.solids)
        return [i for i, solid in enumerate(self.scene.solids) if count[solid.label] == 1]


Ask = Callable[[Stage, Random], Question | None]


@dataclass(frozen=True, slots=True)
class Task:
    """``ask`` makes a question; ``solids`` is the fewest that it needs; ``repeats`` says whether
    several solids of its scene may carry the same label."""

    ask: Ask
    solids: int = 2
    repeats: bool = False


def pair(stage: Stage, rng: Random) -> tuple[int, int] | None:
    """Two different nameable solids in random order."""
    names = stage.nameable()
    if len(names) < 2:
        return None
    one, two = rng.sample(names, 2)
    return one, two
