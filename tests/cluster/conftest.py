"""The cluster of the tests: the one of ``KUBECONFIG``, a running node of ours, or a new one.

Nothing here is skipped: what cannot run fails and says why.
"""

from __future__ import annotations

import fcntl
import os
import re
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import setup_env
from cluster import Cluster, ClusterError, connect, down, up
from lab import Lab, lab

from images import build

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them need the cluster, and a machine with other work takes its time."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(900))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """A test that fails shows what its namespace holds, which is gone a moment later."""
    report = yield
    found = getattr(item, "funcargs", {})
    if report.failed and report.when != "teardown" and {"cluster", "namespace"} <= found.keys():
        shown = found["cluster"].describe(found["namespace"])
        report.sections.append((f"namespace {found['namespace']}", shown))
    return report


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of one run of pytest share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def cluster(run_folder: Path) -> Iterator[Cluster]:
    """The node; one that these tests have started is taken down by their last process."""
    with (run_folder / "cluster.users").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            found = connect()
        except ClusterError:
            found = up()
        started = run_folder / "cluster.started"
        if found.started:
            started.touch()
        yield found
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another process still uses it
        if started.exists():
            started.unlink()
            down()


@pytest.fixture(autouse=True)
def _one_at_a_time(run_folder: Path) -> Iterator[None]:
    """They stop the parts of one node: the processes of a run take turns."""
    with setup_env.locked(run_folder / "cluster.turn"):
        yield


@pytest.fixture(scope="session")
def crds(cluster: Cluster) -> None:
    """Our CRDs, as they stand in the tree."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of this test alone, where only restricted pods are let in."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:30].strip("-")
    name = f"t-{words}-{uuid.uuid4().hex[:6]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    )
    yield name
    cluster.delete("namespace", name, wait=False)


def _imported(cluster: Cluster, name: str) -> str:
    """The image of this tree, on the node; one of the same name may be there from another tree."""
    image = build(name)
    known = cluster.state / f"imported-{name}"
    if not known.exists() or known.read_text() != image.digest:
        cluster.import_image(image.archive)
        known.write_text(image.digest)
    return image.short


@pytest.fixture(scope="session")
def standin(cluster: Cluster) -> str:
    """The image of the stand-in trainer."""
    return _imported(cluster, "standin")


@pytest.fixture(scope="session")
def trainer(cluster: Cluster) -> str:
    """The image of the real trainer, for CPUs."""
    return _imported(cluster, "trainer-cpu")


@pytest.fixture
def room(
    cluster: Cluster, crds: None, namespace: str, standin: str, tmp_path: Path
) -> Iterator[Lab]:
    """A namespace with a leading operator whose runs play the stand-in."""
    with lab(cluster, namespace, tmp_path, standin) as found:
        yield found
