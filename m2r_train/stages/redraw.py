"""Dynamic sampling: prompts whose completions all earn the same are replaced (DAPO, section 3.2).

A group without a signal has no gradient. In rounds, as many further prompts of the same task as
there are such groups are drawn, and take their places; what is left after the last round stays, and
teaches nothing. Further prompts are the curriculum's next, and its next batch goes on behind them.
How many of each task were taken stands in the step's record, so the history that a run resumes with
tells where each task is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from m2r_train.core.records import Sample
from m2r_train.core.schedules import Curriculum
from m2r_train.model.policy import Request
from m2r_train.stages.grpo import Scored

_KEY = "redrawn/"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Draw:
    """A step's prompts with their scored completions, and the spares ``taken`` for it, by task."""

    requests: list[Request | None]  # None: another rank's
    scored: Scored
    taken: dict[str, int] = field(default_factory=dict)

    @property
    def without_signal(self) -> list[int]:
        """Which groups teach nothing."""
        return [i for i, own in enumerate(self.scored.advantages) if not own.has_signal]

    def record(self) -> dict[str, float | int]:
        """What the step's record keeps of the replacements (read back by ``taken_before``)."""
        left = len(self.without_signal) / len(self.requests)
        return {
            "redrawn": sum(self.taken.values()),
            "zero_signal_left": left,
            **{_KEY + task: n for task, n in self.taken.items()},
        }


def taken_before(history: Iterable[Mapping[str, float | int | str]]) -> dict[str, int]:
    """Spares that the steps of a history took, by task."""
    taken: Counter[str] = Counter()
    for record in history:
        for key, value in record.items():
            if key.startswith(_KEY):
                taken[key.removeprefix(_KEY)] += int(value)
    return dict(taken)


def redraw(
    first: Draw,
    rounds: int,
    spare: Callable[[str, int], Sample],
    draw: Callable[[int, Sequence[Sample], Sequence[int]], Draw],
) -> Draw:
    """``first`` with its groups without signal replaced, in at most ``rounds`` rounds.

    ``spare(task, n)`` is the task's nth further sample of this step; ``draw(round, samples,
    places)`` draws and scores for these places, the rounds counted from 1.
    """
    now = first
    for number in range(1, rounds + 1):
        places = now.without_signal
        if not places:
            break
        taken = Counter(now.taken)
        samples = []
        for place in places:
            task = now.scored.samples[place].task
            samples.append(spare(task, taken[task]))
            taken[task] += 1
        now = _replaced(now, places, draw(number, samples, places), dict(taken))
    return now


def spares(
    curriculum: Curriculum, samples: Mapping[str, Sample], step: int, taken: Mapping[str, int]
) -> Callable[[str, int], Sample]:
    """The ``spare`` of a step, after the spares ``taken`` by earlier ones."""
    return lambda task, n: samples[curriculum.spare(step, task, taken.get(task, 0) + n)]


def _replaced(now: Draw, places: Sequence[int], fresh: Draw, taken: dict[str, int]) -> Draw:
    new = {place: i for i, place in enumerate(places)}

    def merged(old: Sequence[_T], other: Sequence[_T]) -> list[_T]:
        return [other[new[i]] if i in new else old[i] for i in range(len(old))]

    one, two = now.scored, fresh.scored
    scored = Scored(
        merged(one.samples, two.samples),
        merged(one.groups, two.groups),
        merged(one.texts, two.texts),
        merged(one.rewards, two.rewards),
        merged(one.advantages, two.advantages),
    )
    return Draw(merged(now.requests, fresh.requests), scored, taken)
