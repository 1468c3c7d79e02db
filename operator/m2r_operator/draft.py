"""A status while it is being worked out: conditions that flip only when they change."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final, Literal

from m2r_operator.state import Event
from m2r_train.api import JobStatus
from m2r_train.api.status import Condition, ConditionType, Phase

_PHASES: Final[tuple[tuple[ConditionType, Phase], ...]] = (  # the first that holds
    ("Failed", "Failed"),
    ("Complete", "Succeeded"),
    ("Suspended", "Suspended"),
    ("Running", "Running"),
    ("Preempted", "Preempted"),
)
_WORDS: Final = 1024  # characters of a message; conditions are read in a terminal
_NUMBERS: Final = re.compile(r"\d+")


class Draft:
    """The next status of a run, begun from the present one.

    ``lastTransitionTime`` moves only when a condition's status does, so that deciding again from
    the same facts gives the same status, and nothing is written.
    """

    def __init__(self, status: JobStatus, generation: int, now: datetime) -> None:
        self._old = status
        self._fields: dict[str, Any] = {}
        self._noted: dict[str, Any] = {}
        self._before = {c.type: c for c in status.conditions}
        self._conditions = dict(self._before)
        self._generation = generation
        self.now = now.replace(microsecond=0)  # as Kubernetes writes times
        self.events: list[Event] = []

    def __getattr__(self, name: str) -> Any:
        """A field of the status as it stands in the draft."""
        for known in (self._noted, self._fields):
            if name in known:
                return known[name]
        return getattr(self._old, name)

    def put(self, **fields: Any) -> None:
        """Replace fields of the status."""
        self._fields.update(fields)
        for name in fields:
            self._noted.pop(name, None)

    def note(self, **fields: Any) -> None:
        """Replace fields that are no reason to write: they wait for the next change of another."""
        self._noted.update(fields)

    def is_true(self, kind: ConditionType) -> bool:
        """Whether a condition holds."""
        return self._is(kind, "True")

    def is_false(self, kind: ConditionType) -> bool:
        """Whether a condition is known not to hold."""
        return self._is(kind, "False")

    def since(self, kind: ConditionType) -> datetime:
        """When a condition last flipped; now if it is not there."""
        known = self._conditions.get(kind)
        return known.last_transition_time if known else self.now

    def reason(self, kind: ConditionType) -> str:
        """The reason of a condition; empty if it is not there."""
        known = self._conditions.get(kind)
        return known.reason if known else ""

    def message(self, kind: ConditionType) -> str:
        """The message of a condition; empty if it is not there."""
        known = self._conditions.get(kind)
        return known.message if known else ""

    def steady(self, kind: ConditionType, reason: str, message: str, *, about: str = "") -> str:
        """The message to give for a reason: the one that stands there, if the new one differs in
        its numbers alone, or begins with the same ``about``. Others' words (the scheduler's, the
        kubelet's) change with each retry, and each change would be a write."""
        known = self._conditions.get(kind)
        if known is None or known.reason != reason:
            return message
        if known.observed_generation != self._generation:
            return message
        old, new = known.message, message[:_WORDS]
        same = _NUMBERS.sub("0", old) == _NUMBERS.sub("0", new)
        return old if same or (about and old.startswith(about)) else new

    def set(self, kind: ConditionType, holds: bool, reason: str, message: str = "") -> bool:
        """Set a condition; whether its status flipped (or it is new)."""
        status: Literal["True", "False"] = "True" if holds else "False"
        known, before = self._conditions.get(kind), self._before.get(kind)
        flipped = known is None or known.status != status
        message = message[:_WORDS]
        if known is not None and not flipped:
            said = (known.reason, known.message, known.observed_generation)
            if said == (reason, message, self._generation):
                return False
        unmoved = before is not None and before.status == status
        self._conditions[kind] = Condition(
            type=kind,
            status=status,
            reason=reason,
            message=message,
            last_transition_time=before.last_transition_time if before and unmoved else self.now,
            observed_generation=self._generation,
        )
        return flipped

    def clear(self, kind: ConditionType, reason: str, message: str = "") -> None:
        """Set a condition to False if it is there; one that never held is not mentioned."""
        if self.is_true(kind):
            self.set(kind, False, reason, message)

    def tell(
        self, reason: str, message: str, *, warning: bool = False, happening: str = ""
    ) -> None:
        """Note an event of the present attempt; see `Event` for what a ``happening`` is."""
        self.events.append(
            Event(
                reason=reason,
                message=message[:_WORDS],
                attempt=self.attempt,
                warning=warning,
                happening=happening,
            )
        )

    def flip_of(self, kind: ConditionType) -> str:
        """A happening: the present stretch of a condition, by when it began."""
        return f"{kind} {self.since(kind).isoformat()}"

    def phase(self) -> Phase:
        """The summary for people, derived from the conditions alone."""
        for kind, phase in _PHASES:
            if self.is_true(kind):
                return phase
        return "Queued" if self.is_false("Admitted") else "Pending"

    def status(self) -> JobStatus | None:
        """The finished status; None when nothing of it differs from the present one."""
        new = {
            **self._fields,
            "conditions": tuple(self._conditions.values()),
            "phase": self.phase(),
            "observed_generation": self._generation,
        }
        changed = {name: one for name, one in new.items() if one != getattr(self._old, name)}
        return self._old.model_copy(update={**changed, **self._noted}) if changed else None

    def _is(self, kind: ConditionType, status: str) -> bool:
        known = self._conditions.get(kind)
        return known is not None and known.status == status
