"""What the steps of a run compute, as operations, and the share of the devices' peak that is.

A step's operations over its seconds, evaluation and checkpoints left out, over the peak of all
devices: model FLOPs utilisation. How operations are counted: ``core.flops``.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from m2r_train.core.flops import (
    Grid,
    Load,
    Part,
    forward_flops,
    picture_load,
    row_load,
    total,
    update_flops,
)
from m2r_train.core.records import Sample

if TYPE_CHECKING:
    from m2r_train.model.policy import Prompt
    from m2r_train.rollout.base import Completion
    from m2r_train.stages.feeding import Lesson

_OTHERWISE: Final = ("evaluate", "checkpoint")  # phases that are no training; goodput tells of them


class Work:
    """The operations of the step in flight, of all ranks; nothing where no model is known."""

    def __init__(
        self,
        parts: Sequence[Part] = (),
        *,
        merge: int = 1,
        window: int = 1,
        peak: float | None = None,
    ) -> None:
        """``peak``: operations a second of all devices, None where that is not known."""
        self._parts = parts
        self._merge, self._window, self._peak = merge, window, peak
        tower = [part for part in parts if part.through in ("patches", "visuals")]
        self._tower_learns = any(part.learns for part in tower)
        self.flops = 0.0

    def see(self, samples: Sequence[Sample], prompts: Sequence[Prompt]) -> None:
        """A step's pictures are looked at once, each distinct one, where the tower never learns."""
        if not self._tower_learns:
            distinct = {
                picture: grid
                for sample, prompt in zip(samples, prompts, strict=True)
                for picture, grid in zip(_pictures(sample), prompt.grids, strict=True)
            }
            self.flops += forward_flops(self._parts, self._pictures(distinct.values()))

    def draw(self, prompts: Sequence[Prompt], groups: Sequence[Sequence[Completion]]) -> None:
        """Completions are generated: one forward pass a token, the prompt's once a group."""
        self.flops += forward_flops(self._parts, self._groups(prompts, groups))

    def learn_groups(
        self,
        prompts: Sequence[Prompt],
        groups: Sequence[Sequence[Completion]],
        *,
        updates: int,
        reference: bool,
    ) -> None:
        """Groups are trained on ``updates`` times; a ``reference`` goes over them once."""
        load = self._groups(prompts, groups)
        self.flops += updates * update_flops(self._parts, load)
        if reference:
            self.flops += forward_flops(self._parts, load)

    def learn_lessons(self, batch: Iterable[Lesson]) -> None:
        """Rows with their pictures are trained on."""
        loads = [self._lesson(lesson) for lesson in batch]
        self.flops += update_flops(self._parts, total(loads))

    def utilization(self, phases: Mapping[str, float]) -> float | None:
        """Of the step that ends now, 0..1; the next one begins. ``phases``: its seconds.

        None where the peak is not known, and for a step that computed nothing.
        """
        flops, self.flops = self.flops, 0.0
        seconds = sum(s for name, s in phases.items() if name not in _OTHERWISE)
        if self._peak is None or not flops or seconds <= 0:
            return None
        return flops / seconds / self._peak

    def _groups(self, prompts: Sequence[Prompt], groups: Sequence[Sequence[Completion]]) -> Load:
        """Rows of completions; pictures too where the tower learns, hence sees them each time."""
        loads = []
        for prompt, group in zip(prompts, groups, strict=True):
            lengths = tuple(len(c.tokens) for c in group)
            loads.append(row_load(len(prompt.tokens), lengths, sum(lengths)))
            if self._tower_learns:
                loads.append(self._pictures(prompt.grids))
        return total(loads)

    def _lesson(self, lesson: Lesson) -> Load:
        row = lesson.row
        lengths = [len(b.tokens) for b in row.branches]
        scored = sum(lengths) - sum(b.scored_from for b in row.branches)
        return row_load(len(row.prefix), lengths, scored) + self._pictures(lesson.grids)

    def _pictures(self, grids: Iterable[Grid]) -> Load:
        return total(picture_load(g, merge=self._merge, window=self._window) for g in grids)


def _pictures(sample: Sample) -> list[Hashable]:
    """What tells a sample's pictures and its clip apart, in the order of a prompt's grids."""
    clip = [] if sample.video is None else [tuple(sample.video)]
    return [*sample.images, *clip]
