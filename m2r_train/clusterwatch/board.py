"""What is known of the watched runs, from lists and watch events. Pure.

Objects come from others: whatever they hold, nothing here raises, and what is shown is text without
control characters, so that a message cannot move a terminal's cursor.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from m2r_train.api.objects import int_of, time_of

Object = Mapping[str, Any]
DONE: Final = ("Succeeded", "Failed", "Deleted")
_FIGURES: Final = {  # as the columns of `kubectl get`
    "DataSynthesisJob": ("kept", ("outputs", "counts", "kept")),
    "SFTJob": ("loss", ("metrics", "loss")),
    "RLVRJob": ("reward", ("metrics", "rewardMean")),
    "EvalJob": ("score", ("metrics", "score")),
}


class RunKey(NamedTuple):
    """A run in the cluster."""

    namespace: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A run as it is shown; ``None`` for what is not known."""

    key: RunKey
    uid: str = ""
    phase: str = "Pending"
    step: int | None = None
    total: int | None = None
    percent: int | None = None
    figure: str = ""
    attempt: int = 0
    checkpoint: int | None = None
    created: datetime | None = None
    told: str = ""  # the last event, or why it has failed

    @property
    def done(self) -> bool:
        """Whether nothing of it will change any more."""
        return self.phase in DONE


@dataclass(slots=True)
class Board:
    """The runs that are watched: all that come, or ``wanted`` alone."""

    wanted: tuple[RunKey, ...] = ()
    _rows: dict[RunKey, Row] = field(default_factory=dict)
    _told: dict[str, tuple[datetime, str]] = field(default_factory=dict)  # by uid of the run

    def put(self, body: Object) -> None:
        """A run as it is now."""
        row = row_of(body)
        if not self.wanted or row.key in self.wanted:
            self._rows[row.key] = row

    def remove(self, body: Object) -> None:
        """A run is deleted; one that had ended keeps its end."""
        row = row_of(body)
        known = self._rows.get(row.key)
        if known is not None and known.uid == row.uid:
            self._gone(known)

    def replace(self, kind: str, bodies: Iterable[Object]) -> None:
        """All runs of a kind as they are now; what is not among them is deleted."""
        listed = set()
        for body in bodies:
            self.put(body)
            listed.add(row_of(body).key)
        for key, row in list(self._rows.items()):
            if key.kind == kind and key not in listed:
                self._gone(row)

    def tell(self, body: Object) -> None:
        """An event; only the newest of each run is kept."""
        about = _map(body.get("regarding"))
        uid, time = str(about.get("uid") or ""), _event_time(body)
        if about.get("kind") not in _FIGURES or not uid:
            return
        if uid not in self._told or self._told[uid][0] <= time:
            self._told[uid] = (time, plain(f"{body.get('reason')}: {body.get('note') or ''}"))

    def rows(self) -> list[Row]:
        """What is to be shown, by namespace, kind and name; a wanted run that is not there too."""
        shown = [self._with_event(row) for row in self._rows.values() if self._is_shown(row)]
        known = {row.key for row in shown}
        shown += [Row(key=key, phase="Missing") for key in self.wanted if key not in known]
        return sorted(shown, key=lambda row: (row.key.namespace, row.key.name, row.key.kind))

    def all_done(self) -> bool:
        """Whether there are runs, and each has come to its end."""
        rows = self._ends()
        return bool(rows) and all(row.done for row in rows)

    def all_succeeded(self) -> bool:
        """Whether each run has ended well."""
        rows = self._ends()
        return bool(rows) and all(row.phase == "Succeeded" for row in rows)

    def _ends(self) -> list[Row]:
        missing = [Row(key=k, phase="Missing") for k in self.wanted if k not in self._rows]
        return [*self._rows.values(), *missing]

    def _is_shown(self, row: Row) -> bool:
        return bool(self.wanted) or row.phase != "Deleted"

    def _with_event(self, row: Row) -> Row:
        _, words = self._told.get(row.uid, (None, ""))
        return replace(row, told=words) if words else row

    def _gone(self, row: Row) -> None:
        if not row.done:
            self._rows[row.key] = replace(row, phase="Deleted")


def row_of(body: Object) -> Row:
    """A custom resource as a row."""
    metadata, status = _map(body.get("metadata")), _map(body.get("status"))
    kind = str(body.get("kind") or "")
    progress = _map(status.get("progress"))
    return Row(
        key=RunKey(plain(metadata.get("namespace")), plain(kind), plain(metadata.get("name"))),
        uid=str(metadata.get("uid") or ""),
        phase=plain(status.get("phase")) or "Pending",
        step=int_of(progress.get("step")),
        total=int_of(progress.get("totalSteps")),
        percent=int_of(progress.get("percent")),
        figure=_figure(kind, status),
        attempt=int_of(status.get("attempt")) or 0,
        checkpoint=int_of(_map(status.get("lastCheckpoint")).get("step")),
        created=time_of(metadata.get("creationTimestamp")),
        told=_why_failed(status),
    )


def plain(value: object) -> str:
    """Text on one line, without control characters."""
    text = "" if value is None else str(value)
    return "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") else c for c in text)


def _figure(kind: str, status: Object) -> str:
    name, path = _FIGURES.get(kind, ("", ()))
    value: Any = status
    for part in path:
        value = _map(value).get(part)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"


def _why_failed(status: Object) -> str:
    """The message of Failed: events go after an hour, the status stays."""
    conditions = status.get("conditions")
    for condition in map(_map, conditions if isinstance(conditions, list) else ()):
        if condition.get("type") == "Failed" and condition.get("status") == "True":
            return plain(f"{condition.get('reason')}: {condition.get('message') or ''}")
    return ""


def _event_time(body: Object) -> datetime:
    series = _map(body.get("series"))
    times = (
        series.get("lastObservedTime"),
        body.get("eventTime"),
        _map(body.get("metadata")).get("creationTimestamp"),
    )
    found = (time_of(time) for time in times)
    return next((time for time in found if time is not None), datetime.min.replace(tzinfo=UTC))


def _map(value: object) -> Object:
    return value if isinstance(value, Mapping) else {}
