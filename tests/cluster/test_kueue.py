"""Runs in the queues of the real Kueue: they wait, are evicted, come back, and cost nothing.

The queue is the one of docs/kueue.md: a quota of one GPU, which is one run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from cluster import Cluster
from cluster.kueue import Kueue
from lab import Lab, lab
from plays import play
from queues import (
    POOL,
    QUEUE,
    RUNS,
    URGENT,
    change,
    documented,
    ended,
    failing,
    held_back,
    holds,
    job_names,
    kept,
    queue_objects,
    queued,
    reading_runs,
    remove,
    said,
    set_quota,
    stays,
    until_said,
    watching,
    with_queues,
    workloads,
)
from runs import M2R, manifests, run, write

from m2r_operator import names

LONG: Final = {"steps": 600, "stepSeconds": 0.2}  # longer than any test
SHORT: Final = {"steps": 5, "stepSeconds": 0.2}
RLVR: Final = "RLVRJob"
STEPS: Final = 16  # of the run that really trains
EXTERNAL: Final = (f"{RLVR}.v1alpha1.m2r.dev",)


@pytest.fixture(scope="module")
def kueue(cluster: Cluster) -> Iterator[Kueue]:
    """Kueue with the queue of the documentation."""
    with with_queues(cluster) as found:
        yield found


@pytest.fixture
def room(
    cluster: Cluster, crds: None, kueue: Kueue, namespace: str, standin: str, tmp_path: Path
) -> Iterator[Lab]:
    """A namespace with the local queue and an operator."""
    cluster.apply(*queue_objects(local=True), namespace=namespace)
    with lab(cluster, namespace, tmp_path, standin) as found:
        yield found
        cluster.kubectl("delete", "m2r", "--all", "--wait=false", namespace=namespace)  # its quota


def test_a_second_run_waits_its_turn(room: Lab) -> None:
    room.apply(queued("first", steps=40, stepSeconds=0.2))
    room.until_phase(RLVR, "first", "Running")
    assert said(room, "first", "Admitted") == ("True", "Admitted")
    room.apply(queued("second", **SHORT))
    room.until_phase(RLVR, "second", "Queued")
    assert said(room, "second", "Admitted") == ("False", "Queued")
    stays(room, "no pod of the second", lambda: room.pods(RLVR, "second") == [])
    assert room.phase(RLVR, "first") == "Running"
    room.until_phase(RLVR, "first", "Succeeded")
    room.until_phase(RLVR, "second", "Succeeded")
    assert said(room, "second", "Admitted") == ("True", "Admitted")
    for name in ("first", "second"):
        status = room.status(RLVR, name)
        assert status["attempt"] == 1
        assert status.get("restarts", {}).get("disruptions", 0) == 0
    assert {"Queued", "Admitted", "Running", "Complete"} <= set(room.events("second"))


def test_an_evicted_run_of_the_documentation_saves_its_state_and_comes_back_on_the_same_job(
    room: Lab, tmp_path: Path
) -> None:
    nightly, deadline = documented()[1]
    with watching(room.cluster, room.namespace, tmp_path) as pods:
        room.apply(played(nightly, steps=40, stepSeconds=0.2))
        room.until_phase(RLVR, "nightly", "Running")
        [job] = room.jobs(RLVR, "nightly")
        room.apply(played(deadline, **SHORT))
        room.until_phase(RLVR, "nightly", "Preempted")
        assert said(room, "nightly", "Admitted") == ("False", "Evicted")
        assert said(room, "nightly", "Preempted") == ("True", "KueueEvicted")
        room.until_phase(RLVR, "deadline", "Succeeded")
        room.until_phase(RLVR, "nightly", "Running")
        assert said(room, "nightly", "Preempted") == ("False", "Resumed")
        room.until_phase(RLVR, "nightly", "Succeeded")
        [same] = room.jobs(RLVR, "nightly")
        assert same["metadata"]["uid"] == job["metadata"]["uid"]
        assert pods.exit_codes("nightly-rlvrj-1") == [75, 0]
    status = room.status(RLVR, "nightly")
    assert status["attempt"] == 1
    assert status["restarts"] == {"charged": 0, "disruptions": 1}
    assert "failure" not in status
    assert room.events("nightly").count("Evicted") == 1
    assert room.events("nightly").count("Admitted") == 2, "each has its line"


def played(manifest: dict[str, Any], **settings: float) -> dict[str, Any]:
    """A run of the documentation, word for word but for its data, which the stand-in plays."""
    return {**manifest, "spec": {**manifest["spec"], "dataset": {"uri": play(**settings)}}}


def test_an_evicted_run_comes_back_as_often_as_it_may(room: Lab, tmp_path: Path) -> None:
    times = 2
    may = {"maxPreemptions": times, "terminationGracePeriodSeconds": 20}
    with watching(room.cluster, room.namespace, tmp_path) as pods:
        room.apply(queued("nightly", disruption=may, **LONG))
        for n in range(times):
            room.until_phase(RLVR, "nightly", "Running")
            room.apply(queued(f"deadline-{n}", labels=URGENT, steps=2, stepSeconds=0.2))
            room.until_phase(RLVR, "nightly", "Preempted")
            room.until_phase(RLVR, f"deadline-{n}", "Succeeded")
        room.until_phase(RLVR, "nightly", "Running")
        assert job_names(room, "nightly") == ["nightly-rlvrj-1"]
        assert room.status(RLVR, "nightly")["restarts"] == {"charged": 0, "disruptions": times}
        room.apply(queued("deadline", labels=URGENT, **SHORT))
        room.until_phase(RLVR, "nightly", "Failed")
        assert said(room, "nightly", "Failed") == ("True", "MaxPreemptions")
        room.until_phase(RLVR, "deadline", "Succeeded")
        assert pods.exit_codes("nightly-rlvrj-1") == [75] * (times + 1)


def test_an_evicted_pod_that_lingers_does_not_fail_its_job(room: Lab) -> None:
    """While the pod is there, the Job controller tries its exit code, 75, on the failure policy.

    A kubelet with much to do gives it the time; here a finalizer does.
    """
    room.apply(queued("nightly", **LONG))
    room.until_phase(RLVR, "nightly", "Running")
    [pod] = room.pods(RLVR, "nightly")
    with kept(room, pod["metadata"]["name"]):
        room.apply(queued("deadline", labels=URGENT, **SHORT))
        room.until("the pod has ended", lambda: ended(room.pods(RLVR, "nightly")[0]))
        annotate = ("annotate", "job", "nightly-rlvrj-1", "m2r.dev/touched=yes")
        room.cluster.kubectl(*annotate, namespace=room.namespace)  # its controller looks again
        room.until_phase(RLVR, "deadline", "Succeeded")
        [job] = room.jobs(RLVR, "nightly")
        assert not failing(job)
    room.until_phase(RLVR, "nightly", "Running")
    assert job_names(room, "nightly") == ["nightly-rlvrj-1"]
    assert room.status(RLVR, "nightly")["restarts"] == {"charged": 0, "disruptions": 1}


def test_a_crash_makes_a_new_job_that_queues_anew(room: Lab) -> None:
    room.apply(queued("crashes", steps=6, stepSeconds=0.2, crashAt=3))
    room.until_phase(RLVR, "crashes", "Succeeded")
    status = room.status(RLVR, "crashes")
    assert status["attempt"] == 2
    assert status["restarts"] == {"charged": 1, "disruptions": 0}
    found = workloads(room, "crashes")
    assert set(found) == set(job_names(room, "crashes")) == {"crashes-rlvrj-1", "crashes-rlvrj-2"}
    assert all(holds(workload, "Finished") for workload in found.values())
    assert holds(found["crashes-rlvrj-2"], "Admitted")


def test_a_suspended_run_that_waits_is_not_woken_by_the_queue(room: Lab) -> None:
    room.apply(queued("first", **LONG))
    room.until_phase(RLVR, "first", "Running")
    room.apply(queued("second", **SHORT))
    room.until_phase(RLVR, "second", "Queued")
    change(room, "second", suspend=True)
    room.until_phase(RLVR, "second", "Suspended")
    room.until("its Job is gone", lambda: room.jobs(RLVR, "second") == [])
    change(room, "first", suspend=True)
    room.until_phase(RLVR, "first", "Suspended")
    stays(room, "nothing of it", lambda: not room.jobs(RLVR, "second"))
    assert workloads(room, "second") == {}
    change(room, "second", suspend=False)
    room.until_phase(RLVR, "second", "Succeeded")
    assert room.status(RLVR, "second").get("restarts", {}).get("charged", 0) == 0


def test_a_suspended_run_that_was_admitted_gives_its_place_to_the_next(
    room: Lab, tmp_path: Path
) -> None:
    with watching(room.cluster, room.namespace, tmp_path) as pods:
        room.apply(queued("first", steps=600, stepSeconds=0.2, resumeAt=595))
        room.until_phase(RLVR, "first", "Running")
        room.apply(queued("second", steps=20, stepSeconds=0.2))
        room.until_phase(RLVR, "second", "Queued")
        change(room, "first", suspend=True)
        room.until_phase(RLVR, "first", "Suspended")
        room.until_phase(RLVR, "second", "Running")
        assert workloads(room, "first") == {}
        change(room, "first", suspend=False)
        room.until_phase(RLVR, "first", "Queued")
        room.until_phase(RLVR, "second", "Succeeded")
        room.until_phase(RLVR, "first", "Succeeded")
        assert pods.exit_codes("first-rlvrj-1") == [75]
    status = room.status(RLVR, "first")
    assert status["attempt"] == 2
    assert status.get("restarts", {}).get("charged", 0) == 0


def test_what_kueue_wrote_into_a_job_stays_and_the_operator_never_changes_a_job(
    room: Lab, cluster: Cluster
) -> None:
    room.apply(queued("placed", steps=20, stepSeconds=0.2))
    room.until_phase(RLVR, "placed", "Running")
    [pod] = room.pods(RLVR, "placed")
    assert pod["spec"]["nodeSelector"] == POOL
    room.until_phase(RLVR, "placed", "Succeeded")
    [job] = room.jobs(RLVR, "placed")
    assert job["spec"]["template"]["spec"]["nodeSelector"] == POOL
    writes = cluster.writes(user_agent=names.MANAGER)
    changed = {verb for verb, resource in writes if resource.split("/")[0] == "jobs"}
    assert changed <= {"create", "delete"}


def test_a_deleted_run_leaves_no_workload(room: Lab) -> None:
    room.apply(queued("first", **LONG))
    room.until_phase(RLVR, "first", "Running")
    room.apply(queued("second", **SHORT))
    room.until_phase(RLVR, "second", "Queued")
    assert len(workloads(room, "second")) == 1
    for name in ("second", "first"):
        remove(room, name)
        room.until("its Workload is gone", lambda name=name: workloads(room, name) == {})  # type: ignore[misc]
    room.until("no Job is left", lambda: not room.jobs(RLVR, "first") + room.jobs(RLVR, "second"))


def test_a_run_of_several_nodes_is_admitted_as_a_whole_or_not_at_all(room: Lab) -> None:
    manifest = queued("wide", **SHORT)
    manifest["kind"] = "EvalJob"
    benchmark = {"name": "synthetic", "data": {"uri": manifest["spec"].pop("dataset")["uri"]}}
    manifest["spec"] |= {"benchmarks": [benchmark]}
    manifest["spec"]["resources"] |= {"nodes": 2}
    room.apply(manifest)
    room.until_phase("EvalJob", "wide", "Queued")
    stays(room, "no pod of it", lambda: room.pods("EvalJob", "wide") == [])
    words = "insufficient quota for nvidia.com/gpu"
    room.until("Kueue says why", lambda: held_back(room, "wide", words, "EvalJob"))
    set_quota(room.cluster, "nvidia.com/gpu", 2)
    try:
        room.until_phase("EvalJob", "wide", "Succeeded")
    finally:
        set_quota(room.cluster, "nvidia.com/gpu", 1)


def test_the_queue_may_be_named_by_kueues_label_and_the_spec_wins(room: Lab) -> None:
    by_label = queued("by-label", labels={names.QUEUE: QUEUE}, scheduling={}, **SHORT)
    both = queued("both", labels={names.QUEUE: "no-such-queue"}, **SHORT)
    room.apply(by_label, both)
    for name in ("by-label", "both"):
        room.until_phase(RLVR, name, "Succeeded")
        [job] = room.jobs(RLVR, name)
        assert job["metadata"]["labels"][names.QUEUE] == QUEUE


def test_a_queue_that_does_not_exist_keeps_the_run_until_it_does_or_the_run_moves(
    room: Lab,
) -> None:
    later = {"queue": "later"}
    room.apply(queued("early", scheduling=later, **SHORT), queued("moved", scheduling=later))
    for name in ("early", "moved"):
        room.until_phase(RLVR, name, "Queued")
        room.until("Kueue says why", lambda name=name: held_back(room, name, "later doesn't exist"))  # type: ignore[misc]
    change(room, "moved", suspend=True)
    room.until_phase(RLVR, "moved", "Suspended")
    change(room, "moved", suspend=False, scheduling={"queue": QUEUE})
    room.until_phase(RLVR, "moved", "Succeeded")
    assert room.phase(RLVR, "early") == "Queued"
    [queue] = queue_objects(local=True)
    room.apply({**queue, "metadata": {"name": "later"}})
    room.until_phase(RLVR, "early", "Succeeded")


def test_a_resource_that_the_queue_does_not_cover_holds_a_run_back(room: Lab) -> None:
    [narrow] = [o for o in queue_objects(local=False) if o["kind"] == "ClusterQueue"]
    [group] = narrow["spec"]["resourceGroups"]
    group["coveredResources"].remove("cpu")
    group["flavors"][0]["resources"] = [
        one for one in group["flavors"][0]["resources"] if one["name"] != "cpu"
    ]
    [queue] = queue_objects(local=True)
    both = {"metadata": {"name": "narrow"}}
    room.cluster.apply({**narrow, **both})
    try:
        room.apply({**queue, **both, "spec": {"clusterQueue": "narrow"}})
        room.apply(queued("nightly", scheduling={"queue": "narrow"}, **SHORT))
        words = "resource cpu unavailable in ClusterQueue"
        room.until("Kueue says why", lambda: held_back(room, "nightly", words))
        room.until_phase(RLVR, "nightly", "Queued")
        stays(room, "no pod of it", lambda: room.pods(RLVR, "nightly") == [])
    finally:
        remove(room, "nightly")
        room.cluster.delete("clusterqueue", "narrow")


def test_a_run_without_a_queue_is_left_alone(room: Lab) -> None:
    room.apply(queued("first", **LONG))
    room.until_phase(RLVR, "first", "Running")
    room.apply(queued("free", scheduling={}, **SHORT))
    room.until_phase(RLVR, "free", "Succeeded")
    assert said(room, "free", "Admitted") == ("True", "NoQueue")
    assert workloads(room, "free") == {}


def test_a_local_queue_called_default_takes_runs_without_a_queue(room: Lab) -> None:
    [queue] = queue_objects(local=True)
    room.apply({**queue, "metadata": {"name": "default"}})
    room.apply(queued("first", **LONG))
    room.until_phase(RLVR, "first", "Running")
    room.apply(queued("taken", scheduling={}, **SHORT))
    room.until_phase(RLVR, "taken", "Queued")
    assert said(room, "taken", "Admitted") == ("False", "JobSuspended")
    remove(room, "first")
    room.until_phase(RLVR, "taken", "Succeeded")


def test_while_kueue_is_down_new_runs_say_so_and_running_ones_go_on(
    room: Lab, kueue: Kueue
) -> None:
    room.apply(queued("before", steps=40, stepSeconds=0.2))
    room.until_phase(RLVR, "before", "Running")
    kueue.stop()
    try:
        room.apply(queued("after", **SHORT))
        until_said(room, "after", "Degraded", "True", "Rejected")
        told = room.condition(RLVR, "after", "Degraded")
        assert told is not None and "kueue" in told["message"]
        room.until_phase(RLVR, "before", "Succeeded")
    finally:
        kueue.start()
    room.until_phase(RLVR, "after", "Succeeded")
    assert said(room, "after", "Degraded")[0] == "False"


@pytest.fixture
def misconfigured(kueue: Kueue) -> Iterator[Kueue]:
    """Kueue with our kind among its external frameworks, which it never should be."""
    kueue.restart(external=EXTERNAL)
    yield kueue
    kueue.restart()


def test_our_kind_as_an_external_framework_stops_every_job_then_holds_back_labelled_runs_for_ever(
    room: Lab, misconfigured: Kueue
) -> None:
    """Without rights to our kind Kueue refuses; with them it waits for Workloads of the runs
    themselves, which nobody makes."""
    room.apply(queued("by-spec", **SHORT), queued("free", scheduling={}, **SHORT))
    for name in ("by-spec", "free"):
        until_said(room, name, "Degraded", "True", "Rejected")
        refused = room.condition(RLVR, name, "Degraded")
        assert refused is not None
        assert "kueue-webhook-service" in refused["message"]
        assert room.jobs(RLVR, name) == []
    with reading_runs(room.cluster):
        misconfigured.restart(external=EXTERNAL)
        room.apply(queued("labelled", labels={names.QUEUE: QUEUE}, scheduling={}, **SHORT))
        for name in ("by-spec", "free"):
            again = ("annotate", RUNS, name, "example.com/look=again")  # sooner than by itself
            room.cluster.kubectl(*again, namespace=room.namespace)
            room.until_phase(RLVR, name, "Succeeded")
        stays(room, "it waits", lambda: room.phase(RLVR, "labelled") == "Queued")
        assert workloads(room, "labelled") == {}
        misconfigured.restart()
        room.until_phase(RLVR, "labelled", "Succeeded")


# The real trainer ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], str]:
    """An RLVRJob whose inputs lie in the cluster's store, and the digest of its result."""
    folder, s3 = tmp_path_factory.mktemp("local"), cluster.s3
    m2r = M2R(folder, env=s3.env)
    store = f"s3://{s3.bucket}/{folder.name}"
    first = write(manifests("data", "sft", "curriculum"), folder / "inputs")
    made = run(m2r, first, store, endpoint=s3.endpoint)
    rlvr = manifests("rlvr")["rlvr"]
    rlvr["spec"] |= {
        "model": {"uri": made.resource("sft")["output"]},
        "dataset": {"uri": made.resource("curriculum")["output"], "split": "rlvr"},
        "steps": STEPS,
        "resources": {"cpu": "200m"},  # one thread
        "disruption": {"terminationGracePeriodSeconds": 60},
    }
    alone = run(m2r, write({"rlvr": rlvr}, folder / "rlvr"), store, endpoint=s3.endpoint)
    return rlvr, alone.digests["rlvr"]


