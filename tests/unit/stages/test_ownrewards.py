"""Own rewards in whole runs: what they add, where they are told, when they are refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from unit.stages.training_runs import (
    context,
    dataset,
    history,
    killed_and_resumed,
    result,
    rlvr_spec,
    run,
)

from m2r_train.api.errors import DataError
from m2r_train.stages.ownrewards import canaries, own_rewards
from m2r_train.store import LocalStore, pinned

pytestmark = pytest.mark.global_rng("transformers makes a model's parameters with the global one")

# from 0 to 1, other for nearly every completion
SPREAD = (
    "import zlib\n"
    "def reward(completion, problem):\n"
    "    return zlib.crc32((problem['id'] + completion).encode()) / 2**32\n"
)


def spec_with(folder: Path, source: str = SPREAD, **fields: Any) -> dict[str, Any]:
    """An RLVR run with one own reward and no penalty."""
    (folder / "spread.py").write_text(source)
    spec = rlvr_spec(folder / "data" if (folder / "data").exists() else dataset(folder / "data"))
    spec["rewards"] = {"own": [{"name": "spread", "uri": f"{folder.as_uri()}/spread.py", **fields}]}
    return spec


def traces(folder: Path) -> list[dict[str, Any]]:
    """The completions of the run's traces."""
    lines = (folder / "records" / "traces.jsonl").read_text().splitlines()
    return [c for line in lines for c in json.loads(line)["completions"]]


def test_it_adds_to_the_total_and_is_told_everywhere(tmp_path: Path) -> None:
    spec = spec_with(tmp_path, weight=0.5)
    ctx = run("RLVRJob", tmp_path / "run", spec)
    for record in history(tmp_path / "run"):
        assert 0.0 < record["own/spread"] < 1.0
        assert record["reward"] == pytest.approx(
            record["exact"] + 0.1 * record["format_valid"] + 0.5 * record["own/spread"]
        )
    assert b'component="own/spread"' in ctx.metrics.exposition()
    for one in traces(tmp_path / "run"):
        assert one["reward"] == pytest.approx(
            one["reward_task"] + 0.1 * one["reward_format"] + 0.5 * one["reward_own"]["spread"]
        )
    assert len({one["reward_own"]["spread"] for one in traces(tmp_path / "run")}) > 3


def test_one_that_replaces_is_task_reward_and_accuracy(tmp_path: Path) -> None:
    run("RLVRJob", tmp_path / "run", spec_with(tmp_path, use="Replace", weight=2.0))
    for record in history(tmp_path / "run"):
        assert record["accuracy"] == pytest.approx(record["own/spread"])
        assert record["reward"] == pytest.approx(
            2.0 * record["own/spread"] + 0.1 * record["format_valid"]
        )
        assert "exact" not in record


def test_a_killed_run_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    spec = spec_with(tmp_path)
    run("RLVRJob", tmp_path / "calm", spec)
    assert killed_and_resumed("RLVRJob", tmp_path / "killed", spec) > 2
    assert result(tmp_path / "killed") == result(tmp_path / "calm")


def test_a_changed_file_does_not_go_on(tmp_path: Path) -> None:
    spec = spec_with(tmp_path)
    ctx = context("RLVRJob", tmp_path / "run", spec)
    with own_rewards(ctx, ctx.run_spec.parsed_spec.rewards.own, 0.1):
        pass
    (tmp_path / "spread.py").write_text(SPREAD + "# another\n")
    changed = context("RLVRJob", tmp_path / "run", spec, number=2)
    with (
        pytest.raises(DataError, match=r"spec\.rewards\.own\[0\]: .*spread\.py has changed since"),
        own_rewards(changed, changed.run_spec.parsed_spec.rewards.own, 0.1),
    ):
        pass
    (tmp_path / "spread.py").write_text(SPREAD)
    again = context("RLVRJob", tmp_path / "run", spec, number=3)
    with own_rewards(again, again.run_spec.parsed_spec.rewards.own, 0.1):
        pass


@pytest.mark.parametrize("right", [True, False])
def test_a_digest_in_the_manifest_holds(tmp_path: Path, right: bool) -> None:
    digest = hashlib.sha256(SPREAD.encode() + b"" if right else b"x").hexdigest()
    ctx = context("RLVRJob", tmp_path / "run", spec_with(tmp_path, sha256=digest))
    own = ctx.run_spec.parsed_spec.rewards.own
    if right:
        with own_rewards(ctx, own, 0.1) as opened:
            assert set(opened.processes or ()) == {"spread"}
        return
    with pytest.raises(DataError, match="the manifest says 2d711642b726"), own_rewards(ctx, own, 0):
        pass


def test_an_impure_one_is_refused_before_the_first_step(tmp_path: Path) -> None:
    source = "import random\ndef reward(completion, problem): return random.random()\n"
    with pytest.raises(DataError, match="its value may hang on its arguments alone"):
        run("RLVRJob", tmp_path / "run", spec_with(tmp_path, source))
    assert not list((tmp_path / "run").glob("journal/*"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    spec = spec_with(tmp_path)
    (tmp_path / "spread.py").unlink()
    with pytest.raises(DataError, match=r"spec\.rewards\.own\[0\]: .*spread\.py"):
        run("RLVRJob", tmp_path / "run", spec)


def test_samples_of_every_task_are_tried(tmp_path: Path) -> None:
    ctx = context("RLVRJob", tmp_path / "run", rlvr_spec(dataset(tmp_path / "data")))
    samples = ctx.samples("dataset", ctx.run_spec.parsed_spec.dataset, "rlvr")
    asked = canaries(samples)
    assert {problem["task"] for _, problem in asked} == {"Sum", "Twice"}
    assert {problem["extracted"] for _, problem in asked} >= {None, samples[0].answer}
    assert "" in {text for text, _ in asked}


@pytest.mark.parametrize("damaged", [b"", b"{", b"[1]"])
def test_damaged_digests_are_one_line(damaged: bytes, tmp_path: Path) -> None:
    (tmp_path / "own-rewards.json").write_bytes(damaged)
    with pytest.raises(DataError, match=r"own-rewards\.json is damaged; put it back"):
        pinned(LocalStore(tmp_path), {"a": "1"})


def test_the_first_attempts_digests_are_kept(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assert pinned(store, {"a": "1"}) == {"a": "1"}
    assert pinned(store, {"a": "2"}) == {"a": "1"}
    assert pinned(store, {"a": "1"}) == {"a": "1"}
