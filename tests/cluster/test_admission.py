"""What the API server refuses by itself: wrong manifests, and changes that would change a run.

The table is the one of `m2r validate`, so both give the same verdict. A namespace may hold the
good manifests of the design; nothing here needs the operator.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest
import yaml
from cluster import Cluster, ClusterError
from unit.api.cases import BAD, DESIGN, Bad, changed, small

from m2r_train.api import KINDS

# What the API server says before it looks at our schema.
_BEFORE_US: Final = {
    "metadata.name": "name",
    "apiVersion": "apiVersion|no matches for kind|version",
    "kind": "kind|no matches",
}


def apply(cluster: Cluster, manifest: dict[str, Any], namespace: str) -> str:
    """The error of a strict server-side dry run; empty when it was accepted."""
    command = ("create", "--dry-run=server", "--validate=strict", "-f", "-")
    try:
        cluster.kubectl(*command, namespace=namespace, stdin=json.dumps(manifest))
    except ClusterError as error:
        return str(error)
    return ""


def field_of(bad: Bad) -> str:
    """The field path of a line: ``RLVRJob/x: spec.steps: must …`` -> ``spec.steps``."""
    return bad.line.split(": ")[1]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.line[:80])
def test_a_wrong_manifest_is_refused_and_the_field_is_named(
    cluster: Cluster, crds: None, namespace: str, bad: Bad
) -> None:
    error = apply(cluster, bad.manifest, namespace)
    assert error, f"accepted, though: {bad.line}"
    path = field_of(bad)
    wanted = _BEFORE_US.get(path, re.escape(path))
    assert re.search(wanted, error), f"{error}\n does not name {path}"


def test_the_table_is_long_enough_to_mean_something() -> None:
    assert len(BAD) >= 60


@pytest.mark.parametrize("kind", KINDS)
def test_the_smallest_good_manifest_is_accepted(
    cluster: Cluster, crds: None, namespace: str, kind: str
) -> None:
    assert apply(cluster, small(kind), namespace) == ""


def test_the_designs_manifests_are_accepted_as_they_stand(
    cluster: Cluster, crds: None, namespace: str
) -> None:
    for manifest in yaml.safe_load_all(DESIGN.read_text("utf-8")):
        assert apply(cluster, manifest, namespace) == ""


FIXED: Final = [
    ("SFTJob", "spec.seed", 7),
    ("SFTJob", "spec.training", {"steps": 9}),
    ("SFTJob", "spec.model", {"uri": "s3://lab/models/other"}),
    ("SFTJob", "spec.storage", {"uri": "s3://elsewhere/runs"}),
    ("SFTJob", "spec.managedBy", "kueue.x-k8s.io/multikueue"),
    ("RLVRJob", "spec.steps", 17),
    ("RLVRJob", "spec.dataset", {"uri": "s3://lab/other"}),
    ("RLVRJob", "spec.rollout", {"groupSize": 4}),
    ("RLVRJob", "spec.rewards", {"formatWeight": 0.5}),
    ("RLVRJob", "spec.optimization", {"learningRate": 1.0e-3}),
    ("RLVRJob", "spec.curriculum", {"order": "Shuffled"}),
    ("DataSynthesisJob", "spec.outputs", {"sft": 1, "rlvr": 0, "eval": 0}),
    ("DataSynthesisJob", "spec.shards", 3),
    ("EvalJob", "spec.generation", {"samplesPerQuestion": 2}),
    ("EvalJob", "spec.gates", [{"benchmark": "synthetic", "min": 4}]),
]


@pytest.mark.parametrize(("kind", "path", "value"), FIXED, ids=lambda v: str(v)[:40])
def test_what_makes_the_result_cannot_be_changed(
    cluster: Cluster, crds: None, namespace: str, kind: str, path: str, value: object
) -> None:
    manifest = changed(small(kind), "spec.suspend", True)
    cluster.apply(manifest, namespace=namespace)
    with pytest.raises(ClusterError, match="cannot be changed"):
        cluster.apply(changed(manifest, path, value), namespace=namespace)


CHANGEABLE: Final = [
    ("spec.suspend", False),
    ("spec.image", "m2r-train:2"),
    ("spec.scheduling", {"queue": "research"}),
    ("spec.restartPolicy", {"maxRestarts": 9}),
    ("spec.watchdog", {"action": "Fail"}),
    ("spec.disruption", {"policy": "Fail"}),
    ("spec.activeDeadlineSeconds", 60),
    ("spec.ttlSecondsAfterFinished", 60),
    ("spec.serviceAccountName", "trainer"),
]


@pytest.mark.parametrize(("path", "value"), CHANGEABLE, ids=lambda v: str(v)[:40])
def test_how_a_run_is_run_can_be_changed(
    cluster: Cluster, crds: None, namespace: str, path: str, value: object
) -> None:
    manifest = changed(small("RLVRJob"), "spec.suspend", True)
    cluster.apply(manifest, namespace=namespace)
    cluster.apply(changed(manifest, path, value), namespace=namespace)


def test_resources_can_be_changed_only_while_the_run_is_paused(
    cluster: Cluster, crds: None, namespace: str
) -> None:
    running = changed(small("RLVRJob"), "spec.suspend", False)
    cluster.apply(running, namespace=namespace)
    bigger = {"nodes": 2, "gpusPerNode": 8}
    with pytest.raises(ClusterError, match="only while the run is paused"):
        cluster.apply(changed(running, "spec.resources", bigger), namespace=namespace)
    paused = changed(running, "spec.suspend", True)
    cluster.apply(paused, namespace=namespace)
    cluster.apply(changed(paused, "spec.resources", bigger), namespace=namespace)
