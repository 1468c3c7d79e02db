"""Several processes train one model: whatever is done to them, they end with the same bits."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from runs import KILLED, M2R, Golden, Process, change, files_under, manifests, write
from s3server import free_port
from trials import Trial, stages

from m2r_train.api.runspec import RunInput
from m2r_train.store import read_head
from m2r_train.store.local import LocalStore

pytestmark = pytest.mark.slow


@dataclass
class Gang(Trial):
    """A trial of two ranks, and what they make of it when nobody disturbs them."""

    result: dict[str, bytes] | None = None
    history: bytes = b""

    def check(self) -> None:
        head = read_head(LocalStore(self.folder))
        assert head is not None and head.done
        assert files_under(self.folder / "model") == self.result
        assert (self.folder / "records" / "history.jsonl").read_bytes() == self.history
        assert self.journal() == set()
        assert self.nothing_paid_twice()

    def records(self) -> list[dict[str, Any]]:
        """The finished run's history."""
        lines = (self.folder / "records" / "history.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


def gang(m2r: M2R, golden: Golden, name: str, home: Path, size: int = 2) -> Gang:
    """A run of the golden stage by ``size`` ranks in a store of its own."""
    home.mkdir(exist_ok=True)
    trial = Gang(m2r, golden, name, home)
    trial.change("resources.processesPerNode", size)
    return trial


@pytest.fixture(scope="session")
def undisturbed(
    golden: Golden, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[dict[str, bytes], bytes]]:
    """What two ranks make of the golden stages: model and history."""
    made = {}
    for name in ("sft", "rlvr"):
        home = tmp_path_factory.mktemp(name)
        trial = gang(M2R(home), golden, name, home)
        done = trial.ended(trial.start())
        assert done.code == 0, done.err
        history = (trial.folder / "records" / "history.jsonl").read_bytes()
        made[name] = files_under(trial.folder / "model"), history
    return made


@pytest.fixture
def pair(
    request: pytest.FixtureRequest,
    golden: Golden,
    undisturbed: dict[str, tuple[dict[str, bytes], bytes]],
    m2r: M2R,
    tmp_path: Path,
) -> Iterator[Gang]:
    """Two ranks at the stage that the test is parametrised with."""
    trial = gang(m2r, golden, request.param, tmp_path)
    trial.result, trial.history = undisturbed[request.param]
    yield trial


def ranks_of(launcher: Process) -> dict[int, int]:
    """Process numbers of the ranks that it has started, by rank."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            told = (stat.parent / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if int(parent) == launcher.pid and state != "Z":
            found |= {int(v[5:]): int(stat.parent.name) for v in told if v.startswith(b"RANK=")}
    return found


def alive(pid: int) -> bool:
    """Whether it runs: a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int], seconds: float = 20.0) -> bool:
    """Whether they end in time."""
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(alive, pids))


def numbers(history: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in history.splitlines()]


@pytest.mark.parametrize("pair", ["sft", "rlvr"], indirect=True)
def test_two_ranks_end_the_same_whichever_of_them_dies(pair: Gang) -> None:
    """One rank is killed with -9, then the other, then the launcher; SIGTERM stops both."""
    first = pair.start()
    assert first.when(lambda: pair.step() > 0)
    os.kill(ranks_of(first)[1], signal.SIGKILL)
    done = pair.ended(first)
    assert (done.code, len(done.complaints)) == (128 + signal.SIGKILL, 1)
    assert "rank 1 was killed by signal 9" in done.complaints[0]

    done = pair.ended(pair.start(M2R_KILL_AT="after-snapshot:1"))  # rank 0 alone comes there
    assert (done.code, "rank 0 was killed" in done.err) == (128 + signal.SIGKILL, True)

    third = pair.start()
    assert third.until("  started  ")
    pids = list(ranks_of(third).values())
    assert len(pids) == 2
    third.signal(signal.SIGKILL)
    assert third.wait().code == KILLED
    assert gone(pids), "ranks outlive their launcher"
    pair.finish()


@pytest.mark.parametrize("pair", ["rlvr"], indirect=True)
def test_sigterm_stops_all_ranks_after_the_same_step(pair: Gang) -> None:
    pair.change("checkpoint.everySteps", 100)
    process = pair.start()
    assert process.when(lambda: bool(pair.journal()))
    process.signal(signal.SIGTERM)
    done = pair.ended(process)
    assert (done.code, len(done.complaints)) == (75, 1)
    assert "state saved" in done.complaints[0]
    assert pair.step() > 0
    assert pair.last_words["reason"] == "Preempted"
    pair.change("checkpoint.everySteps", 2)
    pair.finish()


@pytest.mark.parametrize("pair", ["rlvr"], indirect=True)
def test_a_run_goes_on_with_another_number_of_ranks(pair: Gang) -> None:
    """The journal's step is not drawn again; numbers differ by rounding alone."""
    done = pair.ended(pair.start(M2R_KILL_AT="before-save:2"))
    assert done.code == 128 + signal.SIGKILL
    pair.change("resources.processesPerNode", 1)
    done = pair.ended(pair.start())
    assert (done.code, "resumed from step 2" in done.err) == (0, True)
    assert pair.nothing_paid_twice()
    one, two = pair.records(), numbers(pair.history)
    assert one[:2] == two[:2]
    assert one[2]["reward"] == two[2]["reward"]
    for key in ("loss", "grad_norm", "kl", "entropy"):
        assert one[2][key] == pytest.approx(two[2][key], rel=1e-3, abs=1e-5), key


