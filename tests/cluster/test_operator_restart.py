"""A restarted operator finds things as it left them, writes nothing, and misses nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from cluster import Cluster
from crowd import SCHEDULING, STATUS, Crowd, crowd
from histories import watching
from lab import Lab, lab
from plays import play, rlvr

from m2r_operator import names

RUNS: Final = 200
STEADY_SECONDS: Final = 15.0  # three times what a quiet machine may take; this one has other work
QUIET_SECONDS: Final = 20.0  # longer than anything that the operator holds back


@pytest.fixture
def outside(cluster: Cluster) -> Iterator[Crowd]:
    """The node of the runs."""
    with crowd(cluster) as found:
        yield found


def test_an_operator_that_restarts_with_two_hundred_live_runs_writes_nothing(
    cluster: Cluster, crds: None, outside: Crowd, namespace: str, standin: str, tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    """Steady: each of the runs was looked at, for its pod has been asked how far it is."""
    with lab(cluster, namespace, tmp_path, standin, "--poll-seconds", "600") as room:
        room.apply(*(rlvr(f"run-{n}", scheduling=SCHEDULING) for n in range(RUNS)))
        room.until("all of them run and are told so", lambda: told(room) == RUNS, seconds=240)
        room.operator.kill()
        before, restarted = outside.asked, time.monotonic()
        since = datetime.now(UTC)
        room.operator.start(wait=False)
        cluster.wait("each was asked", lambda: outside.asked >= before + RUNS, every=0.05)
        steady = time.monotonic() - restarted
        request.node.user_properties.append(("steady", f"{steady:.1f} s"))
        assert steady <= STEADY_SECONDS
        time.sleep(QUIET_SECONDS)
        writes = cluster.writes(user_agent=names.MANAGER, since=since)
        assert {what for _, what in writes} == {"leases"}, writes
        assert room.operator.alive
        run = rlvr("run-7", scheduling=SCHEDULING)
        room.apply({**run, "spec": {**run["spec"], "suspend": True}})
        room.until_phase(
            "RLVRJob", "run-7", "Suspended"
        )  # it is not for want of work that it rests


def told(room: Lab) -> int:
    """Runs whose status says that they run, and how far they are."""
    found = room.cluster.get("rlvrjobs.m2r.dev", namespace=room.namespace)["items"]
    return sum(
        run.get("status", {}).get("phase") == "Running"
        and run["status"].get("progress", {}).get("step") == STATUS["step"]
        for run in found
    )


def test_a_job_that_was_deleted_unseen_is_not_made_again_beside_its_pods(
    room: Lab, tmp_path: Path
) -> None:
    """Nothing in the status names that Job yet: its second rank has no place, so it does not run.
    Its first one, which is deaf, lives on for its whole grace period."""
    gang = {"cpu": "10m", "sharedMemory": "16Mi", "nodes": 2, "gpusPerNode": 5}  # of eight
    run = rlvr(uri=play(steps=9000, deaf=1), resources=gang)
    run["spec"]["disruption"] = {"terminationGracePeriodSeconds": 8}
    with watching(room.cluster, room.namespace, "jobs", tmp_path) as jobs:
        room.apply(run)
        room.until("its first rank is at work", lambda: room.told("RLVRJob", "run"))
        room.operator.kill()
        assert "job" not in room.status("RLVRJob", "run")
        (old,) = [p for p in room.live_pods("RLVRJob", "run") if p["status"]["phase"] == "Running"]
        room.cluster.delete("job", "run-rlvrj-1", namespace=room.namespace)
        room.operator.start()
        room.until("the next attempt is made", lambda: len(room.jobs("RLVRJob", "run")) == 1)
    assert old["metadata"]["uid"] not in {
        pod["metadata"]["uid"] for pod in room.live_pods("RLVRJob", "run")
    }
    made = [job["metadata"]["name"] for kind, job in jobs if kind == "ADDED"]
    assert made == ["run-rlvrj-1", "run-rlvrj-2"]
    status = room.status("RLVRJob", "run")
    assert (status["attempt"], status["restarts"]["charged"]) == (2, 0)
