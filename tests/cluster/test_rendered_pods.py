"""Rendered children as real pods in a namespace that enforces the restricted standard.

Neither the operator nor the trainer is needed: what the operator would post is posted here, with
a small program in the trainer's place.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from cluster import TOOLBOX, Cluster
from unit.operator.children import IMAGE, NO_DEFAULTS, STORAGE, a_run, create, pod_of, run_of

from m2r_operator import names, pods
from m2r_operator.manifests import job, purge_job, service
from m2r_operator.state import CreatePurge, RunSeen

Manifest = dict[str, Any]


def with_command(child: Manifest, *arguments: str) -> Manifest:
    """The Job with another program in its container, and nothing else changed."""
    child = copy.deepcopy(child)
    child["metadata"].pop("namespace")
    child["metadata"].pop("ownerReferences")  # the garbage collector would look for the run
    container = pod_of(child)["containers"][0]
    container["image"] = TOOLBOX
    container["command"] = ["/toolbox", *arguments]
    return child


def condition(cluster: Cluster, namespace: str, name: str) -> Manifest | None:
    """The Job's end: its Complete or Failed condition."""
    for one in cluster.get("job", name, namespace=namespace)["status"].get("conditions", []):
        if one["type"] in ("Complete", "Failed") and one["status"] == "True":
            return dict(one)
    return None


def run_to_its_end(cluster: Cluster, namespace: str, child: Manifest) -> Manifest:
    """Posts a Job and waits for its end."""
    cluster.apply(child, namespace=namespace)
    name = child["metadata"]["name"]
    return cluster.wait(
        f"{name} ends", lambda: condition(cluster, namespace, name), seconds=90, namespace=namespace
    )


def pods_of_job(cluster: Cluster, namespace: str, child: Manifest) -> list[Manifest]:
    """Its pods that the API server knows."""
    selector = f"batch.kubernetes.io/job-name={child['metadata']['name']}"
    return list(cluster.get("pods", namespace=namespace, selector=selector)["items"])


def plain(kind: str = "RLVRJob", nodes: int = 1, restarts: int = 5) -> Manifest:
    """The Job of a small run."""
    spec = {
        "resources": {"nodes": nodes, "cpu": "10m"},
        "disruption": {"terminationGracePeriodSeconds": 5},
        "restartPolicy": {"maxRestarts": restarts},
    }
    return job(a_run(kind, **spec), create(storage=STORAGE), NO_DEFAULTS)


# what a pod has


def test_a_pod_finds_its_run_spec_as_a_file(cluster: Cluster, namespace: str) -> None:
    child = with_command(plain(), "cat", pods.SPEC_FILE)
    assert run_to_its_end(cluster, namespace, child)["type"] == "Complete"
    (pod,) = pods_of_job(cluster, namespace, child)
    text = cluster.logs(namespace, pod["metadata"]["name"])
    told = child["spec"]["template"]["metadata"]["annotations"][names.RUN_SPEC]
    assert json.loads(text) == json.loads(told)


@pytest.mark.parametrize(
    ("path", "end"),
    [("/cache/x", "Complete"), ("/tmp/x", "Complete"), ("/dev/shm/x", "Complete"),
     ("/dev/termination-log", "Complete"),
     ("/x", "Failed"), ("/etc/m2r/x", "Failed"), ("/etc/m2r/run.json", "Failed")],
)  # fmt: skip
def test_a_pod_writes_to_its_volumes_and_nowhere_else(
    cluster: Cluster, namespace: str, path: str, end: str
) -> None:
    child = with_command(plain(), "write", path, "text")
    assert run_to_its_end(cluster, namespace, child)["type"] == end


def test_a_pod_has_no_token(cluster: Cluster, namespace: str) -> None:
    token = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    child = with_command(plain(), "cat", token)
    assert run_to_its_end(cluster, namespace, child)["type"] == "Failed"
    (pod,) = pods_of_job(cluster, namespace, child)
    assert "no such file" in cluster.logs(namespace, pod["metadata"]["name"])


