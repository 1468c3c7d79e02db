"""A decision in the making."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from m2r_operator.draft import Draft
from m2r_operator.state import Action, Decision, DeleteJob, JobSeen, Measured, Observed
from m2r_train.api import JobSpec

RETRY: Final = 30.0  # seconds until an action is tried again that the API server refused


class Plan:
    """A decision in the making: the status draft, actions, and when to look again."""

    def __init__(self, seen: Observed, now: datetime) -> None:
        self.seen = seen
        self.now = now
        self.draft = Draft(seen.run.status, seen.run.generation, now)
        self.actions: list[Action] = []
        self.measured: list[Measured] = []
        self._requeue: float | None = None
        self._trouble: tuple[str, str, str] | None = None
        self._refresh = False

    @property
    def spec(self) -> JobSpec:
        """The run's spec; decided only where there is one."""
        assert self.seen.run.spec is not None
        return self.seen.run.spec

    @property
    def accounted(self) -> bool:
        """Whether the end of the present attempt is in the status."""
        failure = self.draft.failure
        return failure is not None and bool(failure.attempt == self.draft.attempt)

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return self.draft.is_true("Complete") or self.draft.is_true("Failed")

    def lacks_proof(self) -> bool:
        """Whether what comes next must not be decided from caches; asks for a fresh look if so.

        A cache that lags shows a Job or pods as absent that are there. To act on that would start
        a second attempt beside the first, or judge an end without its evidence.
        """
        self._refresh = self._refresh or not self.seen.fresh
        return not self.seen.fresh

    def look_again(self, seconds: float | None) -> None:
        """Decide again after so many seconds at the latest."""
        if seconds is not None:
            seconds = max(seconds, 0.05)
            self._requeue = seconds if self._requeue is None else min(self._requeue, seconds)

    def delete(self, job: JobSeen) -> None:
        """Delete a Job with its pods, once."""
        action = DeleteJob(name=job.name, uid=job.uid)
        if action not in self.actions:
            self.actions.append(action)

    def degrade(self, reason: str, message: str, *, about: str = "") -> None:
        """Something keeps the run from going on as it should; the first that is found is told.

        ``about``: what the message begins with, where the rest of it changes at each retry.
        """
        if self._trouble is None:
            self._trouble = (reason, message, about)

    def tell_trouble(self) -> None:
        """Set Degraded by what this decision has found, so that no trouble outlives its cause."""
        draft = self.draft
        if self._trouble is None:
            draft.clear("Degraded", "Resolved")
            return
        reason, message, about = self._trouble
        old = draft.reason("Degraded") if draft.is_true("Degraded") else ""
        draft.set("Degraded", True, reason, draft.steady("Degraded", reason, message, about=about))
        if old != reason:
            draft.tell(reason, message, warning=True, happening=draft.flip_of("Degraded"))

    def done(self, *, write: bool = True) -> Decision:
        """The decision; ``write``: whether the status may be written at all."""
        if self._refresh:
            return Decision(status=None, refresh=True)
        return Decision(
            status=self.draft.status() if write else None,
            actions=tuple(self.actions),
            events=tuple(self.draft.events),
            measured=tuple(self.measured),
            requeue=self._requeue,
        )
