"""Small pure questions about a run: when, how long, from where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from m2r_operator.draft import Draft
from m2r_operator.evidence import Ending
from m2r_operator.state import Defaults, Dependency, JobSeen, Observed, PodSeen, Poll, RunSeen
from m2r_train.api import JobSpec, RunInput, Storage, input_refs
from m2r_train.api.status import Failure, Restarts

OVERDUE: Final = 30.0  # seconds after its grace period when a pod counts as lost with its node
# Disruptions by the cluster or a person: the next attempt starts at once.
AT_ONCE: Final = (
    *("Preempted", "Evicted", "NodeDisruption", "Disrupted", "PodDeleted", "JobDeleted"),
)
ONE_PAUSE: Final = ("Fenced", "Stopped", "OutcomeLost")  # not charged, but nobody asked for them


@dataclass(frozen=True, slots=True)
class Stall:
    """Whether a run stands still: the ending it deserves, or when to look again."""

    ending: Ending | None = None
    again: float | None = None


def is_gang(run: RunSeen) -> bool:
    """Whether a run's pods stand and fall together; shards of synthesis and evaluation do not."""
    shards = run.key.kind in ("DataSynthesisJob", "EvalJob")
    return not shards or run.spec is None or run.spec.resources.nodes == 1


def overdue(pod: PodSeen, now: datetime) -> bool:
    """Whether a pod should have been gone for long: its node is lost, and the store fences it."""
    return pod.delete_by is not None and (now - pod.delete_by).total_seconds() > OVERDUE


def alive(pods: Sequence[PodSeen], now: datetime) -> list[PodSeen]:
    """The pods that may still compute, those of lost nodes left out."""
    return [p for p in pods if p.live and not overdue(p, now)]


def is_quiet(seen: Observed, job: JobSeen) -> bool:
    """Whether an unfinished Job can start no pod any more: a gang tries only once, and each of its
    pods has been seen and has ended. Kubernetes marks it a second or more later; until then it is
    left alone, with its pods, for their logs. One that was suspended may start pods anew.
    """
    run = seen.run
    if job.suspended or job.was_suspended or not is_gang(run) or run.spec is None:
        return False
    pods = seen.newest_of(job.attempt)
    return len(pods) >= run.spec.resources.nodes and not any(p.live for p in pods)


def storage_of(spec: JobSpec, defaults: Defaults) -> Storage | None:
    """Where a run keeps its results: its own words, else the operator's settings."""
    return spec.storage or defaults.storage


def next_inputs(
    spec: JobSpec, draft: Draft, dependencies: Sequence[Dependency]
) -> Mapping[str, RunInput]:
    """What an attempt reads: fixed by the first attempt, so that a resumed run sees the same."""
    fixed = {i.field: RunInput(uri=i.uri, digest=i.digest) for i in draft.inputs}
    found = {d.field: d.input for d in dependencies if d.input is not None}
    given = {path: RunInput(uri=ref.uri) for path, ref in input_refs(spec) if ref.uri is not None}
    return {**given, **found, **fixed}


def sane(draft: Draft, time: datetime | None) -> datetime:
    """When something ended, by its own clock if that can be true, else now: a node's clock that is
    wrong must neither stretch a pause nor skip it."""
    if time is None or not draft.since("Running") <= time <= draft.now:
        return draft.now
    return time


def backoff(draft: Draft, spec: JobSpec, now: datetime) -> float:
    """Seconds until the next attempt may start.

    Crashes wait longer each time. So does, once, a pod that stopped by itself as if it had been
    asked to: nobody asked, and without a pause it would start over at full speed for ever.
    """
    failure: Failure | None = draft.failure
    if failure is None or failure.attempt != draft.attempt or failure.time is None:
        return 0.0
    policy = spec.restart_policy
    if failure.class_ in AT_ONCE:
        return 0.0
    if failure.class_ in ONE_PAUSE:
        pause = float(policy.backoff_seconds)
    else:
        charged = draft.restarts.charged if draft.restarts else 1
        doubled = policy.backoff_seconds * 2.0 ** min(max(charged - 1, 0), 30)
        pause = min(doubled, float(policy.max_backoff_seconds))
    return pause - (now - failure.time).total_seconds()


def too_disrupted(spec: JobSpec, restarts: Restarts, class_: str) -> tuple[str, str] | None:
    """Reason and message to fail for after a disruption; None to go on."""
    if spec.disruption.policy == "Fail":
        return "Disrupted", f"{class_}; spec.disruption.policy is Fail"
    limit = spec.disruption.max_preemptions
    if 0 < limit < restarts.disruptions:
        return "MaxPreemptions", f"{restarts.disruptions} disruptions; {limit} are allowed"
    return None


def active_seconds(draft: Draft, until: datetime) -> float:
    """Running time so far: what is in the status and the present stretch."""
    past = float(draft.active_seconds or 0)
    if not draft.is_true("Running"):
        return past
    return past + max(0.0, (until - draft.since("Running")).total_seconds())


def deadline(draft: Draft, spec: JobSpec, now: datetime) -> float | None:
    """Seconds of running time that are left; None without a limit or while it does not run."""
    if spec.active_deadline_seconds is None or not draft.is_true("Running"):
        return None
    return spec.active_deadline_seconds - active_seconds(draft, now)


def present_poll(seen: Observed, attempt: int) -> Poll | None:
    """The last answer, if it is of the pod that is the first one now; a former one's is history."""
    poll = seen.poll
    if poll is None or poll.attempt != attempt:
        return None
    first = next((p for p in seen.newest_of(attempt) if p.index == 0), None)
    return poll if first is not None and first.uid == poll.pod_uid else None


def stalled(draft: Draft, spec: JobSpec, poll: Poll | None, now: datetime) -> Stall:
    """Whether nothing has moved for ``watchdog.stallSeconds``; ``poll`` is the present one.

    A pod that has never answered is not judged: a network policy may hide it.
    """
    if not draft.is_true("Running") or poll is None or poll.told is None:
        return Stall()
    moved = draft.since("Running")
    if draft.progress is not None and draft.progress.time is not None:
        moved = max(moved, draft.progress.time)
    left = spec.watchdog.stall_seconds - (now - moved).total_seconds()
    if left > 0:
        return Stall(again=left)
    silent = poll.failing_since is not None
    what = "does not answer on /status" if silent else f"stands at step {poll.told.step}"
    return Stall(
        Ending(
            class_="Stalled",
            verdict="charged",
            message=f"{what} for {spec.watchdog.stall_seconds} s",
            step=poll.told.step,
            time=now,
        )
    )
