"""Events tell a run's story: each happening has its line, and none has two."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.operator.builders import NOW, Life, a_job, a_pod, a_run, begun, ended, running

from m2r_operator.decide import decide
from m2r_operator.events import manifest
from m2r_operator.state import Dependency, Event, RunSeen, Told
from m2r_train.api import RunInput

QUEUE = {"scheduling": {"queue": "research"}}


def in_a_queue() -> Life:
    """A run that Kueue holds back."""
    life = Life(a_run(spec=QUEUE), kueue=True).look()
    return life.look(1, jobs=(a_job(suspended=True, queued=True),))


def admit(life: Life, pod: str) -> Life:
    """Kueue lets it run; its pod is a new one."""
    job = a_job(queued=True, was_suspended=True)
    return life.look(60, jobs=(job,)).look(5, pods=(a_pod(uid=pod, created=life.now),))


def evict(life: Life) -> Life:
    gone = tuple(replace(pod, gone=True) for pod in life.seen.pods)
    return life.look(60, jobs=(a_job(suspended=True, queued=True, was_suspended=True),), pods=gone)


def test_each_eviction_and_admission_of_an_attempt_has_its_line() -> None:
    life = admit(evict(admit(evict(admit(in_a_queue(), "a")), "b")), "c")
    assert life.status.attempt == 1
    assert len(life.lines("Evicted")) == 2
    assert len(life.lines("Admitted")) == 3
    assert len(life.lines("Running")) == 3
    assert len(life.lines("Queued")) == 1


def named(run: RunSeen, event: Event, replica: str) -> str:
    return str(manifest(run, event, replica, NOW)["metadata"]["name"])


def test_two_replicas_that_see_the_same_tell_it_under_one_name() -> None:
    life = evict(admit(in_a_queue(), "a"))
    job = a_job(queued=True, was_suspended=True)
    seen = replace(life.seen, jobs=(job,), pods=(a_pod(uid="b", created=life.now),))
    events = decide(seen, life.now).events
    assert {"Admitted", "Running"} <= {e.reason for e in events}
    one, other = ([named(seen.run, e, who) for e in events] for who in ("one", "other"))
    assert one == other
    assert len(set(one)) == len(one)


def test_pods_that_are_not_ready_now_and_then_make_one_line_of_each() -> None:
    life = running()
    for _ in range(3):
        life.look(30, pods=(a_pod(ready=False),)).look(30, pods=(a_pod(),))
    assert life.events.count("PodsNotReady") == 3, "the condition flips"
    assert len(life.lines("PodsNotReady")) == len(life.lines("Running")) == 1


def test_pause_and_resumption_are_told_each_time() -> None:
    life = running()
    for _ in range(2):
        life.respec(suspend=True).look(10).look(10, jobs=(), pods=())
        life.respec(suspend=False).look(10)
        attempt = life.status.attempt
        life.look(jobs=(a_job(attempt),)).look(5, pods=(a_pod(attempt),))
    assert len(life.lines("Suspended")) == len(life.lines("Resumed")) == 2


def test_a_trouble_that_comes_back_is_told_again_but_not_at_each_look() -> None:
    life = begun()
    pulls = a_pod(phase="Pending", ready=False, waiting="ErrImagePull", waiting_message="no")
    life.look(5, pods=(pulls,)).look(5, pods=(replace(pulls, waiting="ImagePullBackOff"),))
    assert len(life.lines("ImagePullError")) == 1
    life.look(5, pods=(a_pod(),)).look(600, pods=(pulls,))
    assert len(life.lines("ImagePullError")) == 2


def waits_for(*reasons: str) -> tuple[Dependency, ...]:
    return tuple(
        Dependency(
            field=field,
            kind="SFTJob",
            name="ci",
            reason=reason,
            message=reason.lower(),
            input=None if reason else RunInput(uri="s3://x"),
        )
        for field, reason in zip(("model", "dataset"), reasons, strict=True)
    )


def test_what_a_run_waits_for_is_told_and_told_again_when_it_is_less() -> None:
    life = Life(dependencies=waits_for("DependencyRunning", "DependencyRunning"))
    for _ in range(3):
        life.look(30)
    assert life.lines("DependencyRunning") == [
        "spec.model: dependencyrunning; spec.dataset: dependencyrunning"
    ]
    life.look(30, dependencies=waits_for("", "DependencyRunning")).look(30)
    assert life.lines("DependencyRunning")[1:] == ["spec.dataset: dependencyrunning"]
    assert not any(e.warning for e in life.told)
    life.look(30, dependencies=waits_for("", "DependencyFailed"))
    assert life.told[-1].warning, "somebody must act"


def test_a_pod_that_no_node_takes_is_told_once_and_a_later_one_again() -> None:
    life = begun()
    stuck = a_pod(phase="Pending", ready=False, node=None, unschedulable="0/3 nodes: no GPU")
    for left in (3, 2, 1):  # the scheduler's words change
        life.look(20, pods=(replace(stuck, unschedulable=f"0/{left} nodes: no GPU"),))
    assert life.lines("Unschedulable") == ["0/3 nodes: no GPU"]
    assert life.told[-1].warning
    life.look(20, pods=(a_pod(),))
    life.look(20, pods=(replace(stuck, uid="second", created=life.now),)).look(20)
    assert len(life.lines("Unschedulable")) == 2


def test_a_pause_after_a_crash_is_told_with_its_length() -> None:
    life = running().look(30, pods=(ended(1),), jobs=(a_job(outcome="Failed"),))
    for _ in range(3):
        life.look(1)
    assert life.lines("Backoff") == ["waits 5 s after Crash, next attempt at 12:00:40 UTC"]


def test_a_queue_that_nobody_serves_is_told_once() -> None:
    life = begun(a_run(spec=QUEUE)).look(5, pods=(a_pod(),)).look(30)
    assert life.lines("NoKueue") == ["queue research is ignored: Kueue is not installed"]
    assert next(e for e in life.told if e.reason == "NoKueue").warning


@pytest.mark.parametrize(("score", "told"), [(41.5, ["synthetic: 41.50 >= 40.0"]), (39.0, [])])
def test_gates_that_are_passed_are_told(score: float, told: list[str]) -> None:
    run = a_run("EvalJob", spec={"gates": [{"benchmark": "synthetic", "min": 40}]})
    outcome = {"scores": {"synthetic": {"overall": {"value": score, "n": 100}}}}
    life = running(run)
    job = a_job(kind="EvalJob", outcome="Complete")
    life.look(30, jobs=(job,), pods=(ended(0, told=Told(outputs=outcome)),))
    assert life.lines("GatesPassed") == told
