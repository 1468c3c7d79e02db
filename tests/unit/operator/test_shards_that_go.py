"""Shards that are all taken away: their Job brings them back, or it cannot and the attempt ends."""

from __future__ import annotations

from typing import Any

import pytest
from unit.operator.builders import Life, a_job, a_pod, a_run, begun, ended, leaving

SHARDS = {"resources": {"nodes": 2}}


def shards(**facts: Any) -> Life:
    """Two shards that run."""
    life = begun(a_run("DataSynthesisJob", spec=SHARDS), **facts)
    return life.look(5, pods=(a_pod(), a_pod(index=1)))


def test_shards_that_went_and_did_not_come_back_end_the_attempt() -> None:
    life = shards().look(25, pods=(ended(75, **leaving(29)), ended(75, index=1, **leaving(29))))
    assert life.status.failure is None
    assert life.last.requeue == 15.0
    life.look(15)
    assert life.status.failure is not None
    assert life.status.failure.class_ == "PodDeleted"
    assert life.status.restarts is not None
    assert life.status.restarts.charged == 0
    assert life.deleted == ["run-dsj-1"]


@pytest.mark.parametrize(
    "pods",
    [
        (ended(75, **leaving(29)), a_pod(index=1)),
        (ended(75, **leaving(29)), ended(75, index=1)),  # not asked to go: the Job's to judge
        (ended(0), ended(0, index=1)),
        (),
    ],
    ids=["one lives", "one stopped by itself", "both are done", "none is there"],
)
def test_other_shards_are_the_jobs_business(pods: tuple[Any, ...]) -> None:
    life = shards().look(25, pods=pods).look(60)
    assert life.status.failure is None
    assert life.deleted == []


def test_a_queue_that_has_taken_the_shards_gives_them_back() -> None:
    life = shards(kueue=True).look(25, jobs=(a_job(kind="DataSynthesisJob", suspended=True),))
    life.look(pods=(ended(75, **leaving(29)), ended(75, index=1, **leaving(29)))).look(60)
    assert life.status.failure is None
    assert life.deleted == []
