"""What takes a trainer's pod away in mid-step, and how long its run takes to commit again.

Six blows, all of them real: the scheduler's preemption, the eviction API, a drain of the node, a
deletion, SIGKILL, and the kernel's out-of-memory killer. Times are of this machine's monotonic
clock: a `Diary` watches the API server and the HEAD of the run's store while it happens.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import boto3
from cluster import TOOLBOX, tool
from lab import Lab, http_json, selector
from runs import Manifests, manifests

from m2r_operator import names
from m2r_train.api.common import parse_quantity
from m2r_train.api.runspec import run_prefix

Manifest = dict[str, Any]
RLVR: Final = "RLVRJob"
EVERY: Final = 2  # steps between two checkpoints: a blow can fall where a step is not committed
CPU: Final = "200m"  # one thread
PATIENCE: Final = 120.0  # seconds; on a quiet machine nothing here takes twenty


def family(steps: int) -> Manifests:
    """The small manifests, with an RLVR run whose steps take a second, so that a blow falls into
    one, and whose pods have a memory limit that something can exceed."""
    found = manifests("data", "sft", "curriculum", "rlvr", "eval-rlvr")
    for document in found.values():
        document["spec"]["resources"] = {"cpu": CPU}
        document["spec"]["restartPolicy"] = {
            "maxRestarts": 99, "backoffSeconds": 1, "maxBackoffSeconds": 1,
        }  # fmt: skip
        document["spec"]["disruption"] = {"terminationGracePeriodSeconds": 30}
    spec = found["rlvr"]["spec"]
    spec["steps"] = steps
    spec["rollout"] |= {"promptsPerStep": 16, "groupSize": 8}
    spec["checkpoint"]["everySteps"] = EVERY
    spec["resources"]["memory"] = "2Gi"
    return found


# What happened, and when -------------------------------------------------------------------------


class Diary:
    """When what happened to a run and its children, as it is seen from outside.

    ``gone, UID``: that pod's containers have ended · ``made, ATTEMPT``: its Job is there ·
    ``placed, ATTEMPT`` and ``runs, ATTEMPT``: its pod has a node, its container has started ·
    ``committed, ATTEMPT, STEP``: the store's HEAD says so, first as the attempt has claimed it.
    """

    def __init__(self, room: Lab, kind: str, name: str) -> None:
        self.room, self.kind, self.name = room, kind, name
        self.seen: dict[tuple[object, ...], float] = {}
        self.pods: dict[str, Manifest] = {}  # by uid, as last seen
        self.statuses: list[Manifest] = []  # every status that was written, in order
        self.heads: list[Manifest] = []  # every HEAD that was seen, in order
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._watches: list[subprocess.Popen[bytes]] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Diary:
        namespace, chosen = self.room.namespace, f"labelSelector={selector(self.kind, self.name)}"
        plural, own = names.PLURALS[self.kind], f"fieldSelector=metadata.name={self.name}"
        self._start(self._watch, f"/api/v1/namespaces/{namespace}/pods?{chosen}", self._pod)
        self._start(self._watch, f"/apis/batch/v1/namespaces/{namespace}/jobs?{chosen}", self._job)
        runs = f"/apis/m2r.dev/v1alpha1/namespaces/{namespace}/{plural}?{own}"
        self._start(self._watch, runs, self._run)
        self._start(self._read_heads)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for watch in self._watches:
            watch.kill()
        for thread in self._threads:
            thread.join()

    def until(self, *what: object, seconds: float = PATIENCE) -> float:
        """When it happened; waits for it."""
        with self._changed:
            if not self._changed.wait_for(lambda: what in self.seen, seconds):
                shown = self.room.cluster.describe(self.room.namespace)
                raise AssertionError(f"not within {seconds:g} s: {what}\n{shown}")
        return self.seen[what]

    def until_committed(self, attempt: int, seconds: float = PATIENCE) -> tuple[int, float, float]:
        """What ``attempt`` found committed, when it claimed the run, when it first committed a
        further step; waits for that."""

        def heads() -> dict[int, float]:
            return {
                int(str(what[2])): when
                for what, when in self.seen.items()
                if what[:2] == ("committed", attempt)
            }

        with self._changed:
            if not self._changed.wait_for(lambda: len(heads()) > 1, seconds):
                shown = self.room.cluster.describe(self.room.namespace)
                raise AssertionError(
                    f"attempt {attempt} commits nothing; it has {heads()}\n{shown}"
                )
            (found, claimed), (_, done), *_ = sorted(heads().items())
            return found, claimed, done

    def living(self) -> list[Manifest]:
        """Pods that have an address and are not on their way out."""
        return [
            pod for uid, pod in list(self.pods.items())
            if ("gone", uid) not in self.seen
            and not pod["metadata"].get("deletionTimestamp")
            and pod["status"].get("podIP")
        ]  # fmt: skip

    def knows_resumed(self, told: Mapping[str, Any]) -> bool:
        """Whether the status says where the attempt has resumed, as its pod tells it."""
        status, resumed = self.statuses[-1], told["resumedFrom"]
        if status["attempt"] != told["attempt"] or resumed is None:
            return told["attempt"] == 1
        return bool(status.get("resumedFrom", {}).get("step") == resumed["step"])

    def resumed(self) -> dict[int, Manifest]:
        """``status.resumedFrom`` of each attempt as it last stood."""
        return {s["attempt"]: s["resumedFrom"] for s in self.statuses if s.get("resumedFrom")}

    def endings(self) -> dict[int, Manifest]:
        """``status.failure`` of each attempt that ended."""
        failures = [s["failure"] for s in self.statuses if s.get("failure")]
        return {f["attempt"]: f for f in failures}

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _note(self, *what: object) -> None:
        with self._changed:
            self.seen.setdefault(what, time.monotonic())
            self._changed.notify_all()

    def _watch(self, path: str, note: Callable[[str, Manifest], None]) -> None:
        command = [str(tool("kubectl")), f"--kubeconfig={self.room.cluster.kubeconfig}"]
        while not self._stop.is_set():  # the server ends each watch some day
            watch = subprocess.Popen(
                [*command, "get", "--raw", f"{path}&watch=1"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            self._watches.append(watch)
            if self._stop.is_set():
                watch.kill()
            assert watch.stdout is not None
            with watch, watch.stdout as lines:
                for line in lines:
                    event = json.loads(line)
                    note(event["type"], event["object"])

    def _pod(self, event: str, pod: Manifest) -> None:
        attempt, status = int(pod["metadata"]["labels"][names.ATTEMPT]), pod["status"]
        self.pods[pod["metadata"]["uid"]] = pod
        if pod["spec"].get("nodeName"):
            self._note("placed", attempt)
        if any("running" in c.get("state", {}) for c in status.get("containerStatuses", ())):
            self._note("runs", attempt)
        if event == "DELETED" or status.get("phase") in ("Succeeded", "Failed"):
            self._note("gone", pod["metadata"]["uid"])

    def _job(self, _event: str, job: Manifest) -> None:
        self._note("made", int(job["metadata"]["labels"][names.ATTEMPT]))

    def _run(self, _event: str, run: Manifest) -> None:
        status = run.get("status", {})
        if not self.statuses or self.statuses[-1] != status:
            self.statuses.append(status)

    def _read_heads(self) -> None:
        s3 = self.room.cluster.s3
        client = boto3.client(
            "s3",
            endpoint_url=s3.endpoint,
            region_name=s3.region,
            aws_access_key_id=s3.access_key,
            aws_secret_access_key=s3.secret_key,
        )
        uid = self.room.run(self.kind, self.name)["metadata"]["uid"]
        folder = run_prefix(self.room.namespace, self.kind, self.name, uid)
        key = f"{self.room.namespace}/{folder}/HEAD"
        while not self._stop.wait(0.05):
            with contextlib.suppress(client.exceptions.NoSuchKey):
                head = json.loads(client.get_object(Bucket=s3.bucket, Key=key)["Body"].read())
                if not self.heads or self.heads[-1] != head:
                    self.heads.append(head)
                    self._note("committed", int(head["attempt"]), int(head["step"]))


# Blows -------------------------------------------------------------------------------------------


@contextmanager
def preempted(room: Lab, pod: Manifest) -> Iterator[None]:
    """A pod of higher priority takes the room that this pod has, for as long as it runs."""
    name = f"urgent-{uuid.uuid4().hex[:6]}"
    room.apply(
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": 1_000_000,
        },
        _urgent(name, pod["spec"]["nodeName"], _cpu_without(room, pod)),
    )
    try:
        yield
        room.until(
            "the urgent pod has run",
            lambda: room.cluster.phase(room.namespace, name) == "Succeeded",
        )
    finally:
        room.cluster.delete("pod", name, namespace=room.namespace, wait=False)
        room.cluster.delete("priorityclass", name)


@contextmanager
def evicted(room: Lab, pod: Manifest) -> Iterator[None]:
    """The eviction API, as an autoscaler calls it."""
    name = pod["metadata"]["name"]
    path = f"/api/v1/namespaces/{room.namespace}/pods/{name}/eviction"
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": room.namespace},
    }
    room.cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    yield


@contextmanager
def drained(room: Lab, pod: Manifest) -> Iterator[None]:
    """``kubectl drain`` of its node, and ``kubectl uncordon`` when it is gone."""
    node, chosen = pod["spec"]["nodeName"], f"{names.NAME}={pod['metadata']['labels'][names.NAME]}"
    try:
        room.cluster.kubectl(
            "drain", node, "--ignore-daemonsets", "--delete-emptydir-data",
            f"--pod-selector={chosen}", "--timeout=100s", seconds=110,
        )  # fmt: skip
        yield
    finally:
        room.cluster.kubectl("uncordon", node)


@contextmanager
def deleted(room: Lab, pod: Manifest) -> Iterator[None]:
    """``kubectl delete pod``, as a person does it."""
    name = pod["metadata"]["name"]
    room.cluster.kubectl("delete", "pod", name, "--wait=false", namespace=room.namespace)
    yield


@contextmanager
def killed(_room: Lab, pod: Manifest) -> Iterator[None]:
    """SIGKILL of the trainer itself; it is process 1 of its pod, so the signal comes from the
    node."""
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if container in (process / "cgroup").read_text():
                os.kill(int(process.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            continue
    yield


_FILL: Final = """
with open("/dev/shm/full", "wb", buffering=0) as file:
    while True:
        file.write(bytes(1 << 20))
