"""The operator killed, stopped, doubled and cut off, on a real cluster: runs do not notice."""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from cluster import Cluster
from lab import Lab, Operator, credentials, holder, lab
from overlap import watching_pods
from plays import evaluation, play, rlvr, sft, synthesis

from m2r_operator import names

KILLS: Final = 100
OUTAGE_SECONDS: Final = 60.0
CONVERGED_SECONDS: Final = 30.0
QUICK: Final = {"restartPolicy": {"backoffSeconds": 1, "maxBackoffSeconds": 1}}

Manifest = dict[str, Any]
Round = dict[str, Any]  # what is compared of each run of a round, by its letter


# kills --------------------------------------------------------------------------------------------


def family(n: int) -> dict[str, Manifest]:
    """Runs of all kinds that refer to each other; one crashes, one is paused, one is deleted."""
    chain = {"model": {"from": {"kind": "SFTJob", "name": f"s{n}"}}}
    tested = {"model": {"from": {"kind": "RLVRJob", "name": f"r{n}"}}}
    return {
        "d": synthesis(f"d{n}", uri=play(steps=4, stepSeconds=0.3)),
        "s": sft(f"s{n}", uri=play(steps=4, stepSeconds=0.3)),
        "r": rlvr(f"r{n}", uri=play(steps=6, stepSeconds=0.3, crashAt=4), **chain, **QUICK),
        "e": evaluation(f"e{n}", uri=play(steps=3, stepSeconds=0.2), **tested),
        "p": rlvr(f"p{n}", uri=play(steps=300, stepSeconds=0.1, resumeAt=270)),
        "x": sft(f"x{n}", uri=play(steps=400, stepSeconds=0.3)),
    }


def live_through(room: Lab, n: int) -> Round:
    """Applies a family, pauses one run of it, deletes another, waits for the rest; their ends."""
    runs = family(n)
    room.apply(*runs.values())
    paused = runs["p"]
    room.until_step("RLVRJob", f"p{n}", 3)
    room.apply({**paused, "spec": {**paused["spec"], "suspend": True}})
    room.until_phase("RLVRJob", f"p{n}", "Suspended")
    room.until("its pods are gone", lambda: not room.live_pods("RLVRJob", f"p{n}"))
    room.apply({**paused, "spec": {**paused["spec"], "suspend": False}})
    room.until_phase("SFTJob", f"x{n}", "Running")
    room.cluster.delete("sftjobs.m2r.dev", f"x{n}", namespace=room.namespace)
    room.until("nothing is left of it", lambda: not children(room, "SFTJob", f"x{n}"))
    del runs["x"]
    for run in runs.values():
        room.until_phase(run["kind"], run["metadata"]["name"], "Succeeded")
    return {letter: the_end(room, run) for letter, run in runs.items()}


