"""In which order runs start, what a failure takes with it, and what is written for kubectl."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from unit.sweeps.test_expansion import sweep_file

from m2r_train.api import ConfigError, RunSpec, load_manifests, order
from m2r_train.api.errors import DataError
from m2r_train.api.runspec import RunStorage
from m2r_train.stages.stop import StopRequest
from m2r_train.store import open_store
from m2r_train.store.checkpoints import Run
from m2r_train.sweeps.command import board_of, planned, run_sweep
from m2r_train.sweeps.judging import finished_arms
from m2r_train.sweeps.running import Board, carry_all
from m2r_train.sweeps.telling import plan_rows, plan_table, sweep_summary, write_manifests


def board(folder: Path, **changes: Any) -> Board:
    runs = planned(sweep_file(folder, **changes), None)
    return board_of(runs, RunStorage(uri=(folder / "store").as_uri()), folder / "cache")


def finish(spec: RunSpec) -> Mapping[str, Any]:
    """What a stage leaves, without its work: the digest tells its name and inputs."""
    name = spec.metadata.name
    outcome = {"steps": 1, "step": 1, "digest": f"of-{name}", "modelUri": f"file:///{name}"}
    store = open_store(spec.storage.uri).under(spec.run_prefix)
    Run.claim(store, 1).finish(outcome)
    store.put("spec.json", spec.to_json().encode())
    return outcome


def no_word(_: str) -> None: ...


def test_all_run_after_what_they_need_and_once(tmp_path: Path) -> None:
    begun: list[RunSpec] = []

    def carry(spec: RunSpec) -> Mapping[str, Any]:
        begun.append(spec)
        return finish(spec)

    one = board(tmp_path)
    carry_all(one, [carry], StopRequest(), no_word)
    names = [spec.metadata.name for spec in begun]
    assert len(names) == len(set(names)) == len(one.runs) == 16
    for spec in begun:
        for given in spec.inputs.values():
            assert given.uri.removeprefix("file:///") in names[: names.index(spec.metadata.name)]
    assert {spec.threads for spec in begun} == {1}
    assert begun[-1].metadata.labels["m2r.dev/sweep"] == "reward"


def test_what_is_done_is_not_run_again_and_the_plan_says_so(tmp_path: Path) -> None:
    first = board(tmp_path)
    assert {row[-1] for row in plan_rows(first)} == {""}
    carry_all(first, [finish], StopRequest(), no_word)
    again = board(tmp_path)
    assert {row[-1] for row in plan_rows(again)} == {"done"}
    assert "0 of 16 runs to do" in plan_table(again)
    carry_all(again, [lambda spec: pytest.fail(spec.metadata.name)], StopRequest(), no_word)
    more = board(tmp_path, seeds=[0, 1, 2])
    left = {row[0] for row in plan_rows(more) if not row[-1]}
    assert len(left) == 8
    assert all(name.endswith("-s2") for name in left)
    steeper = {"ednm": {}, "binary": {"rlvr.spec.rewards.ednm.lambda": 5}}
    changed = board(tmp_path, arms=steeper)
    assert {row[0] for row in plan_rows(changed) if not row[-1]} == {
        f"{kind}-binary-s{seed}"
        for seed in (0, 1)
        for kind in ("RLVRJob/rlvr", "EvalJob/eval-rlvr")
    }


def test_lanes_work_at_the_same_time(tmp_path: Path) -> None:
    """Each of two waits until the other has begun too: alone, none of them would go on."""
    both = threading.Barrier(2)

    def carry(spec: RunSpec) -> Mapping[str, Any]:
        if spec.metadata.name.startswith("data-"):
            both.wait(60)
        return finish(spec)

    one = board(tmp_path)
    carry_all(one, [carry, carry], StopRequest(), no_word)
    assert all(one.is_done(run) for run in one.runs)


def test_a_failure_takes_what_needs_it_and_no_more(tmp_path: Path) -> None:
    def carry(spec: RunSpec) -> Mapping[str, Any]:
        if spec.metadata.name == "rlvr-binary-s0":
            raise DataError("broken")
        return finish(spec)

    for carriers in ([carry], [carry, carry]):
        one = board(tmp_path / str(len(carriers)))
        carry_all(one, carriers, StopRequest(), no_word)
        assert one.code == DataError.exit_code
        left = {run.resource.name for run in one.runs if not one.is_done(run)}
        assert left == {"rlvr-binary-s0", "eval-rlvr-binary-s0"}
        broken, lost = one.complaints()
        assert broken.endswith("RLVRJob/rlvr-binary-s0: broken")
        assert lost == "not run, as what they need failed: EvalJob/eval-rlvr-binary-s0"
        summary = sweep_summary(one)
        assert len(summary["resources"]) == 14
        assert summary["failed"] == [broken, lost]


def test_a_stop_begins_nothing_more(tmp_path: Path) -> None:
    stop, begun = StopRequest(), []

    def carry(spec: RunSpec) -> Mapping[str, Any]:
        begun.append(spec.metadata.name)
        stop.told("SIGTERM", 0.0)
        return finish(spec)

    asked: list[bool] = []
    carry_all(board(tmp_path), [carry, carry], stop, no_word, lambda: asked.append(True))
    assert set(begun) <= {"data-s0", "data-s1"}
    assert asked


def test_written_manifests_are_what_would_run_and_are_valid(tmp_path: Path) -> None:
    runs = planned(sweep_file(tmp_path), "0-1")
    written = write_manifests(runs, tmp_path / "out")
    assert len(written) == len(runs) == 16
    resources = {r.name: r for r in order(load_manifests([tmp_path / "out"]))}
    for run in runs:
        assert resources[run.resource.name].job == run.resource.job
    document = yaml.safe_load((tmp_path / "out/rlvrjob-rlvr-binary-s1.yaml").read_text())
    assert document["metadata"]["labels"]["m2r.dev/arm"] == "binary"
    assert write_manifests(runs, tmp_path / "out") == written
    (tmp_path / "out/other.yaml").write_text("")
    with pytest.raises(ConfigError, match=r"holds other\.yaml of something else; name an empty"):
        write_manifests(runs, tmp_path / "out")
    with pytest.raises(ConfigError, match="is no folder"):
        write_manifests(runs, tmp_path / "sweep.yaml")


def test_the_runs_of_a_sweep_are_those_of_its_file_whatever_else_the_store_has(
    tmp_path: Path,
) -> None:
    """Another sweep has run an arm of the same name with another value: it is not this sweep's."""
    steep: dict[str, Any] = {"ednm": {}, "binary": {"rlvr.spec.rewards.ednm.lambda": 5}}
    carry_all(board(tmp_path, arms=steep, name="other"), [finish], StopRequest(), no_word)
    mine = board(tmp_path)
    assert {(one.arm, one.base) for one in finished_arms(mine)} == {
        ("ednm", "rlvr"),
        ("ednm", "eval-rlvr"),
    }
    carry_all(mine, [finish], StopRequest(), no_word)
    found = finished_arms(mine)
    assert len(found) == 8
    kinds = {
        one.run.spec.spec["rewards"]["ednm"]["kind"]
        for one in found
        if (one.base, one.arm) == ("rlvr", "binary")
    }
    assert kinds == {"Binary"}


def test_what_this_machine_cannot_do_is_written_for_a_cluster_and_refused_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("m2r_train.stages.support.why_no_vllm", lambda: "vllm is not installed")
    arms = {"gpu": {"rlvr.spec.rollout.engine": "vllm"}}
    one = board(tmp_path, arms=arms)
    assert write_manifests(one.runs, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"rlvr-gpu-s0: spec\.rollout\.engine: "):
        run_sweep(one, 1, StopRequest())
    assert not (tmp_path / "store").exists(), "nothing has begun"
