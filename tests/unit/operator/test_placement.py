"""Queues, topology, affinity and tolerations: where the pods of a run may go."""

from __future__ import annotations

from typing import Any

import pytest
from unit.operator.children import (
    IMAGE,
    NO_DEFAULTS,
    STORAGE,
    a_run,
    create,
    pod_of,
    rendered,
    run_of,
)

from m2r_operator import names
from m2r_operator.manifests import RenderError, job, purge_job
from m2r_operator.state import CreatePurge, Defaults


def test_without_a_queue_the_job_starts_at_once() -> None:
    child = job(
        run_of(
            {"kind": "SFTJob", "metadata": {"name": "x"},
             "spec": {"model": {"preset": "tiny"}, "dataset": {"uri": "file:///d"}}},
            labels={names.QUEUE: "research", names.QUEUE_PRIORITY: "high"},
        ),
        create(),
        NO_DEFAULTS,
    )  # fmt: skip
    assert "suspend" not in child["spec"]
    assert child["metadata"]["labels"].keys() & {names.QUEUE, names.QUEUE_PRIORITY} == set()


def test_with_a_queue_the_job_waits_for_kueue() -> None:
    run = run_of(
        {"kind": "SFTJob", "metadata": {"name": "x"},
         "spec": {"model": {"preset": "tiny"}, "dataset": {"uri": "file:///d"}}},
        labels={names.QUEUE: "research", names.QUEUE_PRIORITY: "high", "other": "label"},
    )  # fmt: skip
    child = job(run, create(queue="research"), NO_DEFAULTS)
    assert child["spec"]["suspend"] is True
    labels = child["metadata"]["labels"]
    assert (labels[names.QUEUE], labels[names.QUEUE_PRIORITY]) == ("research", "high")
    assert "other" not in labels
    assert names.QUEUE not in child["spec"]["template"]["metadata"]["labels"]


TERM = {
    "topologyKey": "cloud/rack",
    "labelSelector": {"matchLabels": {names.KIND: "RLVRJob", names.NAME: "x"}},
}


@pytest.mark.parametrize(
    ("mode", "nodes", "queue", "annotation", "affinity"),
    [
        ("Required", 2, "q", "kueue.x-k8s.io/podset-required-topology", None),
        ("Preferred", 2, "q", "kueue.x-k8s.io/podset-preferred-topology", None),
        ("Required", 2, None, None,
         {"requiredDuringSchedulingIgnoredDuringExecution": [TERM]}),
        ("Preferred", 2, None, None,
         {"preferredDuringSchedulingIgnoredDuringExecution":
          [{"weight": 100, "podAffinityTerm": TERM}]}),
        ("Required", 1, None, None, None),
        ("Preferred", 1, None, None, None),
    ],
)  # fmt: skip
def test_topology_is_kueues_where_there_is_a_queue_and_affinity_otherwise(
    mode: str, nodes: int, queue: str | None, annotation: str | None, affinity: Any
) -> None:
    child = rendered(
        action=create(queue=queue),
        resources={"nodes": nodes},
        scheduling={"topology": {"mode": mode, "key": "cloud/rack"}},
    )
    annotations = child["spec"]["template"]["metadata"]["annotations"]
    assert {k: v for k, v in annotations.items() if k != names.RUN_SPEC} == (
        {annotation: "cloud/rack"} if annotation else {}
    )
    assert pod_of(child).get("affinity", {}).get("podAffinity") == affinity


def test_a_runs_own_affinity_stays_beside_that_of_its_topology() -> None:
    field = "requiredDuringSchedulingIgnoredDuringExecution"
    own = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}}
    given = {
        "podAffinity": {field: [own], "other": 1},
        "podAntiAffinity": {"any": "thing"},
        "nodeAffinity": {"some": ["thing"]},
    }
    child = rendered(
        resources={"nodes": 2},
        scheduling={"affinity": given, "topology": {"mode": "Required", "key": "cloud/rack"}},
    )
    assert pod_of(child)["affinity"] == {
        **given,
        "podAffinity": {field: [own, TERM], "other": 1},
    }


def test_an_affinity_that_cannot_be_added_to_is_refused_with_its_field() -> None:
    field = "requiredDuringSchedulingIgnoredDuringExecution"
    with pytest.raises(RenderError, match=f"scheduling.affinity.podAffinity.{field}: must be a"):
        rendered(
            resources={"nodes": 2},
            scheduling={
                "affinity": {"podAffinity": {field: {"topologyKey": "zone"}}},
                "topology": {"mode": "Required", "key": "cloud/rack"},
            },
        )


# nodes


def lost(key: str) -> dict[str, Any]:
    return {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": 30}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ([], ["not-ready", "unreachable"]),
        ([{"key": "gpu", "operator": "Exists"}], ["not-ready", "unreachable"]),
        ([{"key": "node.kubernetes.io/unreachable", "operator": "Exists"}], ["not-ready"]),
        ([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute",
           "tolerationSeconds": 900}], ["unreachable"]),
        ([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoSchedule"}],
         ["not-ready", "unreachable"]),
        ([{"operator": "Exists"}], []),
        ([{"operator": "Exists", "effect": "NoSchedule"}], ["not-ready", "unreachable"]),
    ],
)  # fmt: skip
def test_lost_nodes_are_tolerated_shortly_unless_the_run_says_otherwise(
    given: list[dict[str, Any]], added: list[str]
) -> None:
    rendered_tolerations = pod_of(rendered(scheduling={"tolerations": given}))["tolerations"]
    kept, ours = rendered_tolerations[: len(given)], rendered_tolerations[len(given) :]
    assert kept == given
    assert ours == [lost(key) for key in added]


def test_scheduling_fields_reach_the_pod() -> None:
    pod = pod_of(
        rendered(
            scheduling={
                "nodeSelector": {"gpu": "h100"},
                "priorityClassName": "research",
                "schedulerName": "volcano",
            },
            serviceAccountName="store-writer",
            disruption={"terminationGracePeriodSeconds": 300},
        )
    )
    assert pod["nodeSelector"] == {"gpu": "h100"}
    assert (pod["priorityClassName"], pod["schedulerName"]) == ("research", "volcano")
    assert pod["serviceAccountName"] == "store-writer"
    assert pod["terminationGracePeriodSeconds"] == 300


def test_what_a_run_leaves_out_is_not_in_its_pod() -> None:
    pod = pod_of(rendered())
    absent = ("nodeSelector", "priorityClassName", "schedulerName", "serviceAccountName",
              "affinity", "imagePullSecrets", "subdomain")  # fmt: skip
    assert pod.keys() & set(absent) == set()
    assert "imagePullPolicy" not in pod["containers"][0]


def test_the_operators_settings_say_how_images_are_pulled() -> None:
    defaults = Defaults(image_pull_secrets=("a", "b"), image_pull_policy="IfNotPresent")
    for child in (
        job(a_run(), create(), defaults),
        purge_job(a_run(), CreatePurge(storage=STORAGE, image=IMAGE), defaults),
    ):
        pod = pod_of(child)
        assert pod["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}]
        assert pod["containers"][0]["imagePullPolicy"] == "IfNotPresent"
        assert pod["containers"][0]["image"] == IMAGE
