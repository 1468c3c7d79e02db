"""The life of runs as people see it, on a real cluster, with a stand-in for the trainer."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from histories import watching
from lab import Lab
from plays import evaluation, play, rlvr, sft, synthesis

from m2r_operator import names


def test_a_run_of_each_kind_goes_from_apply_to_succeeded(room: Lab) -> None:
    uri = play(steps=4, stepSeconds=0.3)
    runs = [
        rlvr("a", uri=uri),
        sft("b", uri=uri),
        evaluation("c", uri=uri),
        synthesis("d", uri=uri),
    ]
    room.apply(*runs)
    for kind, name in ((run["kind"], run["metadata"]["name"]) for run in runs):
        room.until_phase(kind, name, "Succeeded")
        status = room.status(kind, name)
        assert status["attempt"] == 1
        assert status["progress"]["step"] == 4
        assert status["progress"]["percent"] == 100
        assert status["startTime"] <= status["completionTime"]
        assert "failure" not in status
        types = {c["type"]: c["status"] for c in status["conditions"]}
        assert types["Complete"] == "True"
        assert types["Running"] == "False"
        assert "Failed" not in types
    assert {"Started", "Running", "Complete"} <= set(room.events("a"))


def test_kubectl_get_tells_the_story(room: Lab) -> None:
    room.apply(rlvr(uri=play(steps=40, stepSeconds=0.25)))
    room.until_phase("RLVRJob", "run", "Running")
    room.until_step("RLVRJob", "run", 4)
    room.until(
        "the step is shown", lambda: room.status("RLVRJob", "run")["progress"]["step"] or None
    )
    header, line = room.cluster.kubectl("get", "rlvrj", namespace=room.namespace).splitlines()
    assert header.split()[:3] == ["NAME", "PHASE", "STEP"]
    assert line.split()[:2] == ["run", "Running"]
    everything = room.cluster.kubectl("get", "m2r", namespace=room.namespace)
    assert "rlvrjob.m2r.dev/run" in everything


def test_a_pod_has_no_token_and_may_write_nowhere_but_in_its_volumes(room: Lab) -> None:
    room.apply(rlvr(uri=play(steps=100, stepSeconds=0.2)))
    room.until_phase("RLVRJob", "run", "Running")
    (pod,) = room.pods("RLVRJob", "run")
    script = (
        "import os, pathlib, json\n"
        "def writable(p):\n"
        "  try:\n"
        "    pathlib.Path(p, 'x').write_text('x'); return True\n"
        "  except OSError: return False\n"
        "print(json.dumps({'uid': os.getuid(), 'token': os.path.exists('/var/run/secrets/"
        "kubernetes.io'), 'root': writable('/'), 'etc': writable('/etc'), 'tmp': writable('/tmp'),"
        "'cache': writable('/cache'), 'spec': writable('/etc/m2r')}))"
    )
    out = room.cluster.kubectl(
        "exec", pod["metadata"]["name"], "--", "python3", "-c", script, namespace=room.namespace
    )
    assert json.loads(out) == {
        "uid": 65532, "token": False, "root": False, "etc": False, "tmp": True, "cache": True,
        "spec": False,
    }  # fmt: skip


def test_a_run_waits_for_what_it_refers_to_and_then_starts_by_itself(room: Lab) -> None:
    waiting = rlvr("second")
    waiting["spec"]["model"] = {"from": {"kind": "SFTJob", "name": "first"}}
    room.apply(waiting)
    found = room.until("it waits", lambda: room.condition("RLVRJob", "second", "DependenciesReady"))
    assert (found["status"], found["reason"]) == ("False", "DependencyMissing")
    assert "SFTJob/first" in found["message"]
    room.apply(sft("first", uri=play(steps=12, stepSeconds=0.3)))
    room.until(
        "it says that the first one runs",
        lambda: (
            room.condition("RLVRJob", "second", "DependenciesReady")["reason"]  # type: ignore[index]
            == "DependencyRunning"
        ),
    )
    assert room.jobs("RLVRJob", "second") == []
    room.until_phase("SFTJob", "first", "Succeeded")
    room.until_phase("RLVRJob", "second", "Succeeded")


@pytest.mark.parametrize(("code", "reason"), [(64, "BadSpec"), (65, "BadData"), (78, "BadConfig")])
def test_permanent_exit_codes_fail_the_run_at_once(room: Lab, code: int, reason: str) -> None:
    room.apply(rlvr(uri=play(steps=2, stepSeconds=0.1, exit=code)))
    room.until_phase("RLVRJob", "run", "Failed")
    status = room.status("RLVRJob", "run")
    failed = room.condition("RLVRJob", "run", "Failed")
    assert failed is not None
    assert failed["reason"] == reason
    assert status["failure"]["exitCode"] == code
    assert status["attempt"] == 1


def test_a_crash_is_charged_and_the_next_attempt_goes_on(room: Lab) -> None:
    room.apply(
        rlvr(
            uri=play(steps=6, stepSeconds=0.2, crashAt=4),
            restartPolicy={"maxRestarts": 2, "backoffSeconds": 1, "maxBackoffSeconds": 4},
        )
    )
    room.until_phase("RLVRJob", "run", "Succeeded")
    status = room.status("RLVRJob", "run")
    assert status["attempt"] == 2
    assert status["restarts"] == {"charged": 1, "disruptions": 0}
    assert status["resumedFrom"]["step"] == 3
    assert status["failure"]["class"] == "Crash"
    made = [job["metadata"]["name"] for job in room.jobs("RLVRJob", "run")]
    assert made == ["run-rlvrj-1", "run-rlvrj-2"]


def test_the_same_step_crashing_twice_fails_the_run_with_that_reason(room: Lab) -> None:
    room.apply(
        rlvr(
            uri=play(steps=60, stepSeconds=0.5, crashAt=5, crashes=9, saveEvery=2),
            restartPolicy={"maxRestarts": 8, "backoffSeconds": 1, "maxBackoffSeconds": 1},
        )
    )
    room.until_phase("RLVRJob", "run", "Failed")
    failed = room.condition("RLVRJob", "run", "Failed")
    assert failed is not None
    assert failed["reason"] == "CrashLoopAtStep"
    assert room.status("RLVRJob", "run")["attempt"] == 2


def test_suspend_saves_and_stops_and_resume_goes_on(room: Lab) -> None:
    run = rlvr(uri=play(steps=30, stepSeconds=0.3, resumeAt=5))
    room.apply(run)
    room.until_step("RLVRJob", "run", 5)
    room.apply({**run, "spec": {**run["spec"], "suspend": True}})
    room.until_phase("RLVRJob", "run", "Suspended")
    room.until("its pods are gone", lambda: not room.live_pods("RLVRJob", "run"))
    before = room.status("RLVRJob", "run")
    time.sleep(3)
    assert room.live_pods("RLVRJob", "run") == []
    assert before.get("restarts", {}).get("charged", 0) == 0
    room.apply({**run, "spec": {**run["spec"], "suspend": False}})
    room.until_phase("RLVRJob", "run", "Succeeded")
    status = room.status("RLVRJob", "run")
    assert status["attempt"] == 2
    assert status.get("failure") is None
    assert {"Suspended", "Resumed"} <= set(room.events("run"))


def test_the_deadline_counts_running_time_only(room: Lab) -> None:
    room.apply(rlvr(uri=play(steps=600, stepSeconds=0.2), activeDeadlineSeconds=4))
    room.until_phase("RLVRJob", "run", "Failed")
    failed = room.condition("RLVRJob", "run", "Failed")
    assert failed is not None
    assert failed["reason"] == "DeadlineExceeded"
    assert 4 <= room.status("RLVRJob", "run")["activeSeconds"] <= 8
    room.until("its pods are gone", lambda: not room.live_pods("RLVRJob", "run"))


def test_a_run_that_stands_still_is_started_again(room: Lab) -> None:
    room.apply(
        rlvr(
            uri=play(steps=6, stepSeconds=0.2, hangAt=3, crashes=1),
            watchdog={"stallSeconds": 4, "action": "Restart"},
            restartPolicy={"maxRestarts": 0},
        )
    )
    room.until_phase("RLVRJob", "run", "Failed")
    status = room.status("RLVRJob", "run")
    assert status["failure"]["class"] == "Stalled"
    assert status["restarts"]["charged"] == 1


def test_a_missing_secret_and_a_missing_image_are_said_and_healed(room: Lab) -> None:
    room.cluster.delete("secret", "s3", namespace=room.namespace)
    room.apply(rlvr("keyless"), rlvr("imageless", image="m2r-nowhere:1"))
    for name, reason in (("keyless", "PodConfigError"), ("imageless", "ImagePullError")):
        found = room.until(
            f"{name} says what is missing",
            lambda name=name: room.condition("RLVRJob", name, "Degraded"),
        )
        assert (found["status"], found["reason"]) == ("True", reason)


def test_time_to_live_deletes_the_resource_and_its_children(room: Lab) -> None:
    room.apply(rlvr(uri=play(steps=1, stepSeconds=0.1), ttlSecondsAfterFinished=2))
    room.until("it is gone", lambda: room.try_run("RLVRJob", "run") is None)
    room.until("so are its children", lambda: not room.jobs("RLVRJob", "run"))
    room.until("and its pods", lambda: not room.pods("RLVRJob", "run"))


def test_delete_leaves_nothing(room: Lab) -> None:
    room.apply(rlvr(uri=play(steps=100, stepSeconds=0.2)))
    room.until_phase("RLVRJob", "run", "Running")
    room.cluster.delete("rlvrjobs.m2r.dev", "run", namespace=room.namespace)
    room.until("no Job is left", lambda: not room.jobs("RLVRJob", "run"))
    room.until("no pod is left", lambda: not room.pods("RLVRJob", "run"))
    selector = names.CHILDREN
    assert room.cluster.get("services", namespace=room.namespace, selector=selector)["items"] == []


def test_a_clean_lifecycle_takes_few_writes(room: Lab, tmp_path: Path) -> None:
    before = room.cluster.writes(user_agent=names.MANAGER)
    with watching(room.cluster, room.namespace, "rlvrjobs.m2r.dev", tmp_path) as history:
        room.apply(rlvr(uri=play(steps=20, stepSeconds=0.2)))
        room.until_phase("RLVRJob", "run", "Succeeded")
        room.until("the end is seen", lambda: history.of("run")[-1]["status"].get("completionTime"))
    phases = [run.get("status", {}).get("phase") for run in history.of("run")]
    assert phases[: phases.index("Running") + 1] == [None, "Pending", "Running"]
    spent = room.cluster.writes(user_agent=names.MANAGER) - before
    ours = {k: n for k, n in spent.items() if k[1] not in ("events", "leases")}
    assert ours.pop(("create", "jobs")) == 1
    # Besides those two: how far it is, that its pod has gone, that it is complete.
    assert sum(ours.values()) <= 5, ours
