"""Kueue installed under a run that works, and removed from under one that waits."""

from __future__ import annotations

from pathlib import Path

from cluster import Cluster
from lab import Lab, lab
from queues import (
    change,
    queue_objects,
    queued,
    said,
    set_quota,
    stays,
    until_said,
    with_queues,
    workloads,
)

RLVR = "RLVRJob"


def told(room: Lab) -> str:
    """What the operator says about the queue of the run that was there before."""
    return str((room.condition(RLVR, "before", "Admitted") or {}).get("message"))


def test_kueue_touches_no_run_that_was_there_before_and_leaves_those_that_wait(
    cluster: Cluster, crds: None, namespace: str, standin: str, tmp_path: Path
) -> None:
    with lab(cluster, namespace, tmp_path, standin, "--resync-seconds", "1") as room:
        room.apply(queued("before", steps=600, stepSeconds=0.2))
        room.until_phase(RLVR, "before", "Running")
        assert said(room, "before", "Admitted") == ("True", "NoKueue")
        [pod] = room.pods(RLVR, "before")

        with with_queues(cluster):
            cluster.apply(*queue_objects(local=True), namespace=namespace)
            room.until("the operator has seen Kueue", lambda: "when this attempt" in told(room))
            set_quota(cluster, "nvidia.com/gpu", 0)
            room.apply(queued("waits", steps=5, stepSeconds=0.2))
            room.until_phase(RLVR, "waits", "Queued")
            assert workloads(room, "before") == {}
        assert room.phase(RLVR, "before") == "Running"
        assert [p["metadata"]["uid"] for p in room.pods(RLVR, "before")] == [pod["metadata"]["uid"]]

        stays(room, "it waits", lambda: room.phase(RLVR, "waits") == "Queued")
        change(room, "waits", suspend=True)
        room.until_phase(RLVR, "waits", "Suspended")
        change(room, "waits", suspend=False)
        room.until_phase(RLVR, "waits", "Succeeded")
        until_said(room, "waits", "Admitted", "True", "NoKueue")
