"""What a run's conditions say while its pods come and go."""

from __future__ import annotations

import pytest
from unit.operator.builders import a_pod, running


@pytest.mark.parametrize("code", [0, 75, 137])
def test_a_pod_whose_container_has_just_ended_does_not_make_its_run_pending(code: int) -> None:
    life = running().look(30, pods=(a_pod(ready=False, exit_code=code),))
    assert life.phase == "Running"
    assert life.last.status is None, "the end itself is written a moment later"


def test_a_pod_that_is_not_ready_for_another_reason_does_not_run() -> None:
    life = running().look(30, pods=(a_pod(ready=False),))
    assert life.phase == "Pending"
    assert life.says("Running") == ("False", "PodsNotReady")


def test_one_pod_of_two_that_is_not_ready_is_enough() -> None:
    life = running().look(30, pods=(a_pod(ready=False, exit_code=0), a_pod(index=1, ready=False)))
    assert life.says("Running") == ("False", "PodsNotReady")
