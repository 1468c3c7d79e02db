"""Rendered children before the real API server: accepted as they are, without a warning."""

from __future__ import annotations

import copy
import json
from typing import Any, Final

import pytest
from cluster import Cluster, ClusterError
from unit.operator.children import IMAGE, NO_DEFAULTS, a_run, create, pod_of, run_of

from m2r_operator import names, pods
from m2r_operator.manifests import job, purge_job, service
from m2r_operator.state import CreatePurge, Defaults, RunSeen
from m2r_train.api import KINDS, Storage

Manifest = dict[str, Any]

WITH_SECRET: Final = Storage(uri="s3://lab/runs", secret_ref={"name": "keys"})
AFFINITY: Final = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]
        }
    },
    "podAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {}}}
        ]
    },
}
SCHEDULING: Final = {
    "nodeSelector": {"gpu": "h100"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": AFFINITY,
    "schedulerName": "volcano",
}
LARGE: Final = {
    "nodes": 4, "gpusPerNode": 8, "cpu": "32", "memory": "256Gi", "sharedMemory": "64Gi",
    "rdma": {"count": 2},
}  # fmt: skip
TOPOLOGIES: Final = [{"mode": mode, "key": "cloud/rack"} for mode in ("Required", "Preferred")]


def jobs_of(kind: str) -> dict[str, Manifest]:
    """Name of a case -> a Job as the operator would post it, of every shape there is."""
    made: dict[str, Manifest] = {}
    for name, spec in {
        "small": {},
        "large": {"resources": LARGE, "scheduling": SCHEDULING, "restartPolicy":
                  {"maxRestarts": 0}},
        "counted": {"resources": {"nodes": 2}, "disruption": {"policy": "Fail"}},
        "required": {"resources": {"nodes": 2}, "scheduling": {"topology": TOPOLOGIES[0]}},
        "preferred": {"resources": {"nodes": 2}, "scheduling": {"topology": TOPOLOGIES[1]}},
    }.items():  # fmt: skip
        for queue in (None, "research"):
            made[f"{name}, {queue or 'no'} queue"] = job(
                a_run(kind, **spec), create(queue=queue, storage=WITH_SECRET), NO_DEFAULTS
            )
    made["purge"] = purge_job(
        a_run(kind, scheduling=SCHEDULING),
        CreatePurge(storage=WITH_SECRET, image=IMAGE),
        Defaults(image_pull_secrets=("pull",), image_pull_policy="IfNotPresent"),
    )
    made["longest name"] = job(longest(kind), create(99_999), NO_DEFAULTS)
    made["longest run spec"] = with_run_spec(kind, pods.RUN_SPEC_BYTES)
    return made


def longest(kind: str) -> RunSeen:
    run = a_run(kind, resources={"nodes": 1024})
    manifest = {
        "kind": kind,
        "metadata": {"name": "n" * 45},
        "spec": run.spec.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    return run_of(manifest)


def with_run_spec(kind: str, size: int) -> Manifest:
    """A Job whose run spec has ``size`` bytes."""
    child = job(a_run(kind), create(), NO_DEFAULTS)
    child["spec"]["template"]["metadata"]["annotations"][names.RUN_SPEC] = "x" * size
    return child


def dry_run(cluster: Cluster, namespace: str, *children: Manifest) -> str:
    """The error or warning of a strict server-side dry run; empty when there is neither."""
    items = copy.deepcopy(children)
    for item in items:
        item["metadata"].pop("namespace", None)
    listed = {"apiVersion": "v1", "kind": "List", "items": items}
    command = ("create", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-f", "-")
    try:
        cluster.kubectl(*command, namespace=namespace, stdin=json.dumps(listed), seconds=240)
    except ClusterError as error:
        return str(error)
    return ""


def bare_pod(child: Manifest) -> Manifest:
    """A pod of the Job's template: Pod Security refuses pods, and only warns of Jobs."""
    template = copy.deepcopy(child["spec"]["template"])
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": "bare"},
        "spec": template["spec"],
    }


@pytest.fixture
def strict(cluster: Cluster, namespace: str) -> str:
    """A namespace that enforces the restricted standard on pods and warns of it on Jobs."""
    label = "pod-security.kubernetes.io"
    cluster.kubectl(
        "label", "--overwrite", "namespace", namespace,
        f"{label}/enforce=restricted", f"{label}/warn=restricted",
    )  # fmt: skip
    cluster.wait(
        "pods may be made",
        lambda: cluster.try_get("serviceaccount", "default", namespace=namespace),
    )
    return namespace


@pytest.mark.parametrize("kind", KINDS)
def test_the_api_server_takes_every_job_and_its_pods_without_a_warning(
    cluster: Cluster, strict: str, kind: str
) -> None:
    made = jobs_of(kind)
    children = [*made.values(), *map(bare_pod, made.values())]
    if dry_run(cluster, strict, *children):  # which one?
        for case, child in made.items():
            assert dry_run(cluster, strict, child) == "", case
            assert dry_run(cluster, strict, bare_pod(child)) == "", case


@pytest.mark.parametrize("kind", ["SFTJob", "RLVRJob"])
def test_the_api_server_takes_the_service_of_a_gang(
    cluster: Cluster, strict: str, kind: str
) -> None:
    meeting = service(a_run(kind, resources={"nodes": 2}))
    assert meeting is not None
    assert dry_run(cluster, strict, meeting) == ""


def test_the_dry_run_would_tell(cluster: Cluster, strict: str) -> None:
    """Each of the three things that the tests above rely on: warning, refusal, unknown field."""
    good = job(a_run(), create(), NO_DEFAULTS)
    loose, unknown = copy.deepcopy(good), copy.deepcopy(good)
    pod_of(loose)["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    unknown["spec"]["template"]["spec"]["hostPath"] = "/"
    assert "would violate PodSecurity" in dry_run(cluster, strict, good, loose)
    assert "violates PodSecurity" in dry_run(cluster, strict, good, bare_pod(loose))
    assert "hostPath" in dry_run(cluster, strict, good, unknown)


def test_a_run_spec_beyond_the_limit_would_be_refused(cluster: Cluster, strict: str) -> None:
    assert "Too long" in dry_run(cluster, strict, with_run_spec("SFTJob", 256 << 10))