@pytest.fixture
def training(
    cluster: Cluster, crds: None, kueue: Kueue, namespace: str, trainer: str, tmp_path: Path
) -> Iterator[Lab]:
    """A namespace with the local queue and an operator whose runs really train, one at a time."""
    cluster.apply(*queue_objects(local=True), namespace=namespace)
    set_quota(cluster, "cpu", "200m")  # of one run: the node has no real GPU to count
    with lab(cluster, namespace, tmp_path, trainer) as found:
        yield found
    cluster.apply(*queue_objects(local=False))


def test_an_evicted_run_goes_on_from_its_step_and_ends_with_the_same_bits(
    training: Lab, standin: str, undisturbed: tuple[dict[str, Any], str]
) -> None:
    manifest, digest = undisturbed
    manifest["spec"]["scheduling"] = {"queue": QUEUE}
    training.apply(manifest)
    training.until_phase(RLVR, "rlvr", "Running")
    training.until_step(RLVR, "rlvr", 5)
    training.apply(queued("deadline", labels=URGENT, image=standin, steps=5, stepSeconds=0.2))
    training.until_phase(RLVR, "rlvr", "Preempted")
    training.until_phase(RLVR, "deadline", "Succeeded")
    training.until_phase(RLVR, "rlvr", "Running")
    resumed = training.until(
        "it has resumed", lambda: (training.told(RLVR, "rlvr") or {}).get("resumedFrom")
    )
    assert resumed["step"] >= 5
    training.until_phase(RLVR, "rlvr", "Succeeded")
    status = training.status(RLVR, "rlvr")
    assert status["outputs"]["digest"] == digest
    assert status["progress"]["step"] == STEPS
    assert status["resumedFrom"]["step"] == resumed["step"]
    assert status["resumedFrom"]["lostSteps"] == 0
    assert status["restarts"] == {"charged": 0, "disruptions": 1}
    assert status["attempt"] == 1
    assert job_names(training, "rlvr") == ["rlvr-rlvrj-1"]
