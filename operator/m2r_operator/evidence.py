"""Why an attempt ended, from what its pods and its Job left behind.

The exit code alone misleads: a pod that is told to stop because its neighbour crashed exits 75 as
one that is preempted does, and a rank whose neighbour was preempted crashes. So the *first* pod to
go decides, and a disruption that the cluster has marked wins over what it did to the others. A
pod that was asked to go counts from when it was asked, for what its neighbours do follows that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from m2r_operator.state import JobSeen, PodSeen
from m2r_operator.telling import step_of

# permanent: the run fails. free: a disruption, counted as such. charged: a crash.
# ignored: nobody's fault and nothing that a limit is about.
Verdict = Literal["permanent", "free", "charged", "ignored"]

# Exit codes of the trainer (design section 4) -> class of failure.
PERMANENT: Final = {64: "BadSpec", 65: "BadData", 78: "BadConfig", 79: "Collapsed"}
STOPPED: Final = 75
FENCED: Final = 76
KILLED: Final = 137
TERMINATED: Final = 143
OBEYED: Final = (None, STOPPED, KILLED, TERMINATED)  # how a pod ends that was asked to go

_JOB_EXIT: Final = re.compile(r"failed with exit code (\d+)")
_LATEST: Final = datetime.max.replace(tzinfo=UTC)
_DISRUPTIONS: Final = {
    "PreemptionByScheduler": "Preempted",
    "EvictionByEvictionAPI": "Evicted",
    "DeletionByTaintManager": "NodeDisruption",
    "DeletionByPodGC": "NodeDisruption",
    "TerminationByKubelet": "NodeDisruption",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an attempt ended: ``class_`` is a word for machines, ``message`` a line for people."""

    class_: str
    verdict: Verdict
    message: str
    exit_code: int | None = None
    pod: str | None = None
    node: str | None = None
    step: int | None = None
    time: datetime | None = None


OUTCOME_LOST: Final = Ending(
    class_="OutcomeLost",
    verdict="ignored",
    message="its Job is complete but the pod that knew the result is gone; asks again",
)


def explain(pods: Sequence[PodSeen], job: JobSeen | None) -> Ending:
    """The cause of an attempt's end; ``pods`` are the newest of each index, none of them live."""
    bad = sorted((p for p in pods if went_wrong(p)), key=_order)
    for pod in bad:
        if pod.exit_code in PERMANENT:
            return _ending(pod, PERMANENT[pod.exit_code], "permanent")
    marked = [p for p in bad if p.disruption]
    if marked:
        return _ending(marked[0], _DISRUPTIONS.get(marked[0].disruption, "Disrupted"), "free")
    if bad and not (_silent(bad[0]) and job is not None and job.outcome == "Failed"):
        return _first_cause(bad[0])
    return _by_job(job)


def _silent(pod: PodSeen) -> bool:
    """Whether a pod vanished while nobody looked: it was not seen to end, nor asked to."""
    return pod.gone and pod.exit_code is None and pod.delete_by is None


def went_wrong(pod: PodSeen) -> bool:
    """Whether a pod ended, or is ending, in another way than by success."""
    if pod.phase == "Succeeded":
        return False
    return bool(pod.gone or pod.disruption or pod.phase == "Failed" or pod.exit_code)


def _first_cause(pod: PodSeen) -> Ending:
    if pod.exit_code == FENCED:
        return _ending(pod, "Fenced", "ignored")
    if _asked_to_go(pod) and pod.exit_code in OBEYED:
        return _ending(pod, "PodDeleted", "free")
    if pod.exit_code == STOPPED:
        return _ending(pod, "Stopped", "free")
    if pod.oom_killed:
        return _ending(pod, "OOMKilled", "charged")
    return _ending(pod, "Crash", "charged")


def _asked_to_go(pod: PodSeen) -> bool:
    """Whether its deletion made it end; a pod that had ended before is deleted in vain."""
    if pod.finished is not None and pod.deleting_since is not None:
        return pod.deleting_since <= pod.finished
    if pod.delete_by is not None:
        return True
    return pod.gone and pod.phase not in ("Succeeded", "Failed")  # taken away by force


def _order(pod: PodSeen) -> tuple[datetime, bool, int]:
    """Causes before consequences; of two in the same second, the one that was asked to go."""
    asked = _asked_to_go(pod) and pod.exit_code in OBEYED
    ended = pod.finished or pod.delete_by or _LATEST
    return (pod.deleting_since or ended if asked else ended, not asked, pod.index)


def _by_job(job: JobSeen | None) -> Ending:
    """No pod left to ask: the Job's message names the exit code or the disruption. Where it names
    neither, the end is charged, so that ends that nobody sees do not repeat for ever."""
    if job is None or (job.deleting and job.outcome is None):
        return Ending(class_="JobDeleted", verdict="free", message="its Job was deleted")
    code = int(found[1]) if (found := _JOB_EXIT.search(job.message)) else None
    class_, verdict = _by_code(code, job.message)
    return Ending(
        class_=class_,
        verdict=verdict,
        exit_code=code if code is not None and code <= 255 else None,
        message=job.message or job.reason or "its Job failed and no pod is left to ask",
        time=job.finished,
    )


def _by_code(code: int | None, message: str) -> tuple[str, Verdict]:
    if code in PERMANENT:
        return PERMANENT[code], "permanent"
    if code == FENCED:
        return "Fenced", "ignored"
    if code in (STOPPED, TERMINATED) or "DisruptionTarget" in message:
        return "Preempted", "free"
    return "Crash", "charged"


def _ending(pod: PodSeen, class_: str, verdict: Verdict) -> Ending:
    told = pod.told
    words = (told.message or told.reason) if told is not None else ""
    code = pod.exit_code
    return Ending(
        class_=class_,
        verdict=verdict,
        message=words or pod.disruption_message or _plain(pod),
        exit_code=code if code is not None and 0 <= code <= 255 else None,
        pod=pod.name,
        node=pod.node,
        step=step_of(told),
        time=pod.finished or pod.deleting_since or pod.delete_by,
    )


def _plain(pod: PodSeen) -> str:
    if pod.oom_killed:
        return "out of memory: raise resources.memory or make the batch smaller"
    if pod.exit_code is None:
        return "the pod was deleted"
    return f"exit code {pod.exit_code}; see `kubectl logs {pod.name}`"
