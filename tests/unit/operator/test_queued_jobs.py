"""What differs where Kueue decides when a Job runs: a pod that it stops must not fail the Job."""

from __future__ import annotations

from typing import Any

import pytest
from unit.operator.children import create, rendered, rules_of

from m2r_operator.errors import ApiError

DISRUPTED = ("FailJob", "DisruptionTarget")


@pytest.mark.parametrize("kind", ["SFTJob", "RLVRJob", "EvalJob", "DataSynthesisJob"])
def test_saved_state_does_not_fail_the_job_of_a_queued_gang(kind: str) -> None:
    child = rendered(kind, action=create(queue="research"))
    assert child["spec"]["backoffLimit"] == 0  # any other end with such a code is one too many
    assert rules_of(child) == [DISRUPTED, ("FailJob", (64, 65, 76, 78))]


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
