"""An RLVR run with DAPO's dynamic sampling is resumed bit for bit; a collapse ends a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from runs import M2R, Golden
from trials import Trial, stages

DAPO = {
    "optimization.loss": "Dapo",
    "optimization.maskTruncated": True,
    "rollout.dynamicSampling.maxRounds": 2,
    "rollout.importanceSampling.kind": "TruncateToken",
}


def dapo(m2r: M2R, golden: Golden, home: Path) -> Trial:
    home.mkdir()
    made = Trial(m2r, golden, "rlvr", home)
    for path, value in DAPO.items():
        made.change(path, value)
    return made


def history(trial: Trial) -> list[dict[str, Any]]:
    lines = (trial.folder / "records/history.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_replaced_prompts_are_replayed_and_not_drawn_again(
    m2r: M2R, golden: Golden, tmp_path: Path
) -> None:
    calm = dapo(m2r, golden, tmp_path / "calm")
    done = calm.ended(calm.start())
    assert done.code == 0, done.err
    steps = history(calm)
    assert sum(step["redrawn"] for step in steps) > 0, "nothing was replaced: nothing is tested"
    assert any(step["zero_signal_left"] < step["zero_signal"] for step in steps)
    assert all(step["sampler_ratio"] == pytest.approx(1, abs=1e-4) for step in steps)
    redrawn = sum(v for step in steps for k, v in step.items() if k.startswith("redrawn/"))
    assert redrawn == sum(step["redrawn"] for step in steps)

    killed = dapo(m2r, golden, tmp_path / "killed")
    for point in ("before-journal:2", "before-journal:4", "before-save:1", "after-head:1"):
        killed.killed_at(point)
    assert any("-redraw" in key for journal in killed.journals for _, key in journal)
    done = killed.ended(killed.start())
    assert done.code == 0, done.err
    assert history(killed) == steps
    for part in ("model", "records/history.jsonl"):
        one, other = calm.folder / part, killed.folder / part
        files = [p for p in one.rglob("*") if p.is_file()] or [one]
        for file in files:
            same = other / file.relative_to(one)
            assert file.read_bytes() == same.read_bytes(), file
    assert killed.nothing_paid_twice()


@stages("rlvr")
def test_a_run_that_collapses_ends_with_the_reason_and_does_so_again(trial: Trial) -> None:
    trial.change("monitors.action", "Stop")
    trial.change("monitors.windowSteps", 3)
    trial.change("monitors.noSignal", 0.001)
    done = trial.ended(trial.start())
    assert done.code == 79, done.err
    (line,) = done.complaints
    assert "monitors: collapsed by step 2: NoSignal: " in line
    assert trial.last_words["exitCode"] == 79
    assert trial.step() == 2, "the checkpoint from before it is kept"
    again = trial.ended(trial.start())
    assert (again.code, again.complaints) == (79, [line])
