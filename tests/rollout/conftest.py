"""One vLLM engine, and one run of the small manifests with it, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rollout.engines import Rig, make_rig
from runs import M2R, Golden, Manifests, change, manifests, run, write
from trials import Trial
from unit.stages.published import mathvista, vsi_bench

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What all of them need; vLLM's own warnings are not ours to mend."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.rollout)
            item.add_marker(pytest.mark.timeout(1200))
            item.add_marker(pytest.mark.filterwarnings("ignore"))
            item.add_marker(pytest.mark.global_rng("vLLM draws noise that it then overwrites"))


# Clips that last longer than they are wide, in two questions of three.
WALKS = {
    "name": "walks",
    "weight": 4,
    "splits": ["rlvr", "eval"],
    "simulator": {
        "video": True,
        "tasks": ["RoomSize"],
        "scenes": 30,
        "imageSize": 32,
        "frames": 8,
    },
}


def filmed(documents: Manifests) -> Manifests:
    """With walks among the sources of data."""
    sources = documents["data"]["spec"]["sources"]
    return change(documents, "data", "sources", [*sources, WALKS])


def speaking(folder: Path) -> Manifests:
    """A teacher of a few questions, and a judge of the answers to copies of benchmarks."""
    copies = {"mathvista": mathvista, "vsi-bench": vsi_bench}
    for name, copy in copies.items():
        (folder / name).mkdir(parents=True)
        copy(folder / name)
    small = manifests("data", "sft", "eval-sft")
    taught, judged = small["data"], small["eval-sft"]
    taught["metadata"]["name"], judged["metadata"]["name"] = "taught", "judged"
    speaker = {"model": judged["spec"]["model"], "engine": "vllm"}
    taught["spec"] |= {
        "sources": taught["spec"]["sources"][:1],
        "generator": {**speaker, "chainsPerQuestion": 4, "maxCompletionTokens": 20},
        "quality": {"minEach": 1, "minMean": 1.0},  # right is all that they have to be
        "outputs": {"sft": 4, "rlvr": 0, "eval": 0},
        "shards": 1,
    }
    judged["spec"] |= {
        "benchmarks": [
            {"name": name, "data": {"uri": (folder / name).as_uri()}} for name in copies
        ],
        "judge": {**speaker, "retries": 0, "maxCompletionTokens": 20, "fallback": "Rules"},
    }
    judged["spec"]["generation"]["engine"] = "vllm"  # asks and judges in one process
    return {"taught": taught, "judged": judged}


@pytest.fixture(scope="session")
def rig() -> Rig:
    """A policy and vLLM beside it: to start it takes seconds."""
    return make_rig()


@pytest.fixture
def m2r(tmp_path: Path) -> Iterator[M2R]:
    """``m2r`` processes with a cache and a termination log of their own."""
    processes = M2R(tmp_path)
    yield processes
    processes.kill_all()


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    """Data, SFT, RLVR and evaluation without a disturbance; rollouts and answers by vLLM.

    And a teacher that writes chains, and a judge that reads answers, by vLLM as well.
    """
    folder = tmp_path_factory.mktemp("golden")
    documents = filmed(manifests("data", "sft", "rlvr", "eval-rlvr")) | speaking(folder)
    for name, path, value in (
        (
            "rlvr",
            "dataset",
            {"from": {"kind": "DataSynthesisJob", "name": "data"}, "split": "rlvr"},
        ),
        ("rlvr", "steps", 4),
        ("rlvr", "rollout.engine", "vllm"),
        ("eval-rlvr", "generation.engine", "vllm"),
    ):
        documents = change(documents, name, path, value)
    files = write(documents, folder / "manifests")
    return run(M2R(folder), files, (folder / "store").as_uri())


@pytest.fixture
def trial(request: pytest.FixtureRequest, golden: Golden, m2r: M2R, tmp_path: Path) -> Trial:
    """The stage that the test is parametrised with (see ``stages``)."""
    return Trial(m2r, golden, request.param, tmp_path)
