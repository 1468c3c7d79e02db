"""One vLLM engine, and one run of the small manifests with it, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rollout.engines import Rig, make_rig
from runs import M2R, Golden, change, manifests, run, write
from trials import Trial

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What all of them need; vLLM's own warnings are not ours to mend."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.rollout)
            item.add_marker(pytest.mark.timeout(1200))
            item.add_marker(pytest.mark.filterwarnings("ignore"))
            item.add_marker(pytest.mark.global_rng("vLLM draws noise that it then overwrites"))


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
    """Data, SFT, RLVR and evaluation without a disturbance; rollouts and answers by vLLM."""
    folder = tmp_path_factory.mktemp("golden")
    documents = manifests("data", "sft", "rlvr", "eval-rlvr")
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
