"""The chart on a real cluster: install, upgrade with a run in flight, uninstall.

By Helm 4; what Helm 3 does by code of its own is seen once more, by itself.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import release as releases
from cluster import Cluster, ClusterError
from integration.chart.rendering import MATRIX, Helm
from plays import play, sft
from release import (
    CRDS,
    NEW_FIELD,
    SMALL,
    Release,
    former_chart,
    phase,
    values,
    wait_phase,
)
from runs import M2R

LEFT = [f"CustomResourceDefinition/{name}" for name in CRDS]  # after `helm uninstall`


def pods_of_runs(cluster: Cluster, namespace: str) -> list[str]:
    """UID of each trainer's pod."""
    found = cluster.get("pods", namespace=namespace, selector="m2r.dev/kind")["items"]
    return [pod["metadata"]["uid"] for pod in found]


def set_field(cluster: Cluster, namespace: str, name: str, stall: int) -> str:
    """Sets the field that the former release did not have; what a strict API server says."""
    patch = json.dumps({"spec": {NEW_FIELD: {"stallSeconds": stall}}})
    try:
        return cluster.kubectl(
            "patch", "sftjobs.m2r.dev", name, "--type=merge", "--patch", patch,
            "--output=json", namespace=namespace,
        )  # fmt: skip
    except ClusterError as error:
        return str(error)


def stall_seconds(cluster: Cluster, namespace: str, name: str) -> int | None:
    """The field as the API server has kept it."""
    spec = cluster.get("sftjobs.m2r.dev", name, namespace=namespace)["spec"]
    found: int | None = spec.get(NEW_FIELD, {}).get("stallSeconds")
    return found


def test_an_upgrade_brings_new_fields_and_disturbs_no_run_and_uninstall_leaves_runs(
    release: Release, images: str, tmp_path: Path
) -> None:
    cluster, namespace = release.cluster, release.namespace
    old = former_chart(tmp_path)
    release.install(values(images), source=old)
    release.ready()
    run = sft(uri=play(steps=60, stepSeconds=0.5))
    cluster.apply(run, namespace=namespace)
    wait_phase(cluster, namespace, "run", "Running")
    before = pods_of_runs(cluster, namespace)
    assert len(before) == 1
    set_field(cluster, namespace, "run", 77)
    assert stall_seconds(cluster, namespace, "run") is None, "the former release knows the field"

    release.upgrade(values(images))
    release.ready()
    set_field(cluster, namespace, "run", 88)
    assert stall_seconds(cluster, namespace, "run") == 88
    assert pods_of_runs(cluster, namespace) == before
    assert phase(cluster, namespace, "run") == "Running"
    status = cluster.get("sftjobs.m2r.dev", "run", namespace=namespace)["status"]
    assert status["attempt"] == 1
    step = status["progress"]["step"]
    cluster.wait(
        "the new operator follows the run",
        lambda: (
            cluster.get("sftjobs.m2r.dev", "run", namespace=namespace)["status"]["progress"]["step"]
            > step
        ),
        namespace=namespace,
    )

    release.uninstall()
    assert release.objects() == LEFT
    assert pods_of_runs(cluster, namespace) == before
    assert cluster.get("sftjobs.m2r.dev", "run", namespace=namespace)["spec"][NEW_FIELD]

    release.install(values(images))
    release.ready()
    wait_phase(cluster, namespace, "run", "Succeeded")
    status = cluster.get("sftjobs.m2r.dev", "run", namespace=namespace)["status"]
    assert status["attempt"] == 1
    assert not any(status.get("restarts", {}).values())


@pytest.mark.parametrize("release", ["helm3"], indirect=True)
def test_helm_3_upgrades_the_definitions_too_and_leaves_them_for_the_next_install(
    release: Release, images: str, tmp_path: Path
) -> None:
    cluster, namespace = release.cluster, release.namespace
    release.install(values(images, replicas=1), source=former_chart(tmp_path))
    cluster.apply(sft(suspend=True), namespace=namespace)
    set_field(cluster, namespace, "run", 77)
    assert stall_seconds(cluster, namespace, "run") is None, "the former release knows the field"
    release.upgrade(values(images, replicas=1))
    set_field(cluster, namespace, "run", 88)
    assert stall_seconds(cluster, namespace, "run") == 88
    release.ready()
    wait_phase(cluster, namespace, "run", "Suspended")
    release.uninstall()
    assert release.objects() == LEFT
    assert stall_seconds(cluster, namespace, "run") == 88
    release.install(values(images, replicas=1))


def test_a_failed_change_of_values_changes_nothing(release: Release, images: str) -> None:
    release.install(values(images, replicas=1))
    with pytest.raises(AssertionError, match="additional properties 'replica' not allowed"):
        release.upgrade(values(images, replica=2))
    deployment = release.cluster.get("deployment", release.operator, namespace=release.namespace)
    assert deployment["spec"]["replicas"] == 1
    assert deployment["metadata"]["generation"] == 1


