"""Runs, Jobs and pods in one line each, and a run's life driven decision by decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from unit.api.cases import small

from m2r_operator import names
from m2r_operator.decide import decide
from m2r_operator.events import manifest
from m2r_operator.state import (
    Action,
    CreateJob,
    Decision,
    Defaults,
    DeleteJob,
    Event,
    JobSeen,
    Key,
    Observed,
    PodSeen,
    Poll,
    RunSeen,
    Told,
)
from m2r_train.api import KINDS, JobSpec, JobStatus, Storage
from m2r_train.api.status import Condition

NOW: Final = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
DEFAULTS: Final = Defaults(image="trainer:1", storage=Storage(uri="s3://lab/runs"))


def at(seconds: float) -> datetime:
    """So many seconds after `NOW`."""
    return NOW + timedelta(seconds=seconds)


def spec_of(kind: str = "RLVRJob", **fields: Any) -> JobSpec:
    """The smallest spec of a kind with further fields, in YAML's names."""
    return KINDS[kind].spec.model_validate(small(kind)["spec"] | fields)


def a_run(
    kind: str = "RLVRJob",
    status: JobStatus | None = None,
    spec: Mapping[str, Any] | None = None,
    **facts: Any,
) -> RunSeen:
    """A run; ``spec`` holds further fields in YAML's names."""
    given: dict[str, Any] = {
        "key": Key(kind, "lab", "run"),
        "uid": "u",
        "generation": 1,
        "resource_version": "1",
        "spec": spec_of(kind, **(spec or {})),
        "status": status or JobStatus(),
    }
    return RunSeen(**(given | facts))


def a_job(attempt: int = 1, kind: str = "RLVRJob", **facts: Any) -> JobSeen:
    """The Job of an attempt."""
    given = {"name": names.job_name(kind, "run", attempt), "uid": f"job-{attempt}"}
    return JobSeen(attempt=attempt, **(given | facts))


def a_pod(attempt: int = 1, index: int = 0, **facts: Any) -> PodSeen:
    """A pod that runs."""
    name = f"run-{attempt}-{index}"
    given = {
        "name": name,
        "uid": f"uid-{name}",
        "node": f"node-{index}",
        "phase": "Running",
        "ready": True,
        "created": at(1),
        "started": at(2),
    }
    return PodSeen(attempt=attempt, index=index, **(given | facts))


def ended(code: int | None, attempt: int = 1, index: int = 0, **facts: Any) -> PodSeen:
    """A pod that has ended with an exit code, half a minute in."""
    phase = "Succeeded" if code == 0 else "Failed"
    given = {"phase": phase, "ready": False, "exit_code": code, "finished": at(30)}
    return a_pod(attempt, index, **(given | facts))


def leaving(seconds: float = 0, **facts: Any) -> dict[str, Any]:
    """Facts of a pod whose deletion was asked for then, with two minutes of grace."""
    return {"deleting_since": at(seconds), "delete_by": at(seconds + 120), **facts}


def told(step: int, total: int = 100, **facts: Any) -> Told:
    """What a pod says at a step."""
    return Told(step=step, total_steps=total, **facts)


class Life:
    """A run's life. Each look decides and takes the status over; and each checks what holds of
    any decision: the status survives JSON, and deciding again from the same facts writes nothing.
    """

    def __init__(self, run: RunSeen | None = None, **facts: Any) -> None:
        self.seen = Observed(run=run or a_run(), **({"defaults": DEFAULTS} | facts))
        self.now = NOW
        self.last = Decision(status=None)
        self.events: list[str] = []
        self.told: list[Event] = []

    def look(self, seconds: float = 0, /, **facts: Any) -> Life:
        """Decide ``seconds`` later, with other facts."""
        self.now += timedelta(seconds=seconds)
        self.seen = replace(self.seen, **facts)
        before = self.status
        self.last = decide(self.seen, self.now)
        self.events += [e.reason for e in self.last.events]
        self.told += self.last.events
        if self.last.status is not None:
            assert self.last.status != before, "a write that changes nothing"
            self._take(self.last.status)
        again = decide(self.seen, self.now)
        assert again.status is None, "the same facts are told in other words"
        assert not again.events
        assert again.measured == ()
        return self

    def _take(self, status: JobStatus) -> None:
        text = status.model_dump_json(by_alias=True)
        assert JobStatus.model_validate_json(text) == status
        self.set(status=status)

    def set(self, **facts: Any) -> Life:
        """Change facts of the run itself."""
        self.seen = replace(self.seen, run=replace(self.seen.run, **facts))
        return self

    def respec(self, **fields: Any) -> Life:
        """Change the spec, as a user does."""
        kind, run = self.seen.run.key.kind, self.seen.run
        assert run.spec is not None
        spec = run.spec.model_dump(by_alias=True) | fields
        return self.set(spec=KINDS[kind].spec.model_validate(spec), generation=run.generation + 1)

    @property
    def status(self) -> JobStatus:
        return self.seen.run.status

    @property
    def phase(self) -> str | None:
        return self.status.phase

    @property
    def actions(self) -> tuple[Action, ...]:
        return self.last.actions

    def lines(self, reason: str) -> list[str]:
        """What ``kubectl describe`` shows for a reason: events of one name are one line."""
        named: dict[str, str] = {}
        for event in self.told:
            if event.reason == reason:
                body = manifest(self.seen.run, event, "me", NOW)
                named.setdefault(body["metadata"]["name"], event.message)
        return list(named.values())

    @property
    def created(self) -> list[int]:
        """Attempts whose Jobs are to be made."""
        return [a.attempt for a in self.actions if isinstance(a, CreateJob)]

    @property
    def deleted(self) -> list[str]:
        """Jobs to be deleted."""
        return [a.name for a in self.actions if isinstance(a, DeleteJob)]

    def condition(self, kind: str) -> Condition | None:
        return next((c for c in self.status.conditions if c.type == kind), None)

    def says(self, kind: str) -> tuple[str, str]:
        """Status and reason of a condition; empty where it is not there."""
        known = self.condition(kind)
        return (known.status, known.reason) if known else ("", "")

    def words(self, kind: str) -> str:
        """The message of a condition."""
        known = self.condition(kind)
        return known.message if known else ""


def begun(run: RunSeen | None = None, **facts: Any) -> Life:
    """A run whose first Job was made and seen."""
    life = Life(run, **facts).look()
    return life.look(jobs=(a_job(kind=life.seen.run.key.kind),))


def running(run: RunSeen | None = None, **facts: Any) -> Life:
    """A run whose first pod runs since five seconds after `NOW`."""
    life = begun(run, **facts)
    nodes = life.seen.run.spec.resources.nodes if life.seen.run.spec else 1
    return life.look(5, pods=tuple(a_pod(index=i) for i in range(nodes)))


def poll_of(step: int, attempt: int = 1, total: int = 100, **facts: Any) -> Poll:
    """An answer of the first pod."""
    given: dict[str, Any] = {"attempt": attempt, "pod_uid": f"uid-run-{attempt}-0"}
    return Poll(**(given | {"told": told(step, total)} | facts))