"""


@contextmanager
def starved(room: Lab, pod: Manifest) -> Iterator[None]:
    """Shared memory fills up until the container is over its limit. The kernel then kills the
    largest process, which is the trainer: the pages of a file there are no process's own."""
    name = pod["metadata"]["name"]
    command = ("exec", name, "--", "python", "-c", _FILL)
    room.cluster.kubectl(*command, namespace=room.namespace, check=False, seconds=PATIENCE)
    yield


@dataclass(frozen=True)
class Blow:
    """A way in which a pod goes. ``class_`` is what the status calls it."""

    name: str
    strike: Callable[[Lab, Manifest], AbstractContextManager[None]]
    class_: str
    kills: bool = False  # nobody asks the trainer to stop: it saves nothing, and that is charged


BLOWS: Final = (
    Blow("preemption", preempted, "Preempted"),
    Blow("eviction", evicted, "Evicted"),
    Blow("drain", drained, "Evicted"),
    Blow("delete pod", deleted, "PodDeleted"),
    Blow("kill -9", killed, "Crash", kills=True),
    Blow("out of memory", starved, "OOMKilled", kills=True),
)


# A blow and what comes of it ---------------------------------------------------------------------


@dataclass(frozen=True)
class Recovery:
    """What one blow cost; seconds from when the pod was gone (and its node had room again)."""

    blow: Blow
    attempt: int  # the one that was struck
    done: int  # steps that it had done, by its last word before the blow
    committed: int  # of which the store had these when the next attempt claimed the run
    away: float  # for which the node had no room for it
    decided: float  # from when the pod was gone until the next Job was made, with a crash's pause
    running: float  # until its container had started
    claimed: float  # until it owned the run
    total: float  # until it had committed a step


