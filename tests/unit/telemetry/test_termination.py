"""The termination message: always JSON, never longer than the kubelet keeps."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2r_train.telemetry.termination import (
    LIMIT_BYTES,
    PATH_VARIABLE,
    Termination,
    termination_path,
    write_termination,
)


def test_the_document_has_the_names_of_the_status() -> None:
    message = Termination(
        exit_code=75, reason="Preempted", message="stopped after step 20, state saved", step=20,
        total_steps=100, metrics={"reward_mean": 0.5},
        last_checkpoint={"uri": "s3://lab/x", "step": 20}, phase="Running", attempt=2, epoch=3,
        last_step_time=1.5, resumed_from={"step": 10, "lostSteps": 2},
    )  # fmt: skip
    assert json.loads(message.to_bytes()) == {
        "exitCode": 75, "reason": "Preempted", "message": "stopped after step 20, state saved",
        "step": 20, "totalSteps": 100, "metrics": {"reward_mean": 0.5},
        "lastCheckpoint": {"uri": "s3://lab/x", "step": 20}, "phase": "Running", "attempt": 2,
        "epoch": 3, "lastStepTime": 1.5, "resumedFrom": {"step": 10, "lostSteps": 2},
    }  # fmt: skip


def test_zero_is_kept_and_nothing_is_left_out() -> None:
    assert json.loads(Termination(exit_code=0, reason="Done", step=0).to_bytes()) == {
        "exitCode": 0, "reason": "Done", "step": 0,
    }  # fmt: skip


def test_of_many_figures_the_headlines_are_kept() -> None:
    """Else the operator would know neither scores nor digest, and no gate would be reached."""
    headline = {"value": 100 / 3, "n": 5130, "stderr": 0.6613124}
    figures = {"overall": headline} | {f"subject/{i}": headline for i in range(100)}
    names = [f"benchmark-{i}" for i in range(16)]
    words = Termination(
        exit_code=0, reason="Succeeded", message="done in 1h", metrics={"score": 33.3},
        outputs={"digest": "d" * 64, "scores": dict.fromkeys(names, figures)},
    )  # fmt: skip
    told = json.loads(words.to_bytes())
    assert told["message"] == "done in 1h"
    assert told["metrics"] == {"score": 33.3}
    assert told["outputs"]["digest"] == "d" * 64
    assert told["outputs"]["scores"] == {name: {"overall": headline} for name in names}


TEXT = st.text(max_size=60).map(lambda text: text * 200)


@given(
    message=TEXT,
    reason=TEXT,
    metrics=st.dictionaries(TEXT, st.floats(), max_size=3),
    checkpoint=st.none() | st.dictionaries(TEXT, TEXT, max_size=2),
)
def test_any_content_fits_and_parses(
    message: str, reason: str, metrics: dict[str, float], checkpoint: dict[str, str] | None
) -> None:
    data = Termination(
        exit_code=1, reason=reason, message=message, step=7, metrics=metrics,
        last_checkpoint=checkpoint,
    ).to_bytes()  # fmt: skip
    assert len(data) <= LIMIT_BYTES
    assert json.loads(data)["exitCode"] == 1
    assert json.loads(data)["step"] == 7


def test_a_long_message_keeps_its_head_and_its_tail() -> None:
    text = "first cause " + "ü" * 9000 + " last line"
    data = Termination(exit_code=1, reason="Crash", message=text, metrics={"loss": 1.0}).to_bytes()
    document = json.loads(data)
    assert LIMIT_BYTES - 8 <= len(data) <= LIMIT_BYTES
    assert document["message"].startswith("first cause")
    assert document["message"].endswith("last line")
    assert document["metrics"] == {"loss": 1.0}


def test_a_secret_in_the_message_does_not_leave_the_pod() -> None:
    data = Termination(exit_code=78, reason="Store", message="Bearer hunter2hunter2").to_bytes()
    assert b"hunter2" not in data


def test_the_environment_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "termination-log"
    target.write_bytes(b"x" * 9999)  # what an earlier container left is replaced, not mixed
    monkeypatch.setenv(PATH_VARIABLE, str(target))
    assert write_termination(Termination(exit_code=0, reason="Done")) == target
    assert json.loads(target.read_bytes()) == {"exitCode": 0, "reason": "Done"}


def test_without_a_kubelet_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "m2r_train.telemetry.termination.DEFAULT_PATH"
    monkeypatch.setattr(module, tmp_path / "termination-log")
    assert termination_path({}) is None
    (tmp_path / "termination-log").touch()
    assert termination_path({}) == tmp_path / "termination-log"
