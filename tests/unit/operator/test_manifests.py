"""Jobs and Services as rendered: what they are called, whose they are, and how they end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from unit.operator.children import (
    IMAGE,
    NO_DEFAULTS,
    STORAGE,
    UID,
    a_run,
    create,
    env_of,
    pod_of,
    rendered,
    rules_of,
    run_of,
    violations,
)

from m2r_operator import names
from m2r_operator.manifests import job, purge_job, service
from m2r_operator.state import CreatePurge, RunSeen
from m2r_train.api import KINDS, JobStatus, Storage

GANG_CASES = [
    ("RLVRJob", 1), ("SFTJob", 1), ("DataSynthesisJob", 1), ("EvalJob", 1),
    ("RLVRJob", 4), ("SFTJob", 4),
]  # fmt: skip
SHARD_CASES = [("DataSynthesisJob", 4), ("EvalJob", 2)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_job_names_its_run_its_attempt_and_its_owner(kind: str) -> None:
    child = rendered(kind, action=create(3))
    assert child["metadata"] == {
        "name": f"x-{names.SHORT[kind]}-3",
        "namespace": "team",
        "labels": {
            "m2r.dev/kind": kind,
            "m2r.dev/name": "x",
            "m2r.dev/attempt": "3",
            "app.kubernetes.io/managed-by": "m2r-operator",
            "app.kubernetes.io/name": "m2r-train",
        },
        "ownerReferences": [
            {
                "apiVersion": "m2r.dev/v1alpha1",
                "kind": kind,
                "name": "x",
                "uid": UID,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    assert child["spec"]["template"]["metadata"]["labels"] == child["metadata"]["labels"]


@pytest.mark.parametrize(("kind", "nodes"), GANG_CASES)
def test_a_gang_ends_with_its_first_failure_and_the_job_says_why(kind: str, nodes: int) -> None:
    child = rendered(kind, resources={"nodes": nodes})
    spec = child["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == (
        "Indexed", nodes, nodes,
    )  # fmt: skip
    assert (spec["backoffLimit"], spec["podReplacementPolicy"]) == (0, "Failed")
    assert rules_of(child) == [
        ("FailJob", "DisruptionTarget"),
        ("FailJob", (75, 143)),
        ("FailJob", (64, 65, 76, 78, 79)),
    ]
    assert spec.keys() & {"backoffLimitPerIndex", "successPolicy", "maxFailedIndexes"} == set()


@pytest.mark.parametrize(("kind", "nodes"), SHARD_CASES)
def test_shards_retry_each_for_itself_until_the_owner_has_joined_them(
    kind: str, nodes: int
) -> None:
    child = rendered(kind, resources={"nodes": nodes}, restartPolicy={"maxRestarts": 3})
    spec = child["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == (
        "Indexed", nodes, nodes,
    )  # fmt: skip
    assert (spec["backoffLimitPerIndex"], spec["podReplacementPolicy"]) == (3, "Failed")
    assert spec["successPolicy"] == {"rules": [{"succeededIndexes": "0"}]}
    assert rules_of(child) == [
        ("FailJob", (64, 65, 78, 79)),
        ("Ignore", "DisruptionTarget"),
        ("Ignore", (75, 143)),
        ("Ignore", (76,)),
    ]
    assert "backoffLimit" not in spec
    assert pod_of(child)["containers"][0]["command"][0] == "m2r"
    assert service(a_run(kind, resources={"nodes": nodes})) is None


@pytest.mark.parametrize("disruption", [{"policy": "Fail"}, {"maxPreemptions": 2}])
def test_shards_whose_disruptions_count_end_the_attempt_with_each(
    disruption: dict[str, Any],
) -> None:
    child = rendered("EvalJob", resources={"nodes": 2}, disruption=disruption)
    assert rules_of(child)[1:3] == [("FailJob", "DisruptionTarget"), ("FailJob", (75, 143))]


@pytest.mark.parametrize(("kind", "nodes"), GANG_CASES + SHARD_CASES)
def test_what_the_operator_keeps_itself_is_not_left_to_the_job(kind: str, nodes: int) -> None:
    """A Job's deadline starts anew with each resume, and its TTL loses the count of restarts."""
    child = rendered(
        kind, resources={"nodes": nodes}, activeDeadlineSeconds=60, ttlSecondsAfterFinished=5
    )
    assert child["spec"].keys() & {"activeDeadlineSeconds", "ttlSecondsAfterFinished"} == set()
    assert "activeDeadlineSeconds" not in pod_of(child)