def strike(room: Lab, diary: Diary, blow: Blow) -> Recovery:
    """Waits until the run is in mid-step, takes its pod, waits until it has committed again."""
    pod, told = in_mid_step(room, diary)
    attempt = int(told["attempt"])
    with blow.strike(room, pod):
        gone = diary.until("gone", pod["metadata"]["uid"])
    free = max(gone, time.monotonic()) if blow.strike in (preempted, drained) else gone
    committed, claimed, done = diary.until_committed(attempt + 1)
    return Recovery(
        blow=blow,
        attempt=attempt,
        done=told["step"],
        committed=committed,
        away=free - gone,
        decided=diary.until("made", attempt + 1) - gone,
        running=diary.until("runs", attempt + 1) - free,
        claimed=claimed - free,
        total=done - free,
    )


def in_mid_step(room: Lab, diary: Diary) -> tuple[Manifest, Manifest]:
    """A pod that has just begun a step, with a finished one before it that is not committed, and
    whose status says where it has resumed; and what it told."""

    def probe() -> tuple[Manifest, Manifest] | None:
        for pod in diary.living():
            told = _told(pod)
            if told is not None and _is_uncommitted(told) and diary.knows_resumed(told):
                return pod, told
        return None

    return room.cluster.wait(
        f"{diary.name} is in mid-step", probe,
        seconds=PATIENCE, every=0.02, namespace=room.namespace,
    )  # fmt: skip


