"""What the tests with Kueue look at: queues of the documentation, Workloads, and what pods did."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import histories
import yaml
from cluster import Cluster
from cluster.kueue import Kueue, running
from cluster.kueue.manifests import ACCOUNT, NAMESPACE
from histories import History
from lab import ROOT, Lab
from plays import play, rlvr

from m2r_operator import names

Manifest = dict[str, Any]
RUNS: Final = "rlvrjobs.m2r.dev"
WORKLOADS: Final = "workloads.kueue.x-k8s.io"
QUEUE: Final = "research"  # the local queue of docs/kueue.md; its quota is one GPU
URGENT: Final = {names.QUEUE_PRIORITY: "urgent"}  # the priority class of docs/kueue.md
POOL: Final = {"m2r.dev/pool": "gpu"}  # the node label of its flavor
ONE_GPU: Final = {"cpu": "10m", "sharedMemory": "16Mi", "gpusPerNode": 1}


def documented() -> list[list[Manifest]]:
    """The manifests of docs/kueue.md, block by block."""
    text = (ROOT / "docs" / "kueue.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [list(yaml.safe_load_all(block)) for block in blocks]


def queue_objects(*, local: bool) -> list[Manifest]:
    """The documentation's queue: what belongs to the cluster, or what belongs to a namespace."""
    return [o for o in documented()[0] if (o["kind"] == "LocalQueue") is local]


@contextmanager
def with_queues(cluster: Cluster) -> Iterator[Kueue]:
    """Kueue with the cluster's part of the documentation's queue, on this node."""
    with running(cluster) as kueue:
        labels = [f"{key}={value}" for key, value in POOL.items()]
        cluster.kubectl("label", "node", cluster.node, *labels, "--overwrite")
        cluster.apply(*queue_objects(local=False))
        yield kueue
        cluster.kubectl("label", "node", cluster.node, *(f"{key}-" for key in POOL))


def set_quota(cluster: Cluster, resource: str, amount: int | str) -> None:
    """Sets how much of a resource the cluster queue gives."""
    [queue] = [o for o in queue_objects(local=False) if o["kind"] == "ClusterQueue"]
    [flavor] = queue["spec"]["resourceGroups"][0]["flavors"]
    for quota in flavor["resources"]:
        if quota["name"] == resource:
            quota["nominalQuota"] = amount
    cluster.apply(queue)


@contextmanager
def reading_runs(cluster: Cluster) -> Iterator[None]:
    """Kueue may read our kinds for the time of the block."""
    api, name = "rbac.authorization.k8s.io", "kueue-reads-m2r"
    rules = [{"apiGroups": ["m2r.dev"], "resources": ["*"], "verbs": ["get", "list", "watch"]}]
    account = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}
    cluster.apply(
        {
            "apiVersion": f"{api}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": rules,
        },
        {
            "apiVersion": f"{api}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": name},
            "subjects": [account],
        },
    )
    try:
        yield
    finally:
        cluster.delete("clusterrolebinding", name)
        cluster.delete("clusterrole", name)


def queued(name: str, *, labels: Mapping[str, str] | None = None, **spec: Any) -> Manifest:
    """An RLVRJob on the stand-in in the queue; further keywords: its spec, or what it plays."""
    played = {k: spec.pop(k) for k in [*spec] if isinstance(spec[k], int | float)}
    manifest = rlvr(
        name,
        uri=play(**played),
        scheduling=spec.pop("scheduling", {"queue": QUEUE}),
        resources=dict(ONE_GPU),
        restartPolicy={"backoffSeconds": 1},
        **spec,
    )
    manifest["metadata"]["labels"] = dict(labels or {})
    return manifest


def workloads(room: Lab, name: str, kind: str = "RLVRJob") -> dict[str, Manifest]:
    """Kueue's Workloads of a run, by the name of the Job that owns them."""
    found = room.cluster.get(WORKLOADS, namespace=room.namespace)["items"]
    owned = {w["metadata"]["ownerReferences"][0]["name"]: w for w in found}
    return {o: w for o, w in owned.items() if o.startswith(f"{names.child_name(kind, name)}-")}


