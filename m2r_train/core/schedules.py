"""What depends on the step alone: learning rate, KL coefficient and the curriculum.

All are pure functions of the global step (and the seed), so a resumed run needs none of them saved.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import Literal

from m2r_train.api.errors import DataError
from m2r_train.core.rng import derive_seed

KlSchedule = Literal["Constant", "Linear", "Cosine"]
LearningRateSchedule = Literal["Constant", "Linear", "Cosine", "Wsd"]
Order = Literal["Ascending", "Shuffled", "Descending"]
TaskSampling = Literal["Uniform", "Proportional"]
BatchTasks = Literal["One", "Mixed"]

_NOTHING: Mapping[str, int] = MappingProxyType({})


def cosine_kl(t: int, T: int, start: float, end: float) -> float:
    """KL coefficient at step t of T (Eq. 7): from ``start`` at 0 to ``end`` at T, clamped beyond.

    t is the global step: after a resume it goes on, it does not start again.
    """
    if T <= 0:
        return end
    progress = min(max(t / T, 0.0), 1.0)
    return end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * progress))


def kl_coefficient(step: int, total: int, start: float, end: float, schedule: KlSchedule) -> float:
    """KL coefficient by its schedule: Eq. 7, a straight line, or ``start`` throughout."""
    if schedule == "Constant":
        return start
    if schedule == "Cosine":
        return cosine_kl(step, total, start, end)
    return start + (end - start) * min(max(step / total, 0.0), 1.0) if total > 0 else end


def learning_rate(
    step: int,
    total: int,
    base: float,
    warmup: int = 0,
    schedule: LearningRateSchedule = "Cosine",
    min_ratio: float = 0.0,
    decay_ratio: float = 0.1,
) -> float:
    """Learning rate of step 0..total: linear warm-up, then constant, linear or cosine decay.

    Wsd (warm-up, stable, decay; arXiv 2404.06395) stays at base and goes down in a straight line
    over the last ``decay_ratio * total`` steps, which begin after the warm-up at the earliest.

    ``warmup`` is in steps; warm-up step s has base * (s + 1) / (warmup + 1), so that no step is
    wasted on a rate of 0. The decay goes from base at ``warmup`` to base * min_ratio at ``total``.
    """
    if step < warmup:
        return base * (step + 1) / (warmup + 1)
    if schedule == "Constant":
        return base
    begin = max(warmup, total - round(decay_ratio * total)) if schedule == "Wsd" else warmup
    progress = min(max(step - begin, 0) / max(total - begin, 1), 1.0)
    left = 0.5 * (1.0 + math.cos(math.pi * progress)) if schedule == "Cosine" else 1.0 - progress
    return base * (min_ratio + (1.0 - min_ratio) * left)


class Curriculum:
    """Which samples each step trains on (rewards.md section 9): `batch` is pure in (seed, step).

    ``tasks`` maps a task to its (sample id, difficulty 0..1 or None). Within a task, samples come
    by difficulty, Ascending or Descending, unknown difficulty last, ties by a seeded hash of the
    id; Shuffled is by that hash alone. With ``batch_tasks`` One a step's samples are of one task,
    drawn anew at each step: Uniform over the tasks, or Proportional to their samples; Mixed draws
    the task of every single sample so. A task goes on from where its last draw ended, and starts
    again when it is through. Nothing is state: positions are counted from the draws of the earlier
    steps, and the counts kept in memory only save time. Where steps took further samples of a task
    (`spare`), the caller says how many, ``taken`` by task, before the step in question.

    Raises DataError for a task without samples, an id twice in a task, a difficulty outside 0..1.
    """

    def __init__(
        self,
        tasks: Mapping[str, Iterable[tuple[str, float | None]]],
        *,
        batch_size: int,
        seed: int,
        order: Order = "Ascending",
        task_sampling: TaskSampling = "Uniform",
        batch_tasks: BatchTasks = "One",
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"a batch needs one sample or more, got {batch_size}")
        if not tasks:
            raise DataError("curriculum: the dataset has no samples; check its split and filters")
        # Sorted, so that the order of a mapping (that is, of files) does not change a run.
        self._names = sorted(tasks)
        self._samples = {
            name: _ordered(name, list(tasks[name]), order, seed) for name in self._names
        }
        sizes = [
            len(self._samples[name]) if task_sampling == "Proportional" else 1
            for name in self._names
        ]
        self._cumulative = list(accumulate(sizes))
        self._batch_size = batch_size
        self._seed = seed
        self._mixed = batch_tasks == "Mixed"
        # Draw d chose a task; _drawn_at[task] lists its draws in ascending order.
        self._draws: list[str] = []
        self._drawn_at: dict[str, list[int]] = {name: [] for name in self._names}

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks' names, sorted."""
        return tuple(self._names)

    def batch(self, step: int, taken: Mapping[str, int] = _NOTHING) -> list[str]:
        """The ids of ``batch_size`` samples for a step, in curriculum order within each task."""
        return [id_ for _, id_ in self.batch_with_tasks(step, taken)]

    def batch_with_tasks(
        self, step: int, taken: Mapping[str, int] = _NOTHING
    ) -> list[tuple[str, str]]:
        """(task, id) of each sample of a step."""
        self._draw_until(step + 1)
        if self._mixed:
            draws = range(step * self._batch_size, (step + 1) * self._batch_size)
            return [
                self._at(task, taken.get(task, 0) + bisect_left(self._drawn_at[task], d))
                for d, task in ((d, self._draws[d]) for d in draws)
            ]
        task = self._draws[step]
        start = self._position(task, step) + taken.get(task, 0)
        return [self._at(task, start + i) for i in range(self._batch_size)]

    def spare(self, step: int, task: str, taken: int) -> str:
        """The id of the sample that ``task`` presents after those of ``step``.

        ``taken`` are the task's spares so far, of the earlier steps and of this one.
        """
        self._draw_until(step + 1)
        return self._at(task, self._position(task, step + 1) + taken)[1]

    def current_difficulty(
        self, task: str, step: int, taken: Mapping[str, int] = _NOTHING
    ) -> float | None:
        """Difficulty of the sample that ``task`` presents next at ``step``; None if unknown."""
        self._draw_until(step)
        samples = self._samples[task]
        return samples[(self._position(task, step) + taken.get(task, 0)) % len(samples)][1]

    def _at(self, task: str, position: int) -> tuple[str, str]:
        samples = self._samples[task]
        return task, samples[position % len(samples)][0]

    def _position(self, task: str, step: int) -> int:
        """Samples of a task that the steps before ``step`` took."""
        if self._mixed:
            return bisect_left(self._drawn_at[task], step * self._batch_size)
        return bisect_left(self._drawn_at[task], step) * self._batch_size

    def _draw_until(self, steps: int) -> None:
        """Extends the record of draws to cover the first ``steps`` steps."""
        wanted = steps * (self._batch_size if self._mixed else 1)
        for draw in range(len(self._draws), wanted):
            point = derive_seed(self._seed, "curriculum.task", draw) % self._cumulative[-1]
            task = self._names[bisect_right(self._cumulative, point)]
            self._drawn_at[task].append(draw)
            self._draws.append(task)


def _ordered(
    task: str, samples: Sequence[tuple[str, float | None]], order: Order, seed: int
) -> list[tuple[str, float | None]]:
    if not samples:
        raise DataError(f"curriculum: task {task} has no samples; drop the task or its filter")
    if len({id_ for id_, _ in samples}) != len(samples):
        raise DataError(f"curriculum: task {task} has an id twice; make the ids unique")
    for id_, difficulty in samples:
        if difficulty is not None and not 0.0 <= difficulty <= 1.0:
            raise DataError(f"sample {id_}: difficulty must be in 0..1, got {difficulty}")
    sign = {"Ascending": 1.0, "Descending": -1.0, "Shuffled": 0.0}[order]

    def key(sample: tuple[str, float | None]) -> tuple[bool, float, int, str]:
        id_, difficulty = sample
        unknown = difficulty is None and order != "Shuffled"
        tie = derive_seed(seed, "curriculum.order", id_)
        return unknown, sign * (difficulty or 0.0), tie, id_

    return sorted(samples, key=key)