def the_end(room: Lab, run: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's status says at the end, whenever that was and whatever it is called."""
    kind, name = run["kind"], run["metadata"]["name"]
    status = room.status(kind, name)
    conditions = {c["type"] for c in status["conditions"] if c["status"] == "True"}
    failure = status.get("failure", {})
    return {
        "phase": status["phase"],
        "attempt": status["attempt"],
        "restarts": status.get("restarts"),
        "conditions": sorted(conditions),
        "step": status["progress"]["step"],
        "failure": (failure.get("class"), failure.get("exitCode"), failure.get("attempt")),
        "resumedFrom": status.get("resumedFrom"),
        "finalizers": room.run(kind, name)["metadata"].get("finalizers"),
        "live pods": len(room.live_pods(kind, name)),
    }


def children(room: Lab, kind: str, name: str) -> list[str]:
    """Whatever there is of a run's children."""
    selector = f"{names.KIND}={kind},{names.NAME}={name}"
    found = room.cluster.get("jobs,pods,services", namespace=room.namespace, selector=selector)
    return [f"{o['kind']}/{o['metadata']['name']}" for o in found["items"]]


class Killer(threading.Thread):
    """Kills an operator with -9 at random moments and starts it again, so many times.

    Most of its lives begin to count when it leads; each fifth ends before, or about then.
    """

    def __init__(self, operator: Operator, kills: int, seed: int) -> None:
        super().__init__(daemon=True)
        self._operator, self._kills, self._random = operator, kills, random.Random(seed)
        self._done = threading.Event()
        self.error: BaseException | None = None
        self.killed = 0

    def __enter__(self) -> Killer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        try:
            while self.killed < self._kills and not self._done.is_set():
                if self.killed % 5:
                    self._until_it_leads()
                    time.sleep(self._random.uniform(0.0, 1.2))
                else:
                    time.sleep(self._random.uniform(0.0, 2.0))
                assert self._operator.alive, self._operator.log.read_text()[-4000:]
                self._operator.kill()
                self.killed += 1
                self._operator.start(wait=False)
        except BaseException as error:  # for the test, which runs in another thread
            self.error = error

    def _until_it_leads(self) -> None:
        deadline = time.monotonic() + 60
        while not self._operator.has_said('"leads"'):
            assert time.monotonic() < deadline, "it does not come to lead"
            time.sleep(0.05)


def test_an_operator_killed_a_hundred_times_ends_where_one_ends_that_lives(
    room: Lab, tmp_path: Path
) -> None:
    with watching_pods(room.cluster, room.namespace, tmp_path) as seen:
        golden = live_through(room, 0)
        assert golden["r"]["restarts"] == {"charged": 1, "disruptions": 0}
        assert golden["p"]["attempt"] == 2
        with Killer(room.operator, KILLS, seed=4) as killer:
            for n in itertools.count(1):
                if not killer.is_alive():
                    break
                assert live_through(room, n) == golden, f"round {n}, {killer.killed} kills"
        assert killer.error is None
        assert killer.killed == KILLS
        assert live_through(room, n) == golden
        assert seen.overlaps() == []
        expected = {"d": {1}, "s": {1}, "r": {1, 2}, "e": {1}, "p": {1, 2}, "x": {1}}
        for run, attempts in seen.attempts().items():
            assert attempts == expected[run.partition("/")[2][0]], run
    assert n > 2, "too few rounds to have been disturbed in all places"


# the API server -----------------------------------------------------------------------------------


@contextmanager
def kept_alive(operator: Operator) -> Iterator[None]:
    """Starts the operator again whenever it ends, as the kubelet does."""
    done = threading.Event()

    def keep() -> None:
        while not done.wait(0.5):
            if not operator.alive:
                operator.start(wait=False)

    keeper = threading.Thread(target=keep, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()


def step_of(pod: Mapping[str, Any]) -> int:
    """The step that a pod says it has done, without the API server."""
    with urllib.request.urlopen(f"http://{pod['status']['podIP']}:9400/status", timeout=5) as said:
        return int(json.load(said)["step"])


def identity(pod: Mapping[str, Any]) -> tuple[str, int]:
    """What changes when a pod, or a container of it, is made anew."""
    return pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]


def test_an_api_server_that_is_away_for_a_minute_disturbs_no_pod(room: Lab, tmp_path: Path) -> None:
    room.apply(
        rlvr("goes-on", uri=play(steps=2000, stepSeconds=0.2)),
        rlvr("ends", uri=play(steps=60, stepSeconds=0.5)),
        rlvr("crashes", uri=play(steps=2000, stepSeconds=0.5, crashAt=60), **QUICK),
    )
    for name in ("goes-on", "ends", "crashes"):
        room.until_phase("RLVRJob", name, "Running")
    (pod,) = room.live_pods("RLVRJob", "goes-on")
    with kept_alive(room.operator):
        with room.cluster.stopped("apiserver"):
            away = time.monotonic()
            before = step_of(pod)
            while time.monotonic() < away + OUTAGE_SECONDS:
                time.sleep(1.0)
                assert step_of(pod) >= before
            assert step_of(pod) > before + 100
        back = time.monotonic()
        # Those of a real control plane elect a leader, so that an outage ends and restarts them;
        # the node's run without that, and would wait for up to a minute before they look again.
        for name in ("controller-manager", "scheduler"):
            room.cluster.restart(name)
        seconds = {}
        for what, holds in {
            "the end of one": lambda: room.phase("RLVRJob", "ends") == "Succeeded",
            "the crash of another, and a pod of its next attempt": lambda: (
                [p["metadata"]["labels"][names.ATTEMPT] for p in room.pods("RLVRJob", "crashes")]
                == ["2", "1"]
            ),
            "the steps of the third": lambda: (
                room.status("RLVRJob", "goes-on")["progress"]["step"] > before + 100
            ),
        }.items():
            room.until(what, holds)
            seconds[what] = round(time.monotonic() - back, 1)
        assert max(seconds.values()) <= CONVERGED_SECONDS, seconds
        room.until_phase("RLVRJob", "crashes", "Running")  # when the kubelet looks for pods again
    assert [identity(p) for p in room.live_pods("RLVRJob", "goes-on")] == [identity(pod)]
    assert room.status("RLVRJob", "goes-on")["attempt"] == 1
    assert room.status("RLVRJob", "crashes")["restarts"] == {"charged": 1, "disruptions": 0}


# two operators ------------------------------------------------------------------------------------


def account(room: Lab, name: str) -> str:
    """An account with all rights in the namespace; the user that it is for the API server."""
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": room.namespace}
    room.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name},
            "roleRef": role,
            "subjects": [subject],
        },
    )
    return f"system:serviceaccount:{room.namespace}:{name}"