def _told(pod: Manifest) -> Manifest | None:
    with contextlib.suppress(OSError, ValueError):
        return http_json(f"http://{pod['status']['podIP']}:{names.PORT}/status")
    return None


def _is_uncommitted(told: Mapping[str, Any]) -> bool:
    """Whether the newest finished step is one after which no checkpoint is made."""
    saved = int((told["lastCheckpoint"] or {}).get("step", 0))
    return bool(told["step"] % EVERY and told["step"] > saved)


def _cpu_without(room: Lab, pod: Manifest) -> str:
    """All CPU of a pod's node that nothing but this pod has: it goes to whoever asks for that."""
    node = room.cluster.get("node", pod["spec"]["nodeName"])
    field = f"--field-selector=spec.nodeName={pod['spec']['nodeName']}"
    text = room.cluster.kubectl("get", "pods", "--all-namespaces", field, "--output=json")
    taken = sum(
        parse_quantity(container.get("resources", {}).get("requests", {}).get("cpu", "0"))
        for other in json.loads(text)["items"]
        if other["metadata"]["uid"] != pod["metadata"]["uid"]
        and other["status"].get("phase") not in ("Succeeded", "Failed")
        for container in other["spec"]["containers"]
    )
    return str(parse_quantity(node["status"]["allocatable"]["cpu"]) - taken)


def _urgent(name: str, node: str, cpu: str) -> Manifest:
    """A pod that wants so much CPU of that node, and ends as soon as it has it."""
    container = {
        "name": "main",
        "image": TOOLBOX,
        "args": ["exit", "0"],
        "resources": {"requests": {"cpu": cpu}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "priorityClassName": name,
            "nodeSelector": {"kubernetes.io/hostname": node},
            "containers": [container],
        },
    }
