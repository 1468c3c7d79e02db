"""Runs of several pods on a real cluster: ranks that meet, gangs, shards; gates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from blows import killed
from lab import Lab
from overlap import watching_pods
from plays import evaluation, play, rlvr, synthesis

from m2r_operator import names

Manifest = dict[str, Any]
MEETING = """
import json, os, socket, urllib.request
first = os.environ["MASTER_ADDR"]
address = socket.gethostbyname(first)
with urllib.request.urlopen(f"http://{first}:9400/status", timeout=5) as answer:
    told = json.load(answer)
shm = os.statvfs("/dev/shm")
print(json.dumps({
    "address": address, "step": told["step"], "shm": shm.f_blocks * shm.f_frsize,
    "env": {k: v for k, v in os.environ.items() if k.startswith(("JOB_", "MASTER_"))},
}))
"""


def spec(nodes: int, **more: Any) -> Manifest:
    """Resources of so many small pods."""
    return {"cpu": "10m", "sharedMemory": "24Mi", "nodes": nodes, **more}


def running(room: Lab, kind: str, attempt: int, pods: int) -> dict[int, Manifest]:
    """The pods of an attempt by their index, once so many run."""

    def probe() -> dict[int, Manifest] | None:
        found = {
            index_of(pod): pod
            for pod in room.live_pods(kind, "run")
            if pod["metadata"]["labels"][names.ATTEMPT] == str(attempt)
            and pod["status"]["phase"] == "Running"
            and "deletionTimestamp" not in pod["metadata"]
        }
        return found if len(found) == pods else None

    return room.until(f"{pods} pods of attempt {attempt} run", probe)


def index_of(pod: Manifest) -> int:
    """Its completion index."""
    return int(pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"])


def uids(pods: dict[int, Manifest]) -> dict[int, str]:
    """Who they are."""
    return {index: pod["metadata"]["uid"] for index, pod in pods.items()}


def kill(room: Lab, pod: Manifest) -> None:
    """SIGKILL of the trainer in a pod."""
    with killed(room, pod):
        pass


def test_ranks_find_the_first_by_its_name_and_start_anew_together(
    room: Lab, tmp_path: Path
) -> None:
    pause = {"backoffSeconds": 1, "maxBackoffSeconds": 1}
    uri = play(steps=9000, stepSeconds=0.1, resumeAt=3)
    room.apply(rlvr(uri=uri, resources=spec(2), restartPolicy=pause))
    room.until_phase("RLVRJob", "run", "Running")
    first = running(room, "RLVRJob", 1, 2)
    second = first[1]["metadata"]["name"]
    command = ("exec", second, "--", "python3", "-c", MEETING)
    met = json.loads(room.cluster.kubectl(*command, namespace=room.namespace))
    assert met["address"] == first[0]["status"]["podIP"]
    assert met["shm"] == 24 * 1024**2
    env = met["env"]
    assert env["JOB_COMPLETION_INDEX"] == "1"
    assert env["MASTER_ADDR"] == "run-rlvrj-1-0.run-rlvrj"

    with watching_pods(room.cluster, room.namespace, tmp_path) as events:
        kill(room, first[1])
        again = running(room, "RLVRJob", 2, 2)
        room.until_phase("RLVRJob", "run", "Running")
        assert events.attempts() == {"RLVRJob/run": {1, 2}}
        assert events.overlaps() == []
    assert not set(uids(first).values()) & set(uids(again).values())
    assert len(room.live_pods("RLVRJob", "run")) == 2, "nothing of the first attempt lives"
    status = room.status("RLVRJob", "run")
    assert status["restarts"] == {"charged": 1, "disruptions": 0}
    failure = status["failure"]
    assert (failure["class"], failure["pod"], failure["attempt"]) == ("Crash", second, 1)


def test_a_shard_that_crashes_is_tried_again_and_the_others_do_not_notice(room: Lab) -> None:
    room.apply(synthesis(uri=play(steps=9000, stepSeconds=0.1), resources=spec(3)))
    before = running(room, "DataSynthesisJob", 1, 3)
    kill(room, before[1])
    room.until("it has crashed", lambda: len(room.live_pods("DataSynthesisJob", "run")) < 3 or None)
    after = running(room, "DataSynthesisJob", 1, 3)
    old, new = uids(before), uids(after)
    assert {index for index in old if old[index] != new[index]} == {1}
    counted = after[1]["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"]
    assert counted == "1"
    status = room.status("DataSynthesisJob", "run")
    assert (status["attempt"], status["phase"]) == (1, "Running")
    assert "failure" not in status


@pytest.mark.parametrize(
    ("least", "phase", "passed", "reason"),
    [(40, "Succeeded", "True", "AllPassed"), (60, "Failed", "False", "GateMissed")],
)
def test_an_evaluation_fails_where_a_gate_is_missed(
    room: Lab, least: int, phase: str, passed: str, reason: str
) -> None:
    """The stand-in scores 50."""
    gates = [{"benchmark": "synthetic", "min": least}]
    room.apply(evaluation(uri=play(steps=2, stepSeconds=0.1), gates=gates))
    room.until_phase("EvalJob", "run", phase)
    status = room.status("EvalJob", "run")
    assert [s["value"] for s in status["outputs"]["scores"]] == [50]
    gate = room.condition("EvalJob", "run", "GatesPassed")
    assert gate is not None
    assert (gate["status"], gate["reason"]) == (passed, reason)
    complete = room.condition("EvalJob", "run", "Complete")
    assert (complete is not None) == (phase == "Succeeded")
    failed = room.condition("EvalJob", "run", "Failed")
    assert (failed is not None) == (phase == "Failed")
    if failed is not None:
        assert failed["reason"] == "GateMissed"
        assert failed["message"].startswith("synthetic: 50.00 < 60.0; ")
        assert "spec.gates[].min" in failed["message"]
    assert status["attempt"] == 1
