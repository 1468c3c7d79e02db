"""All ways to share a model compute the same, and each goes on where another was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from e2e.test_ranks import Gang, numbers, pair, undisturbed  # noqa: F401 - fixtures
from s3server import free_port

pytestmark = pytest.mark.slow

WHOLE = ("DataParallel", "Zero1", "Zero2", "Zero3", "Zero3+OptimizerAndParameters")
NARROW = ("DataParallel+bf16", "Zero1+bf16", "Zero2+bf16", "Zero3+bf16")
FROZEN = ("DataParallel+frozen", "Zero2+Optimizer+frozen", "Zero3+frozen")


def made_by(size: int, out: Path, *strategies: str) -> dict[str, Any]:
    """What ``size`` ranks see (``gangwork``)."""
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(size)}
    env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    env["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    command = [sys.executable, "-W", "ignore", "-m", "gangwork", str(out), *strategies]
    ranks = [
        subprocess.Popen(
            command,
            env={**env, **({"RANK": str(r), "LOCAL_RANK": str(r), **told} if size > 1 else {})},
        )
        for r in range(size)
    ]
    try:
        assert [rank.wait(600) for rank in ranks] == [0] * size
    finally:
        for rank in ranks:
            rank.kill()
    made: dict[str, Any] = json.loads(out.read_text())
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All strategies of two ranks, and one process."""
    folder = tmp_path_factory.mktemp("zero")
    alone = made_by(1, folder / "one.json", WHOLE[0], FROZEN[0], NARROW[0])
    two = made_by(2, folder / "two.json", *WHOLE, *FROZEN, *NARROW)
    return {**two, **{f"alone {name}": seen for name, seen in alone.items()}}


@pytest.mark.parametrize("strategy", [*WHOLE, *FROZEN])
def test_losses_gradients_and_weights_are_those_of_one_process(
    made: dict[str, Any], strategy: str
) -> None:
    """Ranks have different numbers of micro-batches here, some of them without a picture."""
    one = made["alone DataParallel" + ("+frozen" if "frozen" in strategy else "")]
    two = made[strategy]
    for step, (loss, norm) in enumerate(one["seen"]):
        assert two["seen"][step] == pytest.approx([loss, norm], rel=1e-4), step
    assert two["whole"] == pytest.approx(one["whole"], rel=1e-3, abs=1e-3)
    assert two["drawn"] == one["drawn"]
    assert two["state"].keys() == one["state"].keys()
    # sums of moments are of differences, so the scale is that of the largest
    most = max(map(abs, one["state"].values()))
    assert two["state"] == pytest.approx(one["state"], rel=1e-3, abs=1e-4 * most)


@pytest.mark.parametrize("strategy", [*WHOLE, *FROZEN])
def test_ranks_without_work_add_nothing_and_a_step_without_any_changes_nothing(
    made: dict[str, Any], strategy: str
) -> None:
    """As where a batch has fewer rows than ranks, or none of a step's groups has an advantage."""
    one = made["alone DataParallel" + ("+frozen" if "frozen" in strategy else "")]
    assert made[strategy]["few"] == pytest.approx(one["few"], rel=1e-3)
    assert (made[strategy]["idle"], made[strategy]["moved"]) == (0.0, [])


@pytest.mark.parametrize("strategy", NARROW)
def test_weights_in_bfloat16_learn_in_float32_with_every_strategy(
    made: dict[str, Any], strategy: str
) -> None:
    one, two = made[f"alone {NARROW[0]}"], made[strategy]
    for step, (loss, norm) in enumerate(one["seen"]):
        assert two["seen"][step] == pytest.approx([loss, norm], rel=2e-2), step
    assert two["types"] == ["torch.float32"]
    assert two["finer"] > 0  # numbers that bfloat16 cannot hold: the masters', not the copies'
    most = max(map(abs, one["state"].values()))
    assert two["state"].keys() == one["state"].keys()
    assert two["state"] == pytest.approx(one["state"], rel=2e-2, abs=2e-2 * most)


@pytest.mark.parametrize("strategy", [*WHOLE, *FROZEN, *NARROW])
def test_a_state_brings_back_the_bits_and_serves_another_strategy(
    made: dict[str, Any], strategy: str
) -> None:
    seen = made[strategy]
    assert seen["repeated"] == seen["seen"][2]
    if strategy not in (WHOLE[0], FROZEN[0], NARROW[0]):
        close = 2e-2 if strategy in NARROW else 1e-5
        assert seen["crossed"] == pytest.approx(seen["seen"][2], rel=close)


@pytest.mark.parametrize(
    ("pair", "first", "then"),
    [("rlvr", "Zero3", "Zero1"), ("sft", "Zero2", "DataParallel")],
    indirect=["pair"],
)
def test_a_run_goes_on_with_another_strategy(pair: Gang, first: str, then: str) -> None:  # noqa: F811
    pair.change("parallelism.strategy", first)
    done = pair.ended(pair.start(M2R_KILL_AT="before-save:2"))
    assert done.code == 128 + signal.SIGKILL, done.err
    assert pair.step() > 0
    pair.change("parallelism.strategy", then)
    done = pair.ended(pair.start())
    assert (done.code, "resumed from step" in done.err) == (0, True), done.err
    assert pair.nothing_paid_twice()
    expected = numbers(pair.history)
    for mine, other in zip(pair.records()[:3], expected, strict=False):
        for key in ("loss", "grad_norm"):
            assert mine[key] == pytest.approx(other[key], rel=1e-2, abs=1e-3), key
    assert len(pair.records()) == len(expected)
