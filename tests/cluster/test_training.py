"""The real trainer in pods: the same bits as ``m2r run``, whatever takes the pods away."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from cluster import Cluster
from lab import Lab, lab
from runs import M2R, manifests, write

NAMES: Final = ("data", "sft", "curriculum", "rlvr", "eval-rlvr")
STEPS: Final = 14


def family() -> dict[str, dict[str, Any]]:
    """The small manifests, with an RLVR run that is long enough to be disturbed."""
    found = manifests(*NAMES)
    found["rlvr"]["spec"]["steps"] = STEPS
    for document in found.values():
        document["spec"]["resources"] = {"cpu": "200m"}  # one thread
        document["spec"]["restartPolicy"] = {"maxRestarts": 9, "backoffSeconds": 1}
        document["spec"]["disruption"] = {"terminationGracePeriodSeconds": 30}
    return found


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of the results of ``m2r run`` on this machine, without a cluster."""
    folder = tmp_path_factory.mktemp("local")
    files = write(family(), folder / "manifests")
    summary = folder / "summary.json"
    done = M2R(folder)(
        "run", "-f", files, "--store", (folder / "store").as_uri(), "--summary", summary
    )
    assert done.code == 0, done.err
    return {r["name"]: r["digest"] for r in json.loads(summary.read_text())["resources"]}


@pytest.fixture
def pods(
    cluster: Cluster, crds: None, namespace: str, trainer: str, tmp_path: Path
) -> Iterator[Lab]:
    """A namespace with a leading operator whose runs really train."""
    with lab(cluster, namespace, tmp_path, trainer) as found:
        yield found


def digest(room: Lab, kind: str, name: str) -> str:
    """What the run's status says of its result."""
    return str(room.status(kind, name)["outputs"]["digest"])


def test_the_whole_family_in_pods_gives_the_bits_of_m2r_run(
    pods: Lab, golden: dict[str, str]
) -> None:
    documents = family()
    pods.apply(*documents.values())
    for name in NAMES:
        kind = documents[name]["kind"]
        pods.until_phase(kind, name, "Succeeded", seconds=400)
        assert digest(pods, kind, name) == golden[name]
    status = pods.status("RLVRJob", "rlvr")
    assert status["progress"]["step"] == STEPS
    assert status["lastCheckpoint"]["step"] == STEPS


def prepared(pods: Lab) -> dict[str, Any]:
    """Everything that the RLVR run needs is there; returns its manifest, not yet applied."""
    documents = family()
    pods.apply(*(documents[name] for name in ("data", "sft", "curriculum")))
    pods.until_phase("DataSynthesisJob", "curriculum", "Succeeded", seconds=400)
    return documents["rlvr"]


def delete_pod(pods: Lab, pod: str) -> None:
    """As a person does it."""
    pods.cluster.kubectl("delete", "pod", pod, "--wait=false", namespace=pods.namespace)


def evict(pods: Lab, pod: str) -> None:
    """As a drain does it."""
    path = f"/api/v1/namespaces/{pods.namespace}/pods/{pod}/eviction"
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": pods.namespace},
    }
    pods.cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))


def kill_process(pods: Lab, pod: str) -> None:
    """SIGKILL of the trainer itself; it is PID 1 of its pod, so the signal comes from outside."""
    found = pods.cluster.get("pods", pod, namespace=pods.namespace)
    container = found["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if container in (process / "cgroup").read_text():
                os.kill(int(process.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            continue


def test_rlvr_goes_on_from_where_it_was_whatever_takes_its_pod(
    pods: Lab, golden: dict[str, str]
) -> None:
    run = prepared(pods)
    pods.apply(run)
    seconds = {}
    for attempt, (what, blow) in enumerate(
        {"delete": delete_pod, "evict": evict, "kill -9": kill_process}.items(), start=1
    ):
        pods.until_phase("RLVRJob", "rlvr", "Running")
        pods.until_step("RLVRJob", "rlvr", 3 * attempt)
        (pod,) = pods.live_pods("RLVRJob", "rlvr")
        assert pod["metadata"]["labels"]["m2r.dev/attempt"] == str(attempt)
        before = (pods.told("RLVRJob", "rlvr") or {})["step"]
        blow(pods, pod["metadata"]["name"])
        pods.until(
            f"the pod is gone after {what}",
            lambda uid=pod["metadata"]["uid"]: all(
                p["metadata"]["uid"] != uid for p in pods.live_pods("RLVRJob", "rlvr")
            ),
        )
        gone = time.monotonic()
        pods.until_step("RLVRJob", "rlvr", before + 1)
        seconds[what] = round(time.monotonic() - gone, 1)
    pods.until_phase("RLVRJob", "rlvr", "Succeeded", seconds=300)
    status = pods.status("RLVRJob", "rlvr")
    assert status["restarts"] == {"charged": 1, "disruptions": 2}
    assert status["attempt"] == 4
    assert digest(pods, "RLVRJob", "rlvr") == golden["rlvr"]