def replica(room: Lab, name: str) -> Operator:
    """One more replica, with an account of its own; not started."""
    account(room, name)
    config = room.cluster.service_account_kubeconfig(room.namespace, name)
    known = room.operator
    return Operator(
        room.cluster, room.namespace, known.folder, known.image,
        identity=name, more=("--kubeconfig", str(config)),
    )  # fmt: skip


def test_of_two_operators_one_leads_whatever_becomes_of_it(
    cluster: Cluster, crds: None, namespace: str, standin: str, tmp_path: Path
) -> None:
    with lab(cluster, namespace, tmp_path, standin, start=False) as room:
        first, second = replica(room, "first"), replica(room, "second")
        try:
            with watching_pods(cluster, namespace, tmp_path) as seen:
                _hand_over(room, first, second)
                assert seen.overlaps() == []
        finally:
            for operator in (first, second):
                if operator.alive:
                    operator.kill()


def _hand_over(room: Lab, first: Operator, second: Operator) -> None:
    """The leader hangs and comes back, is killed, and is asked to go, while runs crash."""

    def leads(operator: Operator) -> bool:
        return holder(room.cluster, room.namespace) == operator.identity

    def run(name: str, crash: int) -> None:
        uri = play(steps=crash + 10, stepSeconds=0.5, crashAt=crash)
        room.apply(rlvr(name, uri=uri, **QUICK))
        room.until_phase("RLVRJob", name, "Running")

    def ends_well(name: str) -> None:
        room.until_phase("RLVRJob", name, "Succeeded")
        status = room.status("RLVRJob", name)
        assert (status["attempt"], status["restarts"]["charged"]) == (2, 1)

    room.operator = first
    first.start()
    second.start(wait=False)

    run("while-it-hangs", crash=20)
    first.pause()
    room.operator = second
    room.until("the other one has taken over", lambda: leads(second))
    ends_well("while-it-hangs")
    woken = datetime.now(UTC)
    first.resume()
    room.until("the former leader has ended", lambda: not first.alive)
    user = f"system:serviceaccount:{room.namespace}:first"
    assert room.cluster.writes(user=user, since=woken) == {}

    first.start(wait=False)
    run("while-it-is-killed", crash=10)
    second.kill()
    room.operator = first
    room.until("the first one has taken over", lambda: leads(first))
    ends_well("while-it-is-killed")

    second.start(wait=False)
    room.until("the second one waits", lambda: second.has_said("waits for the lease"))
    run("while-it-goes", crash=4)
    assert first.stop() == 0
    room.operator = second
    room.until("the lease is handed over", lambda: leads(second), seconds=12)  # not its whole 15 s
    ends_well("while-it-goes")


# deletion -----------------------------------------------------------------------------------------


@pytest.fixture
def tenant(cluster: Cluster) -> Iterator[str]:
    """A namespace beside the operator's own."""
    name = f"tenant-{uuid.uuid4().hex[:8]}"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    cluster.apply(credentials(cluster), namespace=name)
    yield name
    cluster.delete("namespace", name, wait=False)