# how Jobs end


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        (0, "CompletionsReached", ""),
        (75, "PodFailurePolicy", "exit code 75"),
        (143, "PodFailurePolicy", "exit code 143"),
        (78, "PodFailurePolicy", "exit code 78"),
        (1, "BackoffLimitExceeded", ""),
    ],
)
def test_a_gang_is_over_with_its_first_exit_and_its_job_says_which(
    cluster: Cluster, namespace: str, code: int, reason: str, words: str
) -> None:
    child = with_command(plain(), "exit", str(code))
    end = run_to_its_end(cluster, namespace, child)
    assert end["reason"] == reason
    assert words in end.get("message", "")
    assert len(pods_of_job(cluster, namespace, child)) == 1


@pytest.mark.parametrize(("code", "end"), [(65, "PodFailurePolicy"), (0, "SuccessPolicy")])
def test_shards_end_with_the_owner_or_with_a_permanent_error(
    cluster: Cluster, namespace: str, code: int, end: str
) -> None:
    child = with_command(plain("EvalJob", nodes=2), "exit", str(code))
    assert run_to_its_end(cluster, namespace, child)["reason"] == end


def test_shards_that_crash_beyond_their_budget_fail_the_job(
    cluster: Cluster, namespace: str
) -> None:
    child = with_command(plain("EvalJob", nodes=2, restarts=0), "exit", "1")
    assert run_to_its_end(cluster, namespace, child)["reason"] == "FailedIndexes"
    assert len(pods_of_job(cluster, namespace, child)) == 2


def test_a_shard_that_is_deleted_comes_back_and_costs_nothing(
    cluster: Cluster, namespace: str
) -> None:
    child = with_command(plain("DataSynthesisJob", nodes=2, restarts=0), "trap-term", "75")
    cluster.apply(child, namespace=namespace)

    def two_running() -> set[str] | None:
        running = {
            pod["metadata"]["name"]
            for pod in pods_of_job(cluster, namespace, child)
            if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
        }
        return running if len(running) == 2 else None

    before = cluster.wait("both shards run", two_running, namespace=namespace)
    victim = sorted(before)[1]
    cluster.delete("pod", victim, namespace=namespace)
    after = cluster.wait("both run again", two_running, seconds=90, namespace=namespace)
    assert after & before == before - {victim}
    assert condition(cluster, namespace, child["metadata"]["name"]) is None


# what children are to each other and to their run


def test_the_ranks_of_a_gang_are_found_by_the_name_that_they_are_told(
    cluster: Cluster, namespace: str
) -> None:
    run = a_run("SFTJob", resources={"nodes": 2, "cpu": "10m"})
    child, meeting = job(run, create(), NO_DEFAULTS), service(run)
    assert meeting is not None
    del meeting["metadata"]["ownerReferences"], meeting["metadata"]["namespace"]
    told = {item["name"]: item.get("value") for item in pod_of(child)["containers"][0]["env"]}
    first, port = str(told["MASTER_ADDR"]), str(told["MASTER_PORT"])
    second = first.replace("-0.", "-1.")
    ranks = with_command(child, "serve", port)
    cluster.apply(meeting, ranks, namespace=namespace)

    def ready() -> bool:
        found = pods_of_job(cluster, namespace, ranks)
        return len(found) == 2 and all(p["status"]["phase"] == "Running" for p in found)

    cluster.wait("both ranks run", ready, namespace=namespace)
    for rank, host in enumerate((first, second)):
        probe = with_command(plain(), "get", f"http://{host}:{port}/env?JOB_COMPLETION_INDEX")
        probe["metadata"]["name"] = f"probe-{rank}"
        assert run_to_its_end(cluster, namespace, probe)["type"] == "Complete"
        (pod,) = pods_of_job(cluster, namespace, probe)
        assert cluster.logs(namespace, pod["metadata"]["name"]).split() == ["200", str(rank)]


