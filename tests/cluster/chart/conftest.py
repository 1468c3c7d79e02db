"""The images of a release on the node, and releases by both versions of helm."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import release as releases
import yaml
from cluster import Cluster
from integration.chart.rendering import LOADER
from integration.chart.schemas import MONITORING, PROMETHEUS_OPERATOR, module
from release import Release, make_adoptable, restore_crds

from images import build


@pytest.fixture(scope="session")
def images(cluster: Cluster, standin: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The operator's image of this tree and an S3 server on the node; the trainer is a stand-in."""
    cluster.import_image(build("operator").archive)
    releases.import_s3_server(cluster, tmp_path_factory.mktemp("s3"))
    return standin


@pytest.fixture
def release(
    request: pytest.FixtureRequest, cluster: Cluster, namespace: str, images: str, tmp_path: Path
) -> Iterator[Release]:
    """A release that is not installed yet; the tree's definitions are back afterwards.

    By Helm 4, or the helm that the test names as the fixture's parameter.
    """
    tool = getattr(request, "param", "helm")
    found = Release(cluster, namespace, tmp_path, tool=tool, name=f"m2r-{uuid.uuid4().hex[:6]}")
    make_adoptable(cluster, found)
    yield found
    found.uninstall()
    restore_crds(cluster)


@pytest.fixture(scope="module")
def monitoring(cluster: Cluster) -> Iterator[None]:
    """The Prometheus operator's definitions, as a cluster that has it knows them."""
    folder = module(PROMETHEUS_OPERATOR) / "example" / "prometheus-operator-crd"
    definitions = []
    for plural in MONITORING:
        if cluster.try_get("crd", f"{plural}.monitoring.coreos.com") is None:
            text = (folder / f"monitoring.coreos.com_{plural}.yaml").read_text()
            cluster.apply(yaml.load(text, LOADER))
            definitions.append(f"{plural}.monitoring.coreos.com")
    yield
    for name in definitions:
        cluster.delete("crd", name)
