"""What is written of a run on its way to the running pod, and what waits until there is more."""

from __future__ import annotations

import pytest
from unit.operator.builders import Life, a_job, a_pod, a_run, begun, ended, poll_of, running


def pods_pass(life: Life) -> list[bool]:
    """Whether each look at a first pod's way to running writes a status."""
    wrote = []
    for pods in (
        (a_pod(phase="Pending", ready=False, node=None, started=None),),
        (a_pod(phase="Pending", ready=False, started=None),),
        (a_pod(phase="Running", ready=False),),
        (a_pod(),),
    ):
        wrote.append(life.look(1, pods=pods).last.status is not None)
    return wrote


def test_a_run_is_written_when_it_is_counted_and_when_it_runs() -> None:
    life = Life().look()
    assert life.status.attempt == 1
    assert life.says("Admitted") == ("True", "NoQueue")
    life.look(1, jobs=(a_job(),))
    assert life.last.status is None, "that its Job is there is no reason to write"
    assert pods_pass(life) == [False, False, False, True]
    assert life.status.job is not None
    assert life.status.job.uid == "job-1"


def test_the_first_answer_is_written_with_the_word_that_it_runs() -> None:
    life = begun().look(1, pods=(a_pod(ready=False),), poll=poll_of(0))
    assert life.last.status is None
    life.look(1, pods=(a_pod(),), poll=poll_of(1))
    assert life.phase == "Running"
    assert life.status.progress is not None
    assert life.status.progress.step == 1


def test_so_is_the_next_attempt() -> None:
    life = running().look(30, pods=(ended(75, disruption="PreemptionByScheduler"),))
    life.look(jobs=(a_job(outcome="Failed"),))
    assert life.status.attempt == 2
    assert life.status.job is None
    life.look(1, jobs=(a_job(outcome="Failed"), a_job(2)))
    assert life.last.status is None
    life.look(1, pods=(a_pod(2),))
    assert life.status.job is not None
    assert life.status.job.uid == "job-2"


@pytest.mark.parametrize("facts", [{"deleting": True}, {"queued": True}])
def test_a_job_that_may_go_or_be_suspended_is_written_down_at_once(facts: dict[str, bool]) -> None:
    life = begun().look(jobs=(a_job(**facts),), pods=(a_pod(ready=False),))
    assert life.status.job is not None
    assert life.status.job.uid == "job-1"


def test_a_job_that_was_suspended_before_it_was_written_down_was_never_admitted() -> None:
    life = begun().look(1, jobs=(a_job(suspended=True),))
    assert life.says("Admitted") == ("False", "JobSuspended")
    assert life.status.restarts is None
    life.look(1, jobs=(a_job(),)).look(1, jobs=(a_job(suspended=True),))
    assert life.status.restarts is not None
    assert life.status.restarts.disruptions == 1


def test_a_queue_that_is_not_there_is_said_with_the_first_write() -> None:
    life = Life(a_run(spec={"scheduling": {"queue": "research"}})).look()
    assert life.says("Admitted") == ("True", "NoKueue")
    queued = Life(a_run(spec={"scheduling": {"queue": "research"}}), kueue=True).look()
    assert queued.says("Admitted") == ("", "")
