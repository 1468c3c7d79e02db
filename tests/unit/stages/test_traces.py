"""Traces of a run: whole groups by step, the same bytes however often a run is killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from unit.stages.training_runs import (
    STEPS,
    Died,
    dataset,
    killed_and_resumed,
    rlvr_spec,
    run,
    sft_spec,
)

from m2r_train.api.errors import DataError
from m2r_train.api.rlvr import Traces
from m2r_train.cli import app
from m2r_train.report.samples import MAX_COMPLETIONS, ImageBudget, whole
from m2r_train.stages.context import Context
from m2r_train.stages.traces import Tracer
from m2r_train.store import LocalStore
from m2r_train.telemetry.tracefiles import trace_key, traced_step
from m2r_train.tracing import traced_run, traced_steps, traces_of

pytestmark = pytest.mark.global_rng("transformers makes a model's parameters with the global one")


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((folder / "traces").glob("*"))}


def spec_file(ctx: Context) -> None:
    """What readers know a run by; ``stages.entry`` writes it."""
    ctx.run.store.put("spec.json", ctx.run_spec.to_json().encode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps, both prompts of each."""
    home = tmp_path_factory.mktemp("traced")
    spec_file(run("RLVRJob", home / "run", rlvr_spec(dataset(home / "data"))))
    return home / "run"


def test_every_step_has_whole_groups_with_all_they_earned(folder: Path) -> None:
    found = files(folder)
    assert list(found) == [Path(trace_key(s)).name for s in range(STEPS)]
    history = [json.loads(x) for x in (folder / "records/history.jsonl").read_text().splitlines()]
    for record, lines in zip(history, found.values(), strict=True):
        traces = [json.loads(line) for line in lines.splitlines()]
        assert [t["step"] for t in traces] == [record["step"]] * 2
        assert {t["task"] for t in traces} == {record["task"]}
        completions = [one for t in traces for one in t["completions"]]
        assert len(completions) == 8
        for figure, key in (("reward", "reward"), ("completion_tokens", "tokens")):
            mean = sum(one[key] for one in completions) / 8
            assert mean == pytest.approx(record[figure])
        for trace in traces:
            assert trace["question"] in trace["prompt"]
            assert trace["prompt"].endswith("<|im_start|>")
            assert trace["prompt_tokens"] >= 4
            total = sum(one["advantage"] for one in trace["completions"])
            assert total == pytest.approx(0, abs=1e-6)


def test_a_run_that_is_killed_after_each_save_writes_the_same_bytes(
    folder: Path, tmp_path: Path
) -> None:
    spec = rlvr_spec(dataset(tmp_path / "data"))
    assert killed_and_resumed("RLVRJob", tmp_path / "run", spec) == STEPS + 1
    assert files(tmp_path / "run") == files(folder)


def test_a_kill_between_traces_and_their_checkpoint_leaves_no_other_bytes(
    folder: Path, tmp_path: Path
) -> None:
    spec = rlvr_spec(dataset(tmp_path / "data"))

    def dies(name: str) -> None:
        if name == "after-traces":
            raise Died

    with pytest.raises(Died):
        run("RLVRJob", tmp_path / "run", spec, probe=dies)
    assert files(tmp_path / "run") == {"step-000000.jsonl": files(folder)["step-000000.jsonl"]}
    run("RLVRJob", tmp_path / "run", spec, number=2)
    assert files(tmp_path / "run") == files(folder)


@pytest.mark.parametrize(
    ("asked", "steps", "groups"),
    [({"every": 2}, [0, 2], 2), ({"perStep": 1}, [0, 1, 2], 1), ({"perStep": 0}, [], 0)],
)
def test_a_spec_says_what_is_kept(
    asked: dict[str, int], steps: list[int], groups: int, tmp_path: Path
) -> None:
    run("RLVRJob", tmp_path / "run", {**rlvr_spec(dataset(tmp_path / "data")), "traces": asked})
    found = files(tmp_path / "run")
    assert [traced_step(f"traces/{name}") for name in found] == steps
    assert {len(data.splitlines()) for data in found.values()} == ({groups} if groups else set())


@pytest.mark.parametrize(("total", "every"), [(1, 1), (500, 1), (501, 2), (1000, 2), (5001, 11)])
def test_a_run_of_any_length_keeps_at_most_some_500_steps(total: int, every: int) -> None:
    assert Tracer(Any, Traces(), total, Any)._every == every  # type: ignore[arg-type]
    assert len(range(0, total, every)) <= 500


# readers


def invoke(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["traces", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_the_command_prints_a_step_and_can_choose(folder: Path) -> None:
    assert invoke(str(folder)).split() == ["0", "1", "2"]
    first, second = traces_of(traced_run(str(folder)), 1)
    page = invoke(str(folder), "--step", "1")
    for trace in (first, second):
        assert f"step 1 · {trace['task']} · {trace['id']}" in page
    assert page.count("advantage") == 8
    told = invoke(str(folder), "--step", "1", "--problem", second["id"], "--json")
    assert json.loads(told) == second
    assert (
        len(invoke(str(folder), "--step", "1", "--task", first["task"], "--json").split("\n")) > 1
    )


def test_a_step_or_problem_that_is_not_there_is_one_line(folder: Path) -> None:
    found = traced_run(str(folder))
    assert traced_steps(found) == [0, 1, 2]
    with pytest.raises(DataError, match="step 7 has no traces; kept are 0, 1, 2"):
        traces_of(found, 7)
    with pytest.raises(DataError, match=r"no such trace in step 1; it has q\d+ \("):
        traces_of(found, 1, problem="nobody")


def test_only_a_run_of_reinforcement_learning_has_traces(tmp_path: Path) -> None:
    spec_file(run("SFTJob", tmp_path / "run", sft_spec(dataset(tmp_path / "data"))))
    with pytest.raises(DataError, match="no run of an RLVRJob; give the folder of one"):
        traced_run(str(tmp_path / "run"))


def test_the_report_shows_the_steps_that_are_asked_for(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    arguments = ["report", str(folder), "-o", str(page), "--step", "1", "--step", "2"]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    text = page.read_text()
    assert "<h4>step 1</h4>" in text and "<h4>step 2</h4>" in text and "First: step" not in text
    with pytest.raises(DataError, match="--step 9: no run has traces of it"):
        CliRunner().invoke(app, [*arguments, "--step", "9"], catch_exceptions=False)


def test_a_whole_trace_is_not_cut() -> None:
    trace = {
        "step": 3, "task": "t", "id": "a",
        "completions": [{"text": "x" * 9000, "reward_task": 1.0}] * (MAX_COMPLETIONS + 5),
    }  # fmt: skip
    ((card,),) = [group.cards for group in whole([trace], ImageBudget())]
    assert (len(card.completions), card.more) == (MAX_COMPLETIONS + 5, 0)
    assert {len(one.text) for one in card.completions} == {9000}


def test_traces_that_a_fenced_attempt_still_holds_stay_unwritten(tmp_path: Path) -> None:
    """An attempt that a newer one has replaced writes nothing over its files."""
    from unit.stages.training_runs import context

    from m2r_train.stages.saving import Saver
    from m2r_train.store import Run

    spec = rlvr_spec(dataset(tmp_path / "data"))
    old = context("RLVRJob", tmp_path / "run", spec)
    Run.claim(LocalStore(tmp_path / "run"), 2)
    with pytest.raises(Exception, match=r"newer|fenced|attempt"):
        Saver(old)._put_traces({trace_key(0): b"{}\n"})
    assert not (tmp_path / "run" / "traces").exists()
