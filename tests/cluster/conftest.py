"""The cluster of the tests: the one of ``KUBECONFIG``, a running node of ours, or a new one.

Nothing here is skipped: what cannot run fails and says why.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
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


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The node; one that the tests have started is taken down after them."""
    try:
        found = connect()
    except ClusterError:
        found = up()
    yield found
    if found.started:
        down()


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
    image = build(name)
    if image.reference not in cluster.images():
        cluster.import_image(image.archive)
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
