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
        "torchrun", "-m", "m2r_train", "stage", "--spec", "/etc/m2r/run.json",
    ]  # fmt: skip
    first = f"x-{short}-3-0.x-{short}"
    env = env_of(child)
    told = {k: v for k, v in env.items() if k.startswith(("PET_", "MASTER_"))}
    assert told == {
        "MASTER_ADDR": first,
        "MASTER_PORT": "29500",
        "PET_MASTER_ADDR": first,
        "PET_MASTER_PORT": "29500",
        "PET_RDZV_BACKEND": "static",
        "PET_NNODES": "2",
        "PET_NPROC_PER_NODE": "8",
        "PET_SHUTDOWN_TIMEOUT": "90",
        "PET_NODE_RANK": {
            "fieldRef": {
                "fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"
            }
        },
    }
    assert env["OMP_NUM_THREADS"] == "4"


def test_torchrun_knows_every_option_that_it_is_told() -> None:
    """``PET_X`` for an unknown X would be ignored without a word."""
    from torch.distributed.run import get_args_parser

    env = env_of(rendered(resources={"nodes": 2, "gpusPerNode": 2}))
    told = {name.removeprefix("PET_").lower() for name in env if name.startswith("PET_")}
    options = {action.dest for action in get_args_parser()._actions}
    assert told <= options


def test_several_processes_of_one_node_need_no_service() -> None:
    run = a_run(resources={"gpusPerNode": 4})
    child = job(run, create(), NO_DEFAULTS)
    assert service(run) is None
    assert "subdomain" not in pod_of(child)
    env = env_of(child)
    assert (env["MASTER_ADDR"], env["PET_NNODES"], env["PET_NPROC_PER_NODE"]) == (
        "127.0.0.1", "1", "4",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "resources"),
    [
        ("RLVRJob", {}),
        ("RLVRJob", {"gpusPerNode": 1}),
        ("EvalJob", {"nodes": 2, "gpusPerNode": 8}),
        ("DataSynthesisJob", {"gpusPerNode": 2}),
    ],
)
def test_one_process_a_pod_needs_no_launcher(kind: str, resources: dict[str, Any]) -> None:
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
