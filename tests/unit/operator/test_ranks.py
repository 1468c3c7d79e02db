"""How the processes of a gang find each other."""

from __future__ import annotations

from typing import Any

import pytest
from unit.operator.children import (
    NO_DEFAULTS,
    UID,
    a_run,
    create,
    env_of,
    pod_of,
    rendered,
)

from m2r_operator import names
from m2r_operator.manifests import job, service


@pytest.mark.parametrize("kind", ["SFTJob", "RLVRJob"])
def test_a_gang_of_several_nodes_meets_at_its_first_pod(kind: str) -> None:
    resources = {"nodes": 2, "gpusPerNode": 8, "cpu": "32"}
    run = a_run(kind, resources=resources, disruption={"terminationGracePeriodSeconds": 90})
    child, meeting = job(run, create(3), NO_DEFAULTS), service(run)
    short = names.SHORT[kind]
    assert meeting is not None
    assert meeting["metadata"]["name"] == pod_of(child)["subdomain"] == f"x-{short}"
    assert pod_of(child)["containers"][0]["command"] == [
        "m2r", "stage", "--spec", "/etc/m2r/run.json",
    ]  # fmt: skip
    env = env_of(child)
    told = {k: v for k, v in env.items() if k.startswith(("PET_", "MASTER_", "RANK", "WORLD"))}
    assert told == {"MASTER_ADDR": f"x-{short}-3-0.x-{short}", "MASTER_PORT": "29500"}
    assert env["OMP_NUM_THREADS"] == "4"


def test_several_processes_of_one_node_need_no_service() -> None:
    run = a_run(resources={"gpusPerNode": 4})
    child = job(run, create(), NO_DEFAULTS)
    assert service(run) is None
    assert "subdomain" not in pod_of(child)
    assert not [name for name in env_of(child) if name.startswith("MASTER_")]


@pytest.mark.parametrize(
    ("kind", "resources", "threads"),
    [
        ("SFTJob", {"cpu": "8", "processesPerNode": 4}, "2"),
        ("RLVRJob", {"cpu": "8", "gpusPerNode": 2}, "4"),
        ("RLVRJob", {"cpu": "8", "gpusPerNode": 2, "processesPerNode": 1}, "8"),
        ("EvalJob", {"cpu": "8", "processesPerNode": 4}, "8"),
    ],
)
def test_the_processes_of_a_pod_share_its_cpu(
    kind: str, resources: dict[str, Any], threads: str
) -> None:
    assert env_of(rendered(kind, resources=resources))["OMP_NUM_THREADS"] == threads


@pytest.mark.parametrize(
    ("kind", "resources"),
    [
        ("RLVRJob", {}),
        ("RLVRJob", {"gpusPerNode": 1}),
        ("EvalJob", {"nodes": 2, "gpusPerNode": 8}),
        ("DataSynthesisJob", {"gpusPerNode": 2}),
    ],
)
def test_pods_that_work_alone_meet_nobody(kind: str, resources: dict[str, Any]) -> None:
    child = rendered(kind, resources=resources)
    assert pod_of(child)["containers"][0]["command"] == [
        "m2r", "stage", "--spec", "/etc/m2r/run.json",
    ]  # fmt: skip
    assert not [name for name in env_of(child) if name.startswith(("PET_", "MASTER_"))]


def test_the_service_selects_the_runs_pods_before_they_are_ready() -> None:
    run = a_run(resources={"nodes": 2})
    meeting = service(run)
    assert meeting is not None
    assert meeting["spec"] == {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": {names.KIND: "RLVRJob", names.NAME: "x"},
        "ports": [{"name": "rendezvous", "port": 29500}],
    }
    labels = job(run, create(7), NO_DEFAULTS)["spec"]["template"]["metadata"]["labels"]
    assert meeting["spec"]["selector"].items() <= labels.items()
    assert meeting["metadata"]["ownerReferences"][0]["uid"] == UID
    assert names.ATTEMPT not in meeting["metadata"]["labels"]
