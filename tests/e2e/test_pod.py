"""What a pod tells while it runs and when it ends, and that it leaves when it is asked to."""

from __future__ import annotations

import http.client
import json
import signal
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
from runs import M2R, Process
from s3server import free_port
from trials import Trial, stages, without_torch

from m2r_train.core.rng import derive_seed


def asked(process: Process, port: int, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The first ``GET /status`` in which ``wanted`` stands."""
    seen: list[dict[str, Any]] = []

    def look() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5) as reply:
                seen.append(json.loads(reply.read()))
        except (OSError, http.client.HTTPException):
            return False  # not up yet, or gone in the middle of an answer
        return wanted.items() <= seen[-1].items()

    assert process.when(look), process.wait().err
    return seen[-1]


@stages("rlvr")
def test_status_is_served_while_torch_is_still_being_imported(trial: Trial) -> None:
    port = free_port()
    process = trial.start(port=port, **without_torch(trial.home))
    told = asked(process, port, {"attempt": 1})
    assert (told["phase"], told["epoch"], told["step"]) == ("Starting", None, 0)


@stages("rlvr", "eval-rlvr")
def test_sigterm_while_torch_is_being_imported_ends_at_once(trial: Trial) -> None:
    port = free_port()
    process = trial.start(port=port, **without_torch(trial.home))
    asked(process, port, {"attempt": 1})
    time.sleep(1.0)  # into the import, which would take an hour
    process.signal(signal.SIGTERM)
    done = process.wait(120)
    assert (done.code, len(done.complaints)) == (75, 1)
    assert "stopped by SIGTERM before it began" in done.complaints[0]
    assert "Traceback" not in done.err
    words = trial.last_words
    assert (words["exitCode"], words["reason"], words["phase"]) == (75, "Preempted", "Starting")
    assert not trial.folder.exists()


@pytest.mark.slow
@stages("rlvr")
def test_sigterm_at_any_moment_of_the_start_ends_with_75_and_last_words(trial: Trial) -> None:
    """Imports of the real libraries, cut off wherever it happens to be."""
    random = Random(derive_seed(0, "stops"))
    for _ in range(8):
        (trial.m2r.home / "termination-log").unlink(missing_ok=True)
        process = trial.start()
        assert process.when(lambda p=process: p.catches(signal.SIGTERM))
        time.sleep(random.uniform(0.0, 6.0))
        process.signal(signal.SIGTERM)
        done = process.wait(120)
        assert done.code in (0, 75), done.err
        assert "Traceback" not in done.err
        assert trial.last_words["exitCode"] == done.code
    trial.journals.clear()
    trial.finish()


@stages("data", "rlvr")
def test_a_finished_run_answers_with_its_outcome_and_needs_no_torch(trial: Trial) -> None:
    trial.finish()
    first = trial.last_words
    assert (first["attempt"], first["epoch"]) == (1, 1)
    assert "resumedFrom" not in first
    assert trial.start(**without_torch(trial.home)).wait(120).code == 0
    again = trial.last_words
    for key in ("exitCode", "reason", "outputs", "step", "totalSteps"):
        assert again[key] == first[key]
    assert "resumedFrom" not in again


@pytest.mark.parametrize(
    ("trial", "points", "resumed"),
    [
        ("rlvr", ("before-save:2",), {"step": 2, "lostSteps": 1}),  # step 3 is known to be begun
        ("rlvr", ("before-save:1",), {"step": 0, "lostSteps": 1}),
        ("sft", ("after-save:1",), {"step": 3, "lostSteps": None}),
        ("data", ("before-journal:3",), {"step": 2, "lostSteps": 0}),
    ],
    ids=["rlvr", "rlvr without a checkpoint", "sft", "data"],
    indirect=["trial"],
)
def test_an_attempt_tells_where_it_goes_on_and_what_was_lost(
    trial: Trial, points: tuple[str, ...], resumed: dict[str, Any]
) -> None:
    for point in points:
        trial.killed_at(point)
    trial.finish()
    words = trial.last_words
    assert (words["epoch"], words["resumedFrom"]) == (2, resumed)
    assert words["lastStepTime"] <= time.time()


@stages("rlvr")
def test_sigterm_in_the_middle_of_a_long_rollout_does_not_wait_for_its_end(trial: Trial) -> None:
    """An untrained model hardly ever ends a completion: the step would take minutes."""
    trial.change("model", {"preset": "tiny", "uri": None, "from": None})
    trial.change("rollout.maxCompletionTokens", 4000)
    trial.change("rollout.groupSize", 64)
    port = free_port()
    process = trial.start(port=port)
    told = asked(process, port, {"phase": "Running"})
    assert (told["step"], told["totalSteps"], told["epoch"]) == (0, 6, 1)
    process.signal(signal.SIGTERM)
    done = trial.ended(process)
    assert (done.code, len(done.complaints)) == (75, 1)
    assert trial.journal() == set()  # the rollouts were not finished
    assert trial.last_words["step"] == 0


def test_a_run_spec_that_is_wrong_leaves_last_words_too(m2r: M2R, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text('{"kind": "RLVRJob"}')
    done = m2r("stage", "--spec", tmp_path / "spec.json", "--port", 0)
    assert done.code == 64
    words = json.loads((m2r.home / "termination-log").read_text())
    assert words["exitCode"] == 64
    assert "metadata" in words["message"]
