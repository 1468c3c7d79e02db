"""What a question is, and what may be asked about."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from m2r_train.core.records import AnswerType, RewardKind
from m2r_train.spatial.margins import Margins
from m2r_train.spatial.scene import Scene

Mark = tuple[int, str]  # a box to be drawn around a thing: its index, and the colour


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question with its only answer.

    ``facts`` is what it is about, for who checks it by other means: indices of boxes, the value
    before rounding. ``marks`` are drawn onto the picture.
    """

    task: str
    text: str
    answer: str
    answer_type: AnswerType
    reward: RewardKind
    thought: str
    options: tuple[str, ...] | None = None
    unit: str | None = None
    marks: tuple[Mark, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def truth(self) -> str:
        """The answer in words: the text of the right option, or the number."""
        if self.options is None:
            return self.answer
        return self.options[string.ascii_uppercase.index(self.answer)]


Ask = Callable[[Scene, Random, Margins], Question | None]


def choice(
    task: str,
    text: str,
    truth: str,
    others: Sequence[str],
    rng: Random,
    thought: str,
    *,
    marks: tuple[Mark, ...] = (),
    facts: dict[str, Any],
) -> Question:
    """A question with options in random order."""
    options = [truth, *others]
    rng.shuffle(options)
    letter = string.ascii_uppercase[options.index(truth)]
    return Question(
        task=task,
        text=text,
        answer=letter,
        answer_type="choice",
        reward="exact",
        thought=f"{thought} That is option {letter}.",
        options=tuple(options),
        marks=marks,
        facts=facts,
    )


def number(
    task: str, text: str, answer: str, thought: str, *, unit: str | None, facts: dict[str, Any]
) -> Question:
    """A question with a number, scored by EDNM."""
    return Question(
        task=task,
        text=text,
        answer=answer,
        answer_type="number",
        reward="ednm",
        thought=thought,
        unit=unit,
        facts=facts,
    )


def clear(scene: Scene, index: int, margins: Margins) -> bool:
    """Whether some frame shows enough of a box to judge it by."""
    if scene.most_seen(index) < margins.seen:
        return False
    return scene.best_share(index) >= margins.share


def nameable(scene: Scene, margins: Margins) -> list[int]:
    """Boxes that are alone in their category and clearly seen."""
    return [i for i in scene.unique if clear(scene, i, margins)]


def metres(value: float) -> str:
    """One decimal, never "-0.0"."""
    return f"{round(value, 1) + 0.0:.1f}"
