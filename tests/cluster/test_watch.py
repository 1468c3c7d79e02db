"""``m2r run --watch`` and ``kubectl get -o wide`` against a real API server."""

from __future__ import annotations

import signal
import subprocess
import sys

from lab import Lab
from plays import play, rlvr, sft


def watching(room: Lab, *arguments: str) -> subprocess.Popen[str]:
    """The command in a process; its lines come as they are written."""
    where = ("--kubeconfig", str(room.cluster.kubeconfig), "--namespace", room.namespace)
    command = [sys.executable, "-m", "m2r_train", "run", "--watch", *where, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_it_follows_runs_to_their_end_and_says_how_they_ended(room: Lab) -> None:
    room.apply(rlvr("good", uri=play(steps=20, stepSeconds=0.3)))
    room.apply(sft("bad", uri=play(steps=4, stepSeconds=0.3, exit=65)))
    with watching(room, "--until-done") as process:
        out, err = process.communicate(timeout=240)
    assert (process.returncode, err) == (1, "")
    lines = out.splitlines()
    good = [line for line in lines if line.startswith(f"{room.namespace}/good RLVRJob ")]
    assert any(" Running" in line for line in good)
    assert " Succeeded step 20/20 (100 %)" in good[-1]
    assert any("Complete" in line or "Running" in line for line in good if " - " in line)
    bad = [line for line in lines if line.startswith(f"{room.namespace}/bad SFTJob ")]
    assert " Failed" in bad[-1]


def test_ctrl_c_ends_it_and_the_run_goes_on(room: Lab) -> None:
    room.apply(rlvr(uri=play(steps=200, stepSeconds=0.2)))
    room.until_phase("RLVRJob", "run", "Running")
    with watching(room) as process:
        assert process.stdout is not None
        assert "/run RLVRJob Running" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")
    assert room.phase("RLVRJob", "run") == "Running"


def test_the_wide_columns_show_reasons(room: Lab) -> None:
    room.apply(rlvr(uri=play(steps=200, stepSeconds=0.2)))
    room.until_phase("RLVRJob", "run", "Running")
    header, line = room.cluster.kubectl(
        "get", "rlvrj", "-o", "wide", namespace=room.namespace
    ).splitlines()
    for title in ("INPUTS", "QUEUE", "PODS", "TROUBLE", "FAILED", "PREEMPTIONS", "JOB"):
        assert title in header.split()
    assert line[header.index("INPUTS") :].split()[0] == "Resolved"
    assert line[header.index("PODS") :].split()[0] == "PodsRunning"
    assert line[header.index("JOB") :].split()[0] == "run-rlvrj-1"
