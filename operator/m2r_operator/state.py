"""What a decision is made from and what it consists of: plain frozen values, no Kubernetes types.

``observe`` fills an `Observed`, ``decide`` turns it into a `Decision`, ``apply`` carries that out.
Times are aware datetimes (UTC), durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from m2r_train.api import JobSpec, JobStatus, RunInput, Storage

Outcome = Literal["Complete", "Failed"]
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


class Key(NamedTuple):
    """A run in the cluster."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSeen:
    """A custom resource as read from the API server."""

    key: Key
    uid: str
    generation: int
    resource_version: str
    spec: JobSpec | None  # None: this operator cannot read it, `unreadable` says why
    status: JobStatus
    unreadable: str = ""
    created: datetime | None = None
    deleting_since: datetime | None = None  # deletion asked for (deletionTimestamp)
    finalizers: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def deleting(self) -> bool:
        """Whether its deletion was asked for."""
        return self.deleting_since is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSeen:
    """A child Job, of whichever attempt."""

    name: str
    uid: str
    attempt: int  # 0: the purge Job
    owned: bool = True  # its controller is this run (same uid); False: somebody else's object
    deleting: bool = False
    suspended: bool = False
    queued: bool = False  # it was made for a queue of Kueue's
    active: int = 0
    was_suspended: bool = False  # it has a Suspended condition, true or not: it may start pods anew
    outcome: Outcome | None = None
    reason: str = ""
    message: str = ""
    finished: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a pod's termination message or its ``GET /status`` said."""

    step: int | None = None
    total_steps: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    last_checkpoint: Mapping[str, Any] | None = None
    resumed_from: Mapping[str, Any] | None = None
    outputs: Mapping[str, Any] | None = None
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSeen:
    """A trainer's pod, of whichever attempt; also one that is gone, as it was last seen."""

    name: str
    uid: str
    attempt: int
    index: int = 0
    node: str | None = None
    ip: str | None = None
    phase: str = "Pending"  # of Kubernetes: Pending, Running, Succeeded, Failed, Unknown
    ready: bool = False
    gone: bool = False  # no longer in the API server
    delete_by: datetime | None = None  # deletion asked for; the grace period ends then
    deleting_since: datetime | None = (
        None  # when that was asked for: delete_by less the grace period
    )
    created: datetime | None = None
    started: datetime | None = None  # of the trainer's container
    finished: datetime | None = None
    exit_code: int | None = None
    oom_killed: bool = False
    disruption: str = ""  # reason of the DisruptionTarget condition
    disruption_message: str = ""
    waiting: str = ""  # reason why a container does not start: ImagePullBackOff, …
    waiting_message: str = ""
    unschedulable: str = ""  # the scheduler's message
    told: Told | None = None  # the termination message

    @property
    def live(self) -> bool:
        """Whether its processes may still run."""
        return not self.gone and self.phase not in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """The last answers of the first pod's ``GET /status``; kept by the operator in memory."""

    attempt: int
    pod_uid: str
    told: Told | None  # None: it has never answered
    answered: datetime | None = None  # the newest answer
    failing_since: datetime | None = None  # first of the unanswered polls since


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """A reference to another run and what is known of that run."""

    field: str
    kind: str
    name: str
    input: RunInput | None = None  # its result, once it is complete
    reason: str = ""  # why there is none yet: DependencyMissing, DependencyRunning, …
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What the operator's settings fill into runs that leave it out."""

    image: str | None = None
    storage: Storage | None = None
    image_pull_secrets: tuple[str, ...] = ()
    image_pull_policy: str | None = None
    service_accounts: tuple[str, ...] | None = None  # those that runs may name; None: any


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything that is known of a run at one moment."""

    run: RunSeen
    jobs: tuple[JobSeen, ...] = ()
    pods: tuple[PodSeen, ...] = ()
    dependencies: tuple[Dependency, ...] = ()
    poll: Poll | None = None
    defaults: Defaults = field(default_factory=Defaults)
    kueue: bool = False  # whether Kueue is installed
    rejected: str = ""  # why the API server refused the last action; cleared by one that worked
    terminating: bool = False  # the refusal was: the namespace is being deleted
    # Whether the run, then its Jobs, then its pods were read from the API server for this decision
    # (pods that are gone added as they were last seen). False: they come from caches, each of which
    # may lag. In that order, because a Job that cannot start pods any more stays so: what is
    # then read of its pods is the last word.
    fresh: bool = True

    def job(self, attempt: int) -> JobSeen | None:
        """The run's own Job of an attempt (1, 2, …)."""
        return next((j for j in self.jobs if j.owned and attempt and j.attempt == attempt), None)

    def pods_of(self, attempt: int) -> list[PodSeen]:
        """The pods of an attempt, gone ones included."""
        return [p for p in self.pods if p.attempt == attempt]

    def newest_of(self, attempt: int) -> list[PodSeen]:
        """The newest pod of each index of an attempt, by index. The others are history: a Job
        that was suspended and released, or that tries an index again, has several."""
        newest: dict[int, PodSeen] = {}
        for pod in sorted(self.pods_of(attempt), key=_age):
            newest[pod.index] = pod
        return [newest[index] for index in sorted(newest)]


def _age(pod: PodSeen) -> tuple[bool, datetime, bool, str]:
    """Order of pods of one index; API times have whole seconds, so that a tie goes to the live."""
    return (pod.created is not None, pod.created or _NEVER, pod.live, pod.uid)


# what a decision consists of


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateJob:
    """Make the Job of an attempt (and the headless Service, where several nodes meet)."""

    attempt: int
    storage: Storage
    image: str
    inputs: Mapping[str, RunInput]
    queue: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteJob:
    """Delete a Job with its pods; they get their grace period."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePurge:
    """Make the Job that deletes the run's folder from the store."""

    storage: Storage
    image: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRun:
    """Delete the resource itself: its time to live is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFinalizer:
    """Add or remove the purge finalizer."""

    present: bool


Action = CreateJob | DeleteJob | CreatePurge | DeleteRun | SetFinalizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line for ``kubectl describe``; told once for each (reason, attempt, happening)."""

    reason: str
    message: str
    attempt: int
    warning: bool = False
    # What tells this one from others of its reason in the attempt: a condition's transition time,
    # the uid of the pod that it is about. Empty for what happens once in an attempt.
    happening: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A figure for the operator's metrics, counted once the status is written."""

    series: str
    labels: Mapping[str, str] = field(default_factory=dict)
    value: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to write and what to do, in this order: status, events, actions.

    The status comes first because it is the memory: an attempt is counted before it is made, so a
    crash between the two repeats the making (which then conflicts) and never the counting. The
    write is refused when the resource has changed since it was read; then nothing else is done.
    """

    status: JobStatus | None  # None: as it is
    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = ()
    measured: tuple[Measured, ...] = ()
    requeue: float | None = None  # look again after so many seconds, though nothing changes
    refresh: bool = False  # nothing is to be done but to decide again from a fresh observation