@pytest.mark.parametrize("pair", ["sft"], indirect=True)
def test_ranks_of_torchrun_and_of_the_launcher_are_the_same(pair: Gang, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
        "--master-port", str(free_port()), "-m", "m2r_train",
        "stage", "--spec", str(tmp_path / "spec.json"), "--port", "0",
    ]  # fmt: skip
    process = Process(command, pair.m2r._env({}))
    pair.m2r.started.append(process)
    done = pair.ended(process)
    assert done.code == 0, done.err
    pair.check()


@pytest.mark.parametrize("pair", ["sft", "rlvr"], indirect=True)
def test_the_first_step_of_one_and_of_four_ranks_is_the_same_but_for_rounding(
    pair: Gang, golden: Golden, m2r: M2R, tmp_path: Path
) -> None:
    four = gang(m2r, golden, pair.name, tmp_path / "four", size=4)
    done = four.ended(four.start())
    assert done.code == 0, done.err
    history = golden.folder(pair.name) / "records" / "history.jsonl"
    first = numbers(history.read_bytes())[0]
    for other in (four.records()[0], numbers(pair.history)[0]):
        assert other.keys() == first.keys()
        for key in ("loss", "grad_norm"):
            assert other[key] == pytest.approx(first[key], rel=1e-4, abs=1e-6), key
        if pair.name == "rlvr":
            assert other["reward"] == first["reward"]
            assert other["completion_tokens"] == first["completion_tokens"]
        else:
            assert other["tokens"] == first["tokens"]


@pytest.mark.parametrize("pair", ["sft"], indirect=True)
def test_two_pods_of_one_rank_are_a_pod_of_two_and_end_together(pair: Gang) -> None:
    pair.change("resources", {**pair.spec.spec["resources"], "nodes": 2, "processesPerNode": 1})

    def both() -> list[Process]:
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        return [pair.start_pod(i, GLOO_SOCKET_IFNAME="lo", **meeting) for i in (0, 1)]

    owner, other = both()
    assert owner.when(lambda: pair.step() > 0)
    other.signal(signal.SIGKILL)
    done = pair.ended(owner)
    assert (done.code, len(done.complaints)) == (74, 1)
    assert "lost the others" in done.complaints[0]
    words = json.loads((pair.home / "termination-log-0").read_text())
    assert (words["exitCode"], words["reason"]) == (74, "RanksLostError")
    for pod in both():
        assert pair.ended(pod).code == 0
    pair.check()


def test_own_rewards_are_asked_by_each_rank_and_are_those_of_one(
    golden: Golden, m2r: M2R, tmp_path: Path
) -> None:
    """Each rank has a process of the user's file; a killed rank changes none of their values."""
    reward = tmp_path / "spread.py"
    reward.write_text(
        "import zlib\n"
        "def reward(completion, problem):\n"
        "    return zlib.crc32((problem['id'] + completion).encode()) / 2**32\n"
    )
    trials = {}
    for name, size in (("calm", 2), ("killed", 2), ("one", 1)):
        trial = trials[name] = gang(m2r, golden, "rlvr", tmp_path / name, size=size)
        rewards = trial.spec.spec["rewards"]
        own = [{"name": "spread", "uri": reward.as_uri()}]
        inputs = {**trial.spec.inputs, "rewards.own[0]": RunInput(uri=reward.as_uri())}
        trial.spec = trial.spec.model_copy(update={"inputs": inputs})
        trial.change("rewards", {**rewards, "own": own})
    first = trials["killed"].start()
    assert first.when(lambda: trials["killed"].step() > 0), first.wait().err
    os.kill(ranks_of(first)[1], signal.SIGKILL)
    assert trials["killed"].ended(first).code == 128 + signal.SIGKILL
    for trial in trials.values():
        done = trial.ended(trial.start())
        assert done.code == 0, done.err
    calm, killed, one = (trial.records() for trial in trials.values())
    assert killed == calm
    assert all(0 < record["own/spread"] < 1 for record in calm)
    assert calm[0]["own/spread"] == pytest.approx(one[0]["own/spread"], rel=1e-6)


@stages("sft")
def test_bad_data_is_one_line_whoever_finds_it(trial: Trial) -> None:
    trial.change("resources.processesPerNode", 2)
    given = trial.spec.inputs["dataset"].model_copy(update={"digest": "0" * 64})
    trial.spec = trial.spec.model_copy(update={"inputs": {**trial.spec.inputs, "dataset": given}})
    trial.change("seed", 0)
    done = trial.start().wait()
    assert (done.code, len(done.complaints)) == (65, 1)
    assert "has changed since" in done.complaints[0]
    assert (trial.last_words["exitCode"], trial.last_words["reason"]) == (65, "DataError")


def test_m2r_run_starts_the_ranks_that_a_manifest_asks_for(
    golden: Golden, m2r: M2R, tmp_path: Path
) -> None:
    documents = change(manifests("data", "sft"), "sft", "resources.processesPerNode", 2)
    documents = change(documents, "sft", "training.steps", 2)
    files = write(documents, tmp_path / "manifests")
    summary = tmp_path / "summary.json"
    arguments = ("run", "-f", files, "--store", tmp_path / "store", "--summary", summary)
    done = m2r(*arguments)
    assert done.code == 0, done.err
    (made,) = [one for one in json.loads(summary.read_text())["resources"] if one["name"] == "sft"]
    assert (made["step"], made["phase"]) == (2, "Succeeded")
    again = m2r(*arguments)
    assert (again.code, "SFTJob/sft: done before" in again.err) == (0, True)
    assert m2r(*arguments, RANK="0", WORLD_SIZE="1", MASTER_ADDR="x", MASTER_PORT="1").code == 78