def owned_by(run: RunSeen, name: str, *finalizers: str) -> Manifest:
    """Any child of the run."""
    owners = job(run, create(), NO_DEFAULTS)["metadata"]["ownerReferences"]
    metadata = {"name": name, "finalizers": list(finalizers), "ownerReferences": owners}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def let_go(cluster: Cluster, namespace: str, resource: str, name: str, finalizer: str) -> None:
    """Takes a finalizer away."""
    found = cluster.get(resource, name, namespace=namespace)["metadata"]["finalizers"]
    patch = {"metadata": {"finalizers": [one for one in found if one != finalizer]}}
    options = ("--type=merge", f"--patch={json.dumps(patch)}")
    cluster.kubectl("patch", resource, name, *options, namespace=namespace)


def test_a_purge_survives_a_foreground_deletion_and_goes_with_its_run(
    cluster: Cluster, crds: None, namespace: str
) -> None:
    """One that blocked its owner's deletion would itself be deleted, and purge nothing.

    The garbage collector looks for such children whenever another one has gone, as the Jobs of
    attempts do while the purge runs; here two ConfigMaps stand for those.
    """
    hold = "m2r.dev/test"
    manifest = {
        "apiVersion": "m2r.dev/v1alpha1",
        "kind": "SFTJob",
        "metadata": {"name": "x", "finalizers": [names.FINALIZER]},
        "spec": {"model": {"preset": "tiny"}, "dataset": {"uri": "file:///data"}},
    }
    cluster.apply(manifest, namespace=namespace)
    uid = cluster.get("sftjobs.m2r.dev", "x", namespace=namespace)["metadata"]["uid"]
    seen = run_of({**manifest, "metadata": {"name": "x", "namespace": namespace}})
    run = RunSeen(key=seen.key, uid=uid, generation=1, resource_version="1", spec=seen.spec,
                  status=seen.status)  # fmt: skip

    def going(resource: str, name: str) -> bool:
        found = cluster.try_get(resource, name, namespace=namespace)
        return found is None or "deletionTimestamp" in found["metadata"]

    children = ("first", "second")
    cluster.apply(*(owned_by(run, name, hold) for name in children), namespace=namespace)
    options = ("--cascade=foreground", "--wait=false")
    cluster.kubectl("delete", "sftjobs.m2r.dev", "x", *options, namespace=namespace)
    cluster.wait(
        "the children go first", lambda: all(going("configmap", name) for name in children),
        seconds=90, namespace=namespace,
    )  # fmt: skip

    child = purge_job(run, CreatePurge(storage=STORAGE, image=IMAGE), NO_DEFAULTS)
    ours = with_command(child, "sleep", "300")
    ours["metadata"]["ownerReferences"] = child["metadata"]["ownerReferences"]
    blocking = copy.deepcopy(ours)
    blocking["metadata"]["name"] = "blocking"
    blocking["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] = True
    name = ours["metadata"]["name"]
    cluster.apply(ours, blocking, namespace=namespace)
    let_go(cluster, namespace, "configmap", "first", hold)
    cluster.wait(
        "a child that blocks is deleted", lambda: going("job", "blocking"),
        seconds=60, namespace=namespace,
    )  # fmt: skip
    assert not going("job", name)

    let_go(cluster, namespace, "configmap", "second", hold)
    cluster.wait(
        "nothing but the purge is left",
        lambda: cluster.try_get("job", "blocking", namespace=namespace) is None,
        seconds=90, namespace=namespace,
    )  # fmt: skip
    assert not going("job", name)
    let_go(cluster, namespace, "sftjobs.m2r.dev", "x", names.FINALIZER)
    cluster.wait(
        "the run and its purge are gone",
        lambda: (
            cluster.try_get("sftjobs.m2r.dev", "x", namespace=namespace) is None
            and cluster.try_get("job", name, namespace=namespace) is None
        ),
        seconds=90, namespace=namespace,
    )  # fmt: skip
