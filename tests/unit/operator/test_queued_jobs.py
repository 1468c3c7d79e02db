"""What differs where Kueue decides when a Job runs: a pod that it stops must not fail the Job, and
a run is in a queue if its Job is, whether or not Kueue is installed by now."""

from __future__ import annotations

from typing import Any

import pytest
from operator_objects import job
from unit.operator.builders import Life, a_job, a_run, begun
from unit.operator.children import create, rendered, rules_of

from m2r_operator import names
from m2r_operator.errors import ApiError
from m2r_operator.observe import job_seen

DISRUPTED = ("FailJob", "DisruptionTarget")


@pytest.mark.parametrize("kind", ["SFTJob", "RLVRJob", "EvalJob", "DataSynthesisJob"])
def test_saved_state_does_not_fail_the_job_of_a_queued_gang(kind: str) -> None:
    child = rendered(kind, action=create(queue="research"))
    assert child["spec"]["backoffLimit"] == 0  # any other end with such a code is one too many
    assert rules_of(child) == [DISRUPTED, ("FailJob", (64, 65, 76, 78, 79))]


@pytest.mark.parametrize("disruption", [{}, {"policy": "Fail"}, {"maxPreemptions": 2}])
def test_saved_state_does_not_fail_the_job_of_queued_shards(disruption: dict[str, Any]) -> None:
    child = rendered(
        "EvalJob", action=create(queue="research"), resources={"nodes": 2}, disruption=disruption
    )
    assert ("Ignore", (75, 143)) in rules_of(child)


@pytest.mark.parametrize(
    ("status", "message", "refused"),
    [
        (500, 'failed calling webhook "mjob.kb.io": connection refused', True),
        (500, "Internal error occurred: etcdserver: leader changed", False),
        (503, 'failed calling webhook "mjob.kb.io"', False),
    ],
)
def test_a_webhook_that_does_not_answer_is_told_to_the_user(
    status: int, message: str, refused: bool
) -> None:
    """Kueue's is asked about every Job; while it is down none can be made."""
    error = ApiError("POST /apis/batch/v1/jobs", status, message=message)
    assert error.refused is refused


def test_a_job_is_known_to_be_queued_by_its_label() -> None:
    child = job()
    assert not job_seen(child).queued
    child["metadata"]["labels"][names.QUEUE] = "research"
    assert job_seen(child).queued


@pytest.mark.parametrize(
    ("queued", "installed", "reason", "words"),
    [
        (True, True, "Admitted", "by queue research"),
        (True, False, "Admitted", "by queue research"),
        (False, False, "NoKueue", "queue research is ignored: Kueue is not installed"),
        (False, True, "NoKueue", "Kueue was not installed when this attempt began"),
    ],
)
def test_a_run_says_that_a_queue_has_admitted_it_only_if_its_job_was_made_for_one(
    queued: bool, installed: bool, reason: str, words: str
) -> None:
    run = a_run(spec={"scheduling": {"queue": "research"}})
    life = begun(run, kueue=installed).look(jobs=(a_job(queued=queued),))
    assert life.says("Admitted") == ("True", reason)
    assert words in life.words("Admitted")


def test_a_job_that_is_refused_is_tried_again_every_half_minute() -> None:
    life = Life(a_run(spec={"scheduling": {"queue": "research"}}), kueue=True).look()
    assert life.created == [1]
    for _ in range(3):
        life.look(30, rejected="kueue-webhook-service does not answer")
        assert life.says("Degraded") == ("True", "Rejected")
        assert life.created == [1]
        assert life.last.requeue == 30.0
