"""Why an attempt ended: a table of what may lie there in the morning."""

from __future__ import annotations

import pytest
from unit.operator.builders import a_job, a_pod, at, ended, leaving, told

from m2r_operator.evidence import explain
from m2r_operator.state import JobSeen, PodSeen

MARKED = {"disruption": "PreemptionByScheduler", "disruption_message": "preempted by lab/other"}
FAILED = {"outcome": "Failed", "reason": "BackoffLimitExceeded", "message": "backoff limit"}


def by_rule(code: int) -> JobSeen:
    words = f"Container trainer for pod lab/run failed with exit code {code} matching FailJob rule"
    return a_job(outcome="Failed", reason="PodFailurePolicy", message=words)


CASES: dict[str, tuple[list[PodSeen], JobSeen | None, str, str]] = {
    # a single pod
    "a crash is charged": ([ended(1)], a_job(), "Crash", "charged"),
    "an unknown code is a crash": ([ended(42)], a_job(), "Crash", "charged"),
    "kill -9 of the process is a crash": ([ended(137)], a_job(), "Crash", "charged"),
    "a signal that nobody asked for is a crash": ([ended(143)], a_job(), "Crash", "charged"),
    "no memory left": ([ended(137, oom_killed=True)], a_job(), "OOMKilled", "charged"),
    "a wrong spec is permanent": ([ended(64)], a_job(), "BadSpec", "permanent"),
    "wrong data are permanent": ([ended(65)], a_job(), "BadData", "permanent"),
    "a collapse that ends the run is permanent": ([ended(79)], a_job(), "Collapsed", "permanent"),
    "a wrong configuration is permanent": ([ended(78)], a_job(), "BadConfig", "permanent"),
    "saved though nobody deleted it": ([ended(75)], a_job(), "Stopped", "free"),
    "a newer attempt owns the store": ([ended(76)], a_job(), "Fenced", "ignored"),
    "deleted by a person, state saved": ([ended(75, **leaving())], a_job(), "PodDeleted", "free"),
    "deleted, killed after its grace": ([ended(137, **leaving())], a_job(), "PodDeleted", "free"),
    "deleted before it could listen": ([ended(143, **leaving())], a_job(), "PodDeleted", "free"),
    "deleted, it crashed while it saved": ([ended(1, **leaving())], a_job(), "Crash", "charged"),
    "out of memory while it saved": (
        [ended(137, oom_killed=True, **leaving())], a_job(), "PodDeleted", "free",
    ),
    "it had crashed before somebody deleted it": (
        [ended(137, **leaving(31))], a_job(), "Crash", "charged",
    ),
    "deleted in the second in which it ended": (
        [ended(75, **leaving(30))], a_job(), "PodDeleted", "free",
    ),
    "preempted": ([ended(75, **MARKED, **leaving())], a_job(), "Preempted", "free"),
    "preempted, and it crashed on the way": ([ended(1, **MARKED)], a_job(), "Preempted", "free"),
    "evicted": ([ended(75, disruption="EvictionByEvictionAPI")], a_job(), "Evicted", "free"),
    "a tainted node": (
        [ended(None, disruption="DeletionByTaintManager")], a_job(), "NodeDisruption", "free",
    ),
    "the kubelet shut down": (
        [ended(137, disruption="TerminationByKubelet")], a_job(), "NodeDisruption", "free",
    ),
    "a disruption of a kind to come": ([ended(1, disruption="New")], a_job(), "Disrupted", "free"),
    "a permanent code outweighs the mark": ([ended(65, **MARKED)], a_job(), "BadData", "permanent"),
    "its node is lost": (
        [a_pod(disruption="DeletionByTaintManager", **leaving())], a_job(),
        "NodeDisruption", "free",
    ),
    "deleted by force": ([a_pod(gone=True, **leaving())], a_job(), "PodDeleted", "free"),
    "gone without a word, its Job not judged yet": (
        [a_pod(gone=True)], a_job(), "PodDeleted", "free",
    ),
    "gone without a word, the Job knows a code": (
        [a_pod(gone=True)], by_rule(65), "BadData", "permanent",
    ),
    "gone without a word, the Job knows nothing": (
        [a_pod(gone=True)], a_job(**FAILED), "Crash", "charged",
    ),
    "gone after it had crashed": ([ended(1, gone=True)], a_job(), "Crash", "charged"),
    # a gang
    "the crash, not the neighbour that was stopped for it": (
        [ended(75, finished=at(33), **leaving(31)), ended(1, index=1)], a_job(), "Crash", "charged",
    ),
    "the deletion, not the neighbour that crashed over it": (
        [ended(1, finished=at(20)), ended(75, index=1, **leaving(10))], a_job(), "PodDeleted",
        "free",
    ),
    "a deletion and a crash in one second: never charge a disruption": (
        [ended(1), ended(75, index=1, finished=at(31), **leaving(30))], a_job(), "PodDeleted",
        "free",
    ),
    "a mark on any pod outweighs an earlier crash": (
        [ended(1, finished=at(10)), ended(75, index=1, **MARKED)], a_job(), "Preempted", "free",
    ),
    "a permanent code on any pod outweighs all": (
        [ended(1, finished=at(10)), ended(78, index=1), ended(75, index=2, **MARKED)], a_job(),
        "BadConfig", "permanent",
    ),
    "pods that exited 0 are no cause": (
        [ended(0, finished=at(5)), ended(1, index=1)], a_job(), "Crash", "charged",
    ),
    "two crashes in one second: the lower index": (
        [ended(2, index=1), ended(1)], a_job(), "Crash", "charged",
    ),
    "the fenced one, not those that lost it": (
        [ended(1, index=1, finished=at(31)), ended(76)], a_job(), "Fenced", "ignored",
    ),
    # no pod left
    "the Job is gone": ([], None, "JobDeleted", "free"),
    "the Job is going": ([], a_job(deleting=True), "JobDeleted", "free"),
    "the Job is gone, its pod had finished": ([ended(0)], None, "JobDeleted", "free"),
    "the Job names a permanent code": ([], by_rule(64), "BadSpec", "permanent"),
    "the Job names a saved state": ([], by_rule(75), "Preempted", "free"),
    "the Job names a signal": ([], by_rule(143), "Preempted", "free"),
    "the Job names the fence": ([], by_rule(76), "Fenced", "ignored"),
    "the Job names a disruption": (
        [], a_job(outcome="Failed", message="Pod lab/x has condition DisruptionTarget matching"),
        "Preempted", "free",
    ),
    "the Job names nothing: charged, so that it does not repeat for ever": (
        [], a_job(**FAILED), "Crash", "charged",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_cause_of_an_end(case: str) -> None:
    pods, job, class_, verdict = CASES[case]
    for order in (pods, pods[::-1]):
        ending = explain(order, job)
        assert (ending.class_, ending.verdict) == (class_, verdict)
        assert ending.message


def test_the_pods_own_words_come_before_the_clusters() -> None:
    pod = ended(1, told=told(7, message="CUDA error"), disruption_message="x")
    ending = explain([pod], a_job())
    assert (ending.message, ending.step, ending.exit_code) == ("CUDA error", 7, 1)
    assert (ending.pod, ending.node, ending.time) == ("run-1-0", "node-0", at(30))


@pytest.mark.parametrize(
    ("pod", "message"),
    [
        (ended(1), "exit code 1; see `kubectl logs run-1-0`"),
        (ended(137, oom_killed=True), "out of memory: raise resources.memory"),
        (ended(75, disruption="X", disruption_message="preempted by lab/other"), "by lab/other"),
        (a_pod(gone=True), "the pod was deleted"),
    ],
)
def test_a_silent_pod_is_spoken_for(pod: PodSeen, message: str) -> None:
    assert message in explain([pod], a_job()).message


def test_codes_that_a_status_cannot_hold_are_left_out() -> None:
    assert explain([ended(3221225477)], a_job()).exit_code is None
    assert explain([], by_rule(3221225477)).exit_code is None
