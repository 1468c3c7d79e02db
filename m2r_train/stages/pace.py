"""How often a run saves its state: as its spec says, or as often as saves are worth."""

from __future__ import annotations

import time
from typing import Final

from m2r_train.api.common import Checkpoint as CheckpointSpec
from m2r_train.core.intervals import steps_between_saves

_NEWEST_STEP_WEIGHT: Final = 0.2  # in the mean of the steps' seconds
_TOLD_AGAIN: Final = 1.5  # an interval that has changed by this factor is told again


class Pace:
    """How often to save, from the spec or from what steps and saves were seen to cost."""

    def __init__(self, spec: CheckpointSpec | None) -> None:
        self.auto = spec is not None and spec.interval == "Auto"
        self._between = float(spec.mean_seconds_between_disruptions) if spec is not None else 0.0
        self.step: float | None = None  # mean seconds, saves left out
        self.blocking: float | None = None  # seconds of the last save that training waited for
        self.upload: float | None = None  # seconds of the last save's other part
        self._begun = time.monotonic()
        self._told: int | None = None

    def begin_step(self) -> None:
        """A step begins now."""
        self._begun = time.monotonic()

    def end_step(self) -> None:
        """The step has ended, its save is still to come."""
        seconds = time.monotonic() - self._begun
        old = seconds if self.step is None else self.step
        self.step = old + _NEWEST_STEP_WEIGHT * (seconds - old)

    def interval(self, most: int) -> tuple[int | None, bool]:
        """Steps from save to save (None: nothing was measured yet), and whether that is news."""
        if self.step is None or self.blocking is None or self.upload is None:
            return None, False
        steps = steps_between_saves(
            step=self.step,
            blocking=self.blocking,
            upload=self.upload,
            between=self._between,
            most=most,
        )
        told = self._told
        news = told is None or max(steps, told) >= _TOLD_AGAIN * min(steps, told)
        if news:
            self._told = steps
        return steps, news

    def __str__(self) -> str:
        return (
            f"a step takes {self.step:.3g} s, a save stops it for {self.blocking:.3g} s and is "
            f"stored after {self.upload:.3g} s, a disruption is expected every "
            f"{self._between:.0f} s"
        )