@pytest.fixture
def wide(
    cluster: Cluster, crds: None, namespace: str, tenant: str, standin: str, tmp_path: Path
) -> Iterator[Lab]:
    """An operator in its own namespace that works for the tenant's; questions are about that."""
    more = ("--namespaces", f"{namespace},{tenant}")
    with lab(cluster, namespace, tmp_path, standin, *more) as found:
        yield Lab(cluster, tenant, found.operator)


def runs_for_ever(name: str, **spec: Any) -> Manifest:
    """A run with a Service that only a deletion ends."""
    resources = {"cpu": "10m", "sharedMemory": "16Mi", "nodes": 2}
    return rlvr(name, uri=play(steps=9000, stepSeconds=0.2), resources=resources, **spec)


def gone(room: Lab) -> bool:
    """Whether the namespace is."""
    return room.cluster.try_get("namespace", room.namespace) is None


@pytest.mark.parametrize("up", [True, False], ids=["operator up", "operator down"])
def test_a_run_that_is_deleted_leaves_nothing(room: Lab, up: bool) -> None:
    room.apply(runs_for_ever("run"))
    room.until_phase("RLVRJob", "run", "Running")
    assert len(children(room, "RLVRJob", "run")) == 4  # a Job, its two pods, a Service
    if not up:
        room.operator.kill()
    room.cluster.delete("rlvrjobs.m2r.dev", "run", namespace=room.namespace)
    room.until("nothing is left", lambda: not children(room, "RLVRJob", "run"))


@pytest.mark.parametrize("up", [True, False], ids=["operator up", "operator down"])
def test_a_namespace_that_is_deleted_goes(wide: Lab, up: bool) -> None:
    wide.apply(runs_for_ever("run"))
    wide.until_phase("RLVRJob", "run", "Running")
    if not up:
        wide.operator.kill()
    wide.cluster.delete("namespace", wide.namespace, wait=False)
    wide.until("it is gone", lambda: gone(wide))


@pytest.mark.parametrize("up", [True, False], ids=["operator up", "operator down at first"])
def test_a_namespace_with_a_folder_to_purge_goes_while_an_operator_runs(
    wide: Lab, up: bool
) -> None:
    """There can be no purge Job in a namespace that is being deleted: the purge is given up."""
    s3 = wide.cluster.s3
    storage = {
        "uri": f"s3://{s3.bucket}/{wide.namespace}",
        "endpoint": s3.endpoint,
        "secretRef": {"name": "s3"},
        "reclaimPolicy": "Delete",
    }
    wide.apply(runs_for_ever("run", storage=storage))
    wide.until_phase("RLVRJob", "run", "Running")
    assert wide.run("RLVRJob", "run")["metadata"]["finalizers"] == [names.FINALIZER]
    if not up:
        wide.operator.kill()
    wide.cluster.delete("namespace", wide.namespace, wait=False)
    if not up:
        wide.until("its pods are gone", lambda: not wide.live_pods("RLVRJob", "run"))
        assert not gone(wide), "the finalizer holds the namespace"
        wide.operator.start()
    wide.until("it is gone", lambda: gone(wide))


def test_a_namespace_with_shards_goes_once_an_operator_runs(wide: Lab) -> None:
    """It first waits for its pods, which their Job keeps until it has replaced them, by index; and
    nothing can be made in it any more."""
    resources = {"cpu": "10m", "sharedMemory": "16Mi", "nodes": 2}
    wide.apply(synthesis("run", uri=play(steps=9000, stepSeconds=0.2), resources=resources))
    wide.until_phase("DataSynthesisJob", "run", "Running")
    wide.until("both run", lambda: len(wide.live_pods("DataSynthesisJob", "run")) == 2)
    wide.operator.kill()
    wide.cluster.delete("namespace", wide.namespace, wait=False)
    wide.until("its pods have ended", lambda: not wide.live_pods("DataSynthesisJob", "run"))
    assert not gone(wide)
    wide.operator.start()
    wide.until("it is gone", lambda: gone(wide))
