"""A sweep on a cluster: written manifests are applied, end with the bits of ``m2r sweep``, and are
judged from the store that the pods wrote to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cluster import Cluster
from lab import Lab, credentials, lab
from runs import M2R, Process, manifests, write

SEEDS = (0, 1)
ARMS = {"eq6": {}, "plain": {"rlvr.spec.optimization.advantageWeight.kind": "Off"}}
CLAIM = {
    "name": "weight",
    "text": "Weights help.",
    "breaks": "They do not.",
    "treatment": "eq6",
    "controls": ["plain"],
    "measures": [{"score": "synthetic/overall"}],
}
SECONDS = 600.0


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    base = manifests("data", "sft", "rlvr", "eval-rlvr")
    base["rlvr"]["spec"]["dataset"]["from"]["name"] = "data"
    write(base, tmp_path / "base")
    content = {"name": "weight", "manifests": ["base"], "seeds": list(SEEDS)}
    path = tmp_path / "sweep.yaml"
    path.write_text(
        yaml.safe_dump({**content, "fixed": ["data", "sft"], "arms": ARMS}, sort_keys=False)
    )
    return path


@pytest.fixture
def local(sweep: Path, tmp_path: Path) -> Iterator[tuple[Process, Path, M2R]]:
    """``m2r sweep`` of the same on this machine, begun; and the summary it will write."""
    m2r, summary = M2R(tmp_path), tmp_path / "summary.json"
    store = (tmp_path / "store").as_uri()
    process = m2r.start("sweep", sweep, "--store", store, "--summary", summary)
    yield process.give_way(), summary, m2r
    m2r.kill_all()


@pytest.fixture
def pods(
    cluster: Cluster, crds: None, namespace: str, trainer: str, tmp_path: Path
) -> Iterator[Lab]:
    """A namespace with a leading operator whose runs really train."""
    with lab(cluster, namespace, tmp_path, trainer) as found:
        yield found


def test_written_manifests_end_with_the_bits_of_m2r_sweep_and_are_judged_from_their_store(
    pods: Lab, sweep: Path, local: tuple[Process, Path, M2R], tmp_path: Path
) -> None:
    process, summary, m2r = local
    folder = tmp_path / "written"
    written = m2r("sweep", sweep, "--write", folder)
    assert written.code == 0, written.err
    documents = [yaml.safe_load(path.read_text()) for path in sorted(folder.iterdir())]
    assert len(documents) == 2 + 4 * len(SEEDS)
    cluster, namespace = pods.cluster, pods.namespace
    cluster.kubectl("apply", "-f", str(folder), namespace=namespace)
    for one in documents:
        pods.until_phase(one["kind"], one["metadata"]["name"], "Succeeded", seconds=SECONDS)
    arm = cluster.get("rlvrjobs.m2r.dev", namespace=namespace, selector="m2r.dev/arm=plain")
    assert {run["metadata"]["name"] for run in arm["items"]} == {
        f"rlvr-plain-s{seed}" for seed in SEEDS
    }

    done = process.wait(SECONDS)
    assert done.code == 0, done.err
    expected = {r["name"]: r["digest"] for r in json.loads(summary.read_text())["resources"]}
    found = {
        one["metadata"]["name"]: pods.status(one["kind"], one["metadata"]["name"])["outputs"][
            "digest"
        ]
        for one in documents
    }
    assert found == expected

    claim, figures = tmp_path / "claim.yaml", tmp_path / "figures.json"
    claim.write_text(yaml.safe_dump(CLAIM))
    s3 = cluster.s3
    judged = m2r(
        *("report", "--compare", "--claim", claim, "--json", figures, "-o", tmp_path / "page.html"),
        *(f"s3://{s3.bucket}/{namespace}", "--endpoint", s3.endpoint),
        **credentials(cluster)["stringData"],
        AWS_DEFAULT_REGION=s3.region,
    )
    assert judged.code == 0, judged.err
    told = json.loads(figures.read_text())
    assert told["arms"] == {"eq6": list(SEEDS), "plain": list(SEEDS)}, "pods keep the labels"
    assert told["comparisons"][0]["n"] == len(SEEDS)