def test_the_longest_names_fit_into_a_hosts_name() -> None:
    name = "n" * 45
    run = run_of({"kind": "RLVRJob", "metadata": {"name": name},
                  "spec": {"model": {"preset": "tiny"}, "dataset": {"uri": "file:///d"},
                           "resources": {"nodes": 1024}}})  # fmt: skip
    child = job(run, create(999_999), NO_DEFAULTS)
    assert len(f"{child['metadata']['name']}-1023") <= 63
    assert len(names.purge_name("RLVRJob", name)) <= 63


# the purge


def purge(run: RunSeen, storage: Storage = STORAGE) -> dict[str, Any]:
    return purge_job(run, CreatePurge(storage=storage, image=IMAGE), NO_DEFAULTS)


def test_a_purge_runs_with_the_rights_of_the_run() -> None:
    run = a_run(
        serviceAccountName="store-writer",
        resources={"gpusPerNode": 8, "nodes": 2, "memory": "1Ti"},
        scheduling={"tolerations": [{"key": "gpu", "operator": "Exists"}],
                    "nodeSelector": {"arch": "amd64"},
                    "affinity": {"podAffinity": {"x": 1}},
                    "topology": {"mode": "Required", "key": "rack"}},
    )  # fmt: skip
    child = purge(run, Storage(uri="s3://lab/runs", secret_ref={"name": "keys"}))
    assert child["metadata"]["name"] == "x-rlvrj-purge"
    assert child["metadata"]["labels"][names.ATTEMPT] == "0"
    spec, pod = child["spec"], pod_of(child)
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (3, 600)
    assert rules_of(child) == [
        ("FailJob", (64, 65, 78, 79)), ("Ignore", "DisruptionTarget"), ("Ignore", (75, 143)),
    ]  # fmt: skip
    container = pod["containers"][0]
    assert container["command"] == ["m2r", "purge", "--spec", "/etc/m2r/run.json"]
    assert container["resources"] == {"requests": {"cpu": "100m", "memory": "128Mi"}}
    assert "ports" not in container
    assert pod["serviceAccountName"] == "store-writer"
    assert pod["nodeSelector"] == {"arch": "amd64"}
    assert pod["tolerations"][0] == {"key": "gpu", "operator": "Exists"}
    assert "affinity" not in pod
    assert "AWS_SECRET_ACCESS_KEY" in env_of(child)


def test_a_purge_does_not_block_the_deletion_that_it_belongs_to() -> None:
    """Else the garbage collector deletes it at once with ``--cascade=foreground``."""
    (owner,) = purge(a_run())["metadata"]["ownerReferences"]
    assert (owner["blockOwnerDeletion"], owner["controller"], owner["uid"]) == (False, True, UID)


def test_a_run_that_cannot_be_read_can_still_be_purged() -> None:
    seen = a_run("SFTJob")
    run = RunSeen(key=seen.key, uid=UID, generation=1, resource_version="1", spec=None,
                  status=JobStatus(attempt=6))  # fmt: skip
    child = purge(run)
    told = json.loads(child["spec"]["template"]["metadata"]["annotations"][names.RUN_SPEC])
    assert (told["kind"], told["attempt"], told["spec"]) == ("SFTJob", 6, {})
    assert told["storage"]["uri"] == "s3://lab/runs"
    assert violations(child) == []
