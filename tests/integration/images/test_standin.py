"""The stand-in for the trainer speaks as the trainer does: port, exit codes, last words."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from s3server import free_port

from m2r_train.api import RunMetadata, RunSpec, RunStorage, SFTSpec, resolved
from m2r_train.api.errors import ConfigError, DataError, FencedError, M2RError, Preempted, SpecError
from m2r_train.telemetry.metrics import MetricSet
from m2r_train.telemetry.server import StatusServer
from m2r_train.telemetry.termination import Termination

SCRIPT = Path(__file__).resolve().parents[2] / "cluster" / "standin" / "m2r"
QUICK = "stepSeconds=0.01"


def run_spec(folder: Path, query: str, attempt: int = 1) -> Path:
    """A run spec as the operator mounts it, with the play in the dataset's URI."""
    spec = SFTSpec.model_validate(
        {"model": {"preset": "tiny"}, "dataset": {"uri": f"file:///standin?{query}"}}
    )
    path = folder / "run.json"
    run = RunSpec(
        kind="SFTJob",
        metadata=RunMetadata(name="play", uid="0123456789abcdef"),
        attempt=attempt,
        storage=RunStorage(uri="file:///store"),
        seed=0,
        spec=resolved(spec),
    )
    path.write_text(run.to_json())
    return path


@contextmanager
def playing(folder: Path, query: str, attempt: int = 1) -> Iterator[tuple[Any, int]]:
    """The stand-in as a process of its own, and its port."""
    port = free_port()
    command = [sys.executable, str(SCRIPT), "stage", "--port", str(port)]
    command += ["--spec", str(run_spec(folder, query, attempt))]
    env = {"M2R_TERMINATION_LOG": str(folder / "last"), "PATH": "/usr/bin:/bin"}
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    try:
        yield process, port
    finally:
        process.kill()
        process.wait()


def fetch(port: int, page: str, seconds: float = 10) -> str:
    """A page of the stand-in's, as soon as it answers."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def last_words(folder: Path) -> dict[str, Any]:
    """The termination message."""
    return dict(json.loads((folder / "last").read_text()))


@pytest.mark.parametrize(
    ("query", "attempt", "code", "step", "first"),
    [
        (f"steps=3&{QUICK}", 1, 0, 3, None),
        (f"steps=3&exit=65&{QUICK}", 1, 65, 3, None),
        (f"steps=9&crashAt=4&{QUICK}", 1, 139, 3, None),
        (f"steps=9&crashAt=4&crashCode=1&{QUICK}", 1, 1, 3, None),
        (f"steps=9&crashAt=4&{QUICK}", 2, 0, 9, 3),
        (f"steps=9&crashAt=4&crashes=2&{QUICK}", 2, 139, 3, 3),
        (f"steps=9&crashAt=8&saveEvery=3&{QUICK}", 2, 0, 9, 6),
        (f"steps=9&resumeAt=5&{QUICK}", 2, 0, 9, 5),
        (f"steps=9&resumeAt=5&{QUICK}", 1, 0, 9, None),
    ],
)
def test_it_plays_what_the_run_spec_tells(
    tmp_path: Path, query: str, attempt: int, code: int, step: int, first: int | None
) -> None:
    with playing(tmp_path, query, attempt) as (process, _):
        assert process.wait(30) == code
    told = last_words(tmp_path)
    assert (told["exitCode"], told["step"], told["attempt"]) == (code, step, attempt)
    assert told.get("resumedFrom", {}).get("step") == first


def test_it_answers_at_once_and_stops_with_75_when_told_to(tmp_path: Path) -> None:
    with playing(tmp_path, "steps=1000&stepSeconds=0.05") as (process, port):
        status = json.loads(fetch(port, "status"))
        assert (status["totalSteps"], status["attempt"]) == (1000, 1)
        assert fetch(port, "healthz") == "ok\n"
        while json.loads(fetch(port, "status"))["step"] == 0:
            time.sleep(0.02)
        assert "\nm2r_steps_planned 1000\n" in fetch(port, "metrics")
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 75
    told = last_words(tmp_path)
    assert (told["exitCode"], told["reason"]) == (75, "Preempted")
    assert told["lastCheckpoint"]["step"] == told["step"] > 0


def test_it_tells_what_the_trainer_tells_under_the_same_names(tmp_path: Path) -> None:
    with playing(tmp_path, "steps=1000&stepSeconds=0.01&resumeAt=2", attempt=2) as (process, port):
        status = json.loads(fetch(port, "status"))
        process.send_signal(signal.SIGTERM)
        process.wait(5)
    assert status.keys() == StatusServer(MetricSet()).status().keys()
    names = {re.sub("_(.)", lambda m: m[1].upper(), one.name) for one in fields(Termination)}
    assert set(last_words(tmp_path)) <= names


@pytest.mark.parametrize("error", [SpecError, DataError, Preempted, FencedError, ConfigError])
def test_its_reasons_are_the_trainers(tmp_path: Path, error: type[M2RError]) -> None:
    with playing(tmp_path, f"steps=1&exit={error.exit_code}&{QUICK}") as (process, _):
        assert process.wait(30) == error.exit_code
    assert last_words(tmp_path)["reason"] == error.__name__


@pytest.mark.parametrize(
    ("kind", "name"),
    [("SFTJob", "modelUri"), ("DataSynthesisJob", "datasetUri"), ("EvalJob", "scores")],
)
def test_its_outputs_are_those_of_the_kind(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"kind": kind, "spec": f"file:///standin?steps=1&{QUICK}"}))
    command = [
        sys.executable,
        str(SCRIPT),
        "stage",
        "--port",
        str(free_port()),
        "--spec",
        str(path),
    ]
    env = {"M2R_TERMINATION_LOG": str(tmp_path / "last")}
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    assert name in last_words(tmp_path)["outputs"]


def test_a_step_that_hangs_keeps_the_port_and_hears_sigterm(tmp_path: Path) -> None:
    with playing(tmp_path, f"steps=9&hangAt=2&{QUICK}") as (process, port):
        while json.loads(fetch(port, "status"))["step"] < 1:
            time.sleep(0.02)
        time.sleep(0.2)
        assert json.loads(fetch(port, "status"))["step"] == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 75


def test_a_deaf_one_does_not_hear_sigterm(tmp_path: Path) -> None:
    with playing(tmp_path, f"steps=30&deaf=1&{QUICK}") as (process, port):
        fetch(port, "healthz")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_play_it_does_not_know_is_a_bad_spec(tmp_path: Path) -> None:
    with playing(tmp_path, "stepz=3") as (process, _):
        assert process.wait(30) == 64
    assert "stepz" in last_words(tmp_path)["message"]
