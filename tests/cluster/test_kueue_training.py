"""The real trainer in a queue: evicted in the middle, it ends with the bits of a run in peace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from cluster import Cluster
from cluster.kueue import Kueue
from lab import Lab, lab
from queues import QUEUE, URGENT, job_names, queue_objects, queued, set_quota, with_queues
from runs import M2R, manifests, run, write

RLVR: Final = "RLVRJob"
STEPS: Final = 16


@pytest.fixture(scope="module")
def kueue(cluster: Cluster) -> Iterator[Kueue]:
    """Kueue with the queue of the documentation."""
    with with_queues(cluster) as found:
        yield found


@pytest.fixture(scope="module")
def undisturbed(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], str]:
    """An RLVRJob whose inputs lie in the cluster's store, and the digest of its result."""
    folder, s3 = tmp_path_factory.mktemp("local"), cluster.s3
    m2r = M2R(folder, env=s3.env)
    store = f"s3://{s3.bucket}/{folder.name}"
    first = write(manifests("data", "sft", "curriculum"), folder / "inputs")
    made = run(m2r, first, store, endpoint=s3.endpoint)
    rlvr = manifests("rlvr")["rlvr"]
    rlvr["spec"] |= {
        "model": {"uri": made.resource("sft")["output"]},
        "dataset": {"uri": made.resource("curriculum")["output"], "split": "rlvr"},
        "steps": STEPS,
        "resources": {"cpu": "200m"},  # one thread
        "disruption": {"terminationGracePeriodSeconds": 60},
    }
    alone = run(m2r, write({"rlvr": rlvr}, folder / "rlvr"), store, endpoint=s3.endpoint)
    return rlvr, alone.digests["rlvr"]


@pytest.fixture
def room(
    cluster: Cluster, crds: None, kueue: Kueue, namespace: str, trainer: str, tmp_path: Path
) -> Iterator[Lab]:
    """A namespace with the local queue and an operator whose runs really train."""
    cluster.apply(*queue_objects(local=True), namespace=namespace)
    with lab(cluster, namespace, tmp_path, trainer) as found:
        yield found


def test_an_evicted_run_goes_on_from_its_step_and_ends_with_the_same_bits(
    room: Lab, standin: str, undisturbed: tuple[dict[str, Any], str]
) -> None:
    manifest, digest = undisturbed
    manifest["spec"]["scheduling"] = {"queue": QUEUE}
    set_quota(room.cluster, "cpu", "200m")  # of this one run: the node has no real GPU to count
    room.apply(manifest)
    room.until_phase(RLVR, "rlvr", "Running")
    room.until_step(RLVR, "rlvr", 5)
    room.apply(queued("deadline", labels=URGENT, image=standin, steps=5, stepSeconds=0.2))
    room.until_phase(RLVR, "rlvr", "Preempted")
    room.until_phase(RLVR, "deadline", "Succeeded")
    room.until_phase(RLVR, "rlvr", "Running")
    resumed = room.until(
        "it has resumed", lambda: (room.told(RLVR, "rlvr") or {}).get("resumedFrom")
    )
    assert resumed["step"] >= 5
    room.until_phase(RLVR, "rlvr", "Succeeded")
    status = room.status(RLVR, "rlvr")
    assert status["outputs"]["digest"] == digest
    assert status["progress"]["step"] == STEPS
    assert status["resumedFrom"]["step"] == resumed["step"]
    assert status["resumedFrom"]["lostSteps"] == 0
    assert status["restarts"] == {"charged": 0, "disruptions": 1}
    assert status["attempt"] == 1
    assert job_names(room, "rlvr") == ["rlvr-rlvrj-1"]
