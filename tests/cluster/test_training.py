"""The real trainer in pods: the same bits as ``m2r run``, whatever takes the pods away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from blows import BLOWS, RLVR, Diary, Recovery, family, strike
from cluster import Cluster
from lab import Lab, lab
from runs import M2R, Process, write

STEPS: Final = 36  # each blow leaves up to five of them behind
SECONDS: Final = 45.0  # three times what a quiet machine may take; this one has other work


@pytest.fixture
def golden(tmp_path: Path) -> Iterator[tuple[Process, Path]]:
    """``m2r run`` of the same manifests on this machine, meanwhile; and its summary to be."""
    m2r = M2R(tmp_path)
    files, summary = write(family(STEPS), tmp_path / "manifests"), tmp_path / "summary.json"
    store = (tmp_path / "store").as_uri()
    process = m2r.start("run", "-f", files, "--store", store, "--summary", summary)
    yield process.give_way(), summary
    m2r.kill_all()


@pytest.fixture
def pods(
    cluster: Cluster, crds: None, namespace: str, trainer: str, tmp_path: Path
) -> Iterator[Lab]:
    """A namespace with a leading operator whose runs really train."""
    with lab(cluster, namespace, tmp_path, trainer) as found:
        yield found


def test_rlvr_survives_whatever_takes_its_pod_and_all_ends_with_the_bits_of_m2r_run(
    pods: Lab, golden: tuple[Process, Path], request: pytest.FixtureRequest
) -> None:
    documents = family(STEPS)
    pods.apply(*documents.values())
    pods.until_phase("DataSynthesisJob", "curriculum", "Succeeded", seconds=400)
    with Diary(pods, RLVR, "rlvr") as diary:
        recoveries = [strike(pods, diary, blow) for blow in BLOWS]
        pods.until_phase(RLVR, "rlvr", "Succeeded", seconds=300)
    resumed = diary.resumed()
    for recovery in recoveries:
        request.node.user_properties.append((recovery.blow.name, f"{recovery.total:.1f} s"))
        nothing_committed_was_lost(recovery, resumed[recovery.attempt + 1])
    nothing_went_back(diary)
    told = diary.endings()
    assert [told[r.attempt]["class"] for r in recoveries] == [r.blow.class_ for r in recoveries]
    codes = [told[r.attempt].get("exitCode") for r in recoveries]
    assert codes == [137 if r.blow.kills else 75 for r in recoveries]

    status = pods.status(RLVR, "rlvr")
    assert status["restarts"] == {"charged": 2, "disruptions": 4}
    assert status["attempt"] == len(BLOWS) + 1
    assert status["progress"]["step"] == status["lastCheckpoint"]["step"] == STEPS
    pods.until_phase("EvalJob", "eval-rlvr", "Succeeded")
    process, summary = golden
    done = process.wait()
    assert done.code == 0, done.err
    expected = {r["name"]: r["digest"] for r in json.loads(summary.read_text())["resources"]}
    kinds = {name: document["kind"] for name, document in documents.items()}
    assert {n: pods.status(k, n)["outputs"]["digest"] for n, k in kinds.items()} == expected


def nothing_committed_was_lost(recovery: Recovery, resumed: dict[str, int]) -> None:
    """Who is asked to stop has saved every finished step; who is killed does one again at most."""
    assert resumed["step"] == recovery.committed
    if recovery.blow.kills:
        assert recovery.done - 1 <= resumed["step"]
        assert resumed["lostSteps"] <= 1
    else:
        assert recovery.done <= resumed["step"]
        assert resumed["lostSteps"] == 0
    assert recovery.total <= SECONDS


def nothing_went_back(diary: Diary) -> None:
    """Neither the store nor what the status says of it."""
    heads = [head["step"] for head in diary.heads]
    assert heads == sorted(heads)
    saved: list[dict[str, Any]] = [
        status["lastCheckpoint"] for status in diary.statuses if status.get("lastCheckpoint")
    ]
    steps = [checkpoint["step"] for checkpoint in saved]
    assert steps == sorted(steps)
    assert len(set(steps)) > len(BLOWS)