def held_back(room: Lab, name: str, words: str, kind: str = "RLVRJob") -> bool:
    """Whether ``kubectl describe workloads`` has ``words`` about what a run waits for."""
    found = [w["metadata"]["name"] for w in workloads(room, name, kind).values()]
    described = ("describe", "workloads", *found)
    return bool(found) and words in room.cluster.kubectl(*described, namespace=room.namespace)


def holds(workload: Manifest, condition: str) -> bool:
    """Whether a Workload's condition is true."""
    conditions = workload.get("status", {}).get("conditions", [])
    return any(c["type"] == condition and c["status"] == "True" for c in conditions)


def said(room: Lab, name: str, condition: str) -> tuple[str, str]:
    """Status and reason of a run's condition; empty words where it is not there."""
    found = room.condition("RLVRJob", name, condition) or {}
    return found.get("status", ""), found.get("reason", "")


def until_said(
    room: Lab, name: str, condition: str, status: str, reason: str, seconds: float = 120.0
) -> None:
    """Waits for a condition with a status and a reason."""
    room.until(
        f"{name}: {condition}={status}, {reason}",
        lambda: said(room, name, condition) == (status, reason),
        seconds,
    )


def change(room: Lab, name: str, **spec: Any) -> None:
    """Merges fields into a run's spec."""
    patch = ("--type=merge", "-p", json.dumps({"spec": spec}))
    room.cluster.kubectl("patch", RUNS, name, *patch, namespace=room.namespace)


def remove(room: Lab, name: str) -> None:
    """Deletes a run and waits until it is gone."""
    room.cluster.delete(RUNS, name, namespace=room.namespace)


def job_names(room: Lab, name: str) -> list[str]:
    """A run's Jobs, oldest attempt first."""
    return [job["metadata"]["name"] for job in room.jobs("RLVRJob", name)]


def ended(pod: Manifest) -> bool:
    """Whether a pod has exited with 75, state saved."""
    containers = pod["status"].get("containerStatuses", [])
    codes = [c["state"].get("terminated", {}).get("exitCode") for c in containers]
    return pod["status"]["phase"] == "Failed" and codes == [75]


def failing(job: Manifest) -> bool:
    """Whether a Job has failed, or is about to."""
    conditions = job["status"].get("conditions", [])
    return any(c["type"] in ("Failed", "FailureTarget") for c in conditions)


@contextmanager
def kept(room: Lab, pod: str) -> Iterator[None]:
    """A pod whose object stays for the time of the block, whatever becomes of its processes."""
    add = [{"op": "add", "path": "/metadata/finalizers/-", "value": "m2r.dev/kept-by-a-test"}]
    _patch_pod(room, pod, add)
    try:
        yield
    finally:
        _patch_pod(room, pod, [{"op": "remove", "path": "/metadata/finalizers"}])


def _patch_pod(room: Lab, pod: str, changes: list[Manifest]) -> None:
    patch = ("--type=json", "-p", json.dumps(changes))
    room.cluster.kubectl("patch", "pod", pod, *patch, namespace=room.namespace)


def stays(room: Lab, what: str, holds: Callable[[], bool], seconds: float = 2.0) -> None:
    """Asserts that something holds, and goes on to hold."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert holds(), f"no longer: {what}\n{room.cluster.describe(room.namespace)}"
        time.sleep(0.5)


class Watched(History):
    """Every state of a namespace's pods that a watch has shown, also of those that are gone."""

    def exit_codes(self, job: str) -> list[int]:
        """Exit codes of a Job's pods, in the order in which they ended."""
        codes: dict[str, int] = {}
        for _, pod in self:
            if pod["metadata"]["labels"].get("job-name") != job:
                continue
            for container in pod.get("status", {}).get("containerStatuses", []):
                ended = container.get("state", {}).get("terminated")
                if ended is not None:
                    codes.setdefault(pod["metadata"]["uid"], int(ended["exitCode"]))
        return list(codes.values())


@contextmanager
def watching(cluster: Cluster, namespace: str, folder: Path) -> Iterator[Watched]:
    """Writes down every state of the pods of a namespace for the time of the block."""
    with histories.watching(cluster, namespace, "pods", folder) as seen:
        yield Watched(seen.file)
