"""A lane: one process that carries run after run, with every way in which it can end."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from m2r_train.api import ConfigError, DataSynthesisSpec, RunSpec, resolved
from m2r_train.api.runspec import RunMetadata, RunStorage
from m2r_train.runner import carried
from m2r_train.stages.stop import StopRequest
from m2r_train.sweeps.lanes import Lane, LaneError
from m2r_train.sweeps.running import LaneStopped
from m2r_train.telemetry.progress import Progress

ROOMS = {"tasks": ["RelationHorizontal"], "scenes": 8, "imageSize": 64, "maxObjects": 2}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2R_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def stop() -> StopRequest:
    return StopRequest()


@pytest.fixture
def lane(stop: StopRequest) -> Iterator[Lane]:
    made = Lane(stop)
    yield made
    made.close()


def data_run(folder: Path, name: str, *, samples: int = 4, **more: Any) -> RunSpec:
    """A small synthesis: of the four stages the one that needs no torch."""
    source = {"name": "rooms", "simulator": {**ROOMS, "scenes": 2 * samples}}
    spec = DataSynthesisSpec.model_validate(
        {
            **{"sources": [source], "outputs": {"sft": samples, "rlvr": 0, "eval": 0}},
            **{"resources": {"cpu": "1"}},  # no workers of its own
            **more,
        }
    )
    return RunSpec(
        kind="DataSynthesisJob",
        metadata=RunMetadata(name=name, uid="0123456789abcdef"),
        storage=RunStorage(uri=(folder / "store").as_uri()),
        seed=0,
        spec=resolved(spec),
    )


def test_a_lane_carries_runs_outlives_an_error_and_is_started_anew_after_a_kill(
    lane: Lane, tmp_path: Path
) -> None:
    first = lane(data_run(tmp_path / "one", "data"))
    pid = lane.pid
    source = {"name": "given", "dataset": {"uri": "file:///none"}, "splits": ["rlvr"]}
    missing = {"sources": [source], "outputs": {"sft": 0, "rlvr": 4, "eval": 0}}
    with pytest.raises(LaneError, match=r"inputs has no 'sources\[0\]\.dataset'") as told:
        lane(data_run(tmp_path / "two", "data", **missing))
    assert told.value.exit_code == ConfigError.exit_code
    second = lane(data_run(tmp_path / "three", "data"))
    assert (first["digest"], lane.pid) == (second["digest"], pid)

    with Progress(Console(quiet=True)) as progress:
        here = data_run(tmp_path / "here", "data")
        outcome = carried(here, progress, tmp_path / "cache", StopRequest())
    assert outcome["digest"] == first["digest"], "what it makes is what this process makes"

    assert lane.process is not None
    lane.process.send_signal(signal.SIGKILL)
    with pytest.raises(LaneError, match="its process ended with -9; the same command tries again"):
        lane(data_run(tmp_path / "four", "data"))
    assert lane(data_run(tmp_path / "four", "data"))["digest"] == first["digest"]
    assert lane.pid != pid


def test_a_run_that_is_asked_to_stop_ends_soon_and_is_no_failure(
    lane: Lane, stop: StopRequest, tmp_path: Path
) -> None:
    endless = data_run(tmp_path, "long", samples=20_000, shards=64)
    with ThreadPoolExecutor(1) as thread:
        under_way = thread.submit(lane, endless)
        started = tmp_path / "store/default/datasynthesisjob/long-01234567/spec.json"
        until = time.monotonic() + 120
        while not started.exists() and time.monotonic() < until:
            time.sleep(0.02)
        assert started.exists()
        stop.told("SIGTERM", 0.0)
        lane.ask_to_stop()
        with pytest.raises(LaneStopped):
            under_way.result(120)
    with pytest.raises(LaneStopped):
        lane(data_run(tmp_path / "one", "data"))