def test_two_replicas_are_ready_one_leads_and_a_drain_leaves_one(
    release: Release, images: str
) -> None:
    cluster, namespace = release.cluster, release.namespace
    release.install(values(images))
    release.ready()
    pods = cluster.get(
        "pods", namespace=namespace, selector="app.kubernetes.io/component=operator"
    )["items"]
    assert len(pods) == 2
    lease = cluster.get("lease", release.operator, namespace=namespace)
    leader = lease["spec"]["holderIdentity"]
    assert leader in {pod["metadata"]["name"] for pod in pods}
    budget = cluster.get("pdb", release.operator, namespace=namespace)
    assert budget["status"]["disruptionsAllowed"] == 1
    evict(cluster, namespace, leader)
    (other,) = {pod["metadata"]["name"] for pod in pods} - {leader}
    with pytest.raises(ClusterError, match="would violate the pod's disruption budget"):
        evict(cluster, namespace, other)  # the third one is not ready yet
    cluster.wait(
        "another replica leads",
        lambda: (
            cluster.get("lease", release.operator, namespace=namespace)["spec"]["holderIdentity"]
            not in (leader, "", None)
        ),
        seconds=60,
        namespace=namespace,
    )


def evict(cluster: Cluster, namespace: str, pod: str) -> None:
    """Asks for an eviction, as ``kubectl drain`` does; ClusterError when it is refused."""
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    about = {"name": pod, "namespace": namespace}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": about}
    cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


def test_a_namespaced_release_serves_its_namespace_and_one_beside_it_serves_another(
    release: Release, images: str, tmp_path: Path
) -> None:
    cluster, namespace = release.cluster, release.namespace
    release.install(values(images, watchNamespaces=[namespace], replicas=1))
    release.ready()
    assert not [name for name in release.objects() if name.startswith("ClusterRole")]
    cluster.apply(sft(uri=play(steps=2, stepSeconds=0.1)), namespace=namespace)
    wait_phase(cluster, namespace, "run", "Succeeded")
    other = f"{namespace}-o"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}})
    try:
        cluster.apply(sft("unseen", uri=play(steps=2, stepSeconds=0.1)), namespace=other)
        cluster.apply(sft("again", uri=play(steps=2, stepSeconds=0.1)), namespace=namespace)
        wait_phase(cluster, namespace, "again", "Succeeded")
        assert phase(cluster, other, "unseen") is None
        if cluster.owned:
            assert releases.refused(cluster.audit(), release.user) == {}
        beside = Release(cluster, other, tmp_path, name=release.name)
        given = values(images, watchNamespaces=[other], replicas=1, crds={"enabled": False})
        beside.install(given)
        wait_phase(cluster, other, "unseen", "Succeeded")
        beside.uninstall()
    finally:
        cluster.delete("namespace", other, wait=False)


def test_the_charts_s3_server_is_safe_for_runs_and_keeps_its_keys(
    release: Release, images: str, tmp_path: Path
) -> None:
    cluster, namespace = release.cluster, release.namespace
    name = release.operator.removesuffix("-operator") + "-s3"
    own = {"enabled": True, "persistence": {"enabled": False}, "resources": SMALL}
    given = values(images, replicas=1, storage={}, s3=own)
    release.install(given)
    release.ready(name)
    keys = cluster.get("secret", name, namespace=namespace)["data"]
    address = cluster.get("service", name, namespace=namespace)["spec"]["clusterIP"]
    env = {key: base64.b64decode(value).decode() for key, value in keys.items()}
    m2r = M2R(tmp_path, {**env, "AWS_DEFAULT_REGION": "us-east-1"})
    checked = m2r("store", "check", "s3://m2r/x", "--endpoint", f"http://{address}:7070")
    assert (checked.code, checked.err) == (0, "")
    assert checked.out.splitlines()[-1] == "s3://m2r/x: safe"
    release.upgrade(given)
    assert cluster.get("secret", name, namespace=namespace)["data"] == keys
    deployment = cluster.get("deployment", name, namespace=namespace)
    assert deployment["metadata"]["generation"] == 1, "the upgrade restarted the server"


@pytest.fixture(scope="module")
def places(cluster: Cluster, monitoring: None) -> Iterator[None]:
    """The namespaces of the value sets, and the Prometheus operator's definitions."""
    made = []
    for name in ("m2r-system", "team-a", "team-b", "monitoring"):
        if cluster.try_get("namespace", name) is None:
            cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
            made.append(name)
    yield
    for name in made:
        cluster.delete("namespace", name, wait=False)


@pytest.mark.parametrize("name", MATRIX)
def test_the_api_server_takes_every_object_and_every_field(
    cluster: Cluster, places: None, name: str
) -> None:
    objects = [
        one
        for one in Helm("helm").objects(MATRIX[name])
        if one["kind"] != "CustomResourceDefinition" or name == "everything"
    ]
    said = cluster.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict",
        "--field-manager=chart-test", "-f", "-", stdin="\n---\n".join(map(json.dumps, objects)),
    )  # fmt: skip
    assert len(said.splitlines()) == len(objects)


def test_the_former_chart_is_that_of_the_newest_tag_where_there_is_one(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "charts" / "m2r").mkdir(parents=True)
    about = tree / "charts" / "m2r" / "Chart.yaml"
    about.write_text("version: tagged\n")
    git = ["git", "-C", str(tree), "-c", "user.name=t", "-c", "user.email=t@example.com"]
    for command in (
        ["init", "-q"], ["add", "."], ["commit", "-qm", "one"], ["tag", "v0.1.0"],
    ):  # fmt: skip
        subprocess.run([*git, *command], check=True, capture_output=True)
    about.write_text("version: newer\n")
    out = tmp_path / "out"
    out.mkdir()
    found = former_chart(out, tree)
    assert (found / "Chart.yaml").read_text() == "version: tagged\n"
