"""The quickstart on a cluster: install, apply, look now and then, and get the bits of ``m2r run``.

All is computed twice: in pods and, in the time that they leave, on this machine. With the files as
they are that takes a quarter of an hour on two quiet cores, so that it is done where ``M2R_WHOLE``
is set (``make test-cluster WHOLE=1``); else with fewer samples and steps.
"""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Final

import pytest
import release as releases
import yaml
from cluster import Cluster
from lab import ROOT, SECRET, credentials
from release import Release, make_adoptable, restore_crds
from runs import M2R, Process, change, write

from images import build
from m2r_operator import names
from m2r_train.api.graph import references
from m2r_train.api.manifests import load_manifests

QUICKSTART: Final = ROOT / "examples" / "quickstart"
WHOLE: Final = "M2R_WHOLE"
FEWER: Final = (
    ("data", "outputs", {"sft": 600, "rlvr": 100, "eval": 60}),
    ("sft", "training.steps", 350),  # a quick machine does ten in a second
    ("sft", "checkpoint.everySteps", 4),
    ("curriculum", "difficulty.dropUnsolved", False),
    ("curriculum", "difficulty.dropSolved", False),
    ("curriculum", "outputs.rlvr", 100),
    ("rlvr", "steps", 16),
    ("rlvr", "rollout.promptsPerStep", 8),
    ("rlvr", "checkpoint.everySteps", 4),
)
MINUTES: Final = 50.0
EVERY: Final = 2.0  # seconds between two looks
# Looks at a run that counts its steps. The operator writes progress every 5 to 15 seconds: of a
# run with fewer looks the first step and the last may be all that was ever there to see.
LONG: Final = 10

Table = Mapping[str, Mapping[str, str]]  # name -> column -> cell, as `kubectl get m2r` shows them
# The operator asks for no CPU: a run of the quickstart asks for two, which may be all there is.
OPERATOR: Final = {"requests": {"cpu": "0", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}


@pytest.fixture
def quickstart(tmp_path: Path) -> Path:
    """The folder of manifests: the quickstart's own, or the same with less to do."""
    if os.environ.get(WHOLE):
        return QUICKSTART
    texts = (path.read_text() for path in sorted(QUICKSTART.glob("*.yaml")))
    documents = {d["metadata"]["name"]: d for text in texts for d in yaml.safe_load_all(text)}
    rooms, views, charts = documents["data"]["spec"]["sources"]
    rooms["simulator"]["scenes"], views["simulator"]["scenes"] = 300, 200
    charts["figures"]["samples"] = 200
    for name, path, value in FEWER:
        documents = change(documents, name, path, value)
    return write(documents, tmp_path / "manifests")


@pytest.fixture
def local(quickstart: Path, tmp_path: Path) -> Iterator[tuple[Process, Path]]:
    """``m2r run`` of the quickstart on this machine, begun; and the summary it will write."""
    m2r, summary = M2R(tmp_path), tmp_path / "summary.json"
    store = (tmp_path / "store").as_uri()
    process = m2r.start(
        "run", "-f", quickstart, "--store", store, "--summary", summary, OMP_WAIT_POLICY="PASSIVE"
    )
    yield process.give_way(), summary
    m2r.kill_all()


@pytest.fixture
def installed(cluster: Cluster, namespace: str, trainer: str, tmp_path: Path) -> Iterator[Release]:
    """The chart with this tree's operator and trainer, and an S3 server that is there already."""
    cluster.import_image(build("operator").archive)
    release = Release(cluster, namespace, tmp_path, name=f"m2r-{uuid.uuid4().hex[:6]}")
    make_adoptable(cluster, release)
    cluster.apply(credentials(cluster), namespace=namespace)
    s3 = cluster.s3
    storage = {
        "uri": f"s3://{s3.bucket}/{namespace}",
        "endpoint": s3.endpoint,
        "region": s3.region,
        "secretName": SECRET,
    }
    release.install(releases.values(trainer, resources=OPERATOR, replicas=1, storage=storage))
    release.ready()
    yield release
    release.uninstall()
    restore_crds(cluster)


@pytest.mark.timeout(60 * MINUTES)
def test_the_quickstart_in_pods_tells_its_story_and_ends_with_the_bits_of_m2r_run(
    quickstart: Path, local: tuple[Process, Path], installed: Release
) -> None:
    cluster, namespace = installed.cluster, installed.namespace
    resources = {r.name: r for r in load_manifests([quickstart])}
    cluster.kubectl("apply", "-f", str(quickstart), namespace=namespace)
    waiting_is_said(installed, {n for n, r in resources.items() if n != "data"})

    story = watched(installed, set(resources))
    progress = [its_story(name, [table[name] for table in story]) for name in resources]
    assert any(progress), "no run was seen on its way"
    for name, resource in resources.items():
        for needed in references(resource):
            comes_after(story, name, needed.name)

    for resource in resources.values():
        cluster.kubectl("wait", "--for=condition=Complete", "--timeout=10s",
                        f"{names.PLURALS[resource.kind]}.m2r.dev/{resource.name}",
                        namespace=namespace)  # fmt: skip
    process, summary = local
    done = process.wait(60 * MINUTES)
    assert done.code == 0, done.err
    assert digests(installed) == {
        r["name"]: r["digest"] for r in json.loads(summary.read_text())["resources"]
    }


def digests(release: Release) -> dict[str, str]:
    """``status.outputs.digest`` of every run."""
    return {run["metadata"]["name"]: run["status"]["outputs"]["digest"] for run in runs_of(release)}


def runs_of(release: Release) -> list[dict[str, Any]]:
    """All runs of the namespace, of every kind."""
    text = release.cluster.kubectl("get", "m2r", "--output=json", namespace=release.namespace)
    found: list[dict[str, Any]] = json.loads(text)["items"]
    return found


def waiting_is_said(release: Release, waiting: set[str]) -> None:
    """Who needs another's result says whose; who needs none does not wait."""

    def said() -> bool:
        conditions = {
            run["metadata"]["name"]: c
            for run in runs_of(release)
            for c in run.get("status", {}).get("conditions", ())
            if c["type"] == "DependenciesReady"
        }
        assert conditions.get("data", {}).get("status") != "False"
        return {n for n, c in conditions.items() if c["status"] == "False"} == waiting and all(
            c["reason"].startswith("Dependency") and "spec." in c["message"]
            for n, c in conditions.items()
            if n in waiting
        )

    cluster, namespace = release.cluster, release.namespace
    cluster.wait("those who wait say so", said, namespace=namespace)
    cluster.wait(
        "data, which waits for nobody, runs",
        lambda: (
            {r["metadata"]["name"]: r["status"]["phase"] for r in runs_of(release)}["data"]
            in ("Running", "Succeeded")
        ),
        namespace=namespace,
    )


# What `kubectl get m2r` shows --------------------------------------------------------------------


def watched(release: Release, wanted: set[str]) -> list[Table]:
    """All that ``kubectl get m2r`` shows, until everything has ended."""
    deadline, seen = time.monotonic() + 60 * MINUTES, []
    while True:
        text = release.cluster.kubectl("get", "m2r", namespace=release.namespace)
        seen.append(table(text))
        assert set(seen[-1]) == wanted, text
        phases = {row["PHASE"] for row in seen[-1].values()}
        assert "Failed" not in phases, f"{text}\n{release.cluster.describe(release.namespace)}"
        if phases == {"Succeeded"}:
            return seen
        assert time.monotonic() < deadline, text
        time.sleep(EVERY)


def table(text: str) -> Table:
    """Rows by name. Each kind has a header of its own; cells may be empty, so places count."""
    rows, columns = {}, dict[str, slice]()
    for line in text.splitlines():
        if line.startswith("NAME "):
            starts = [(m.start(), m[0]) for m in re.finditer(r"\S+", line)]
            ends = [start for start, _ in starts[1:]] + [None]
            columns = {n: slice(s, e) for (s, n), e in zip(starts, ends, strict=True)}
        elif line.strip():
            cells = {name: line[place].strip() for name, place in columns.items()}
            rows[cells["NAME"].rpartition("/")[2]] = cells
    return rows


def its_story(name: str, rows: Sequence[Mapping[str, str]]) -> bool:
    """Phases in order, progress while it runs, and what came out of it in the end.

    Returns whether it was long enough on its way for its figures to be asked for, which then hold.
    """
    phases = [phase for phase, _ in groupby(row["PHASE"] for row in rows) if phase]
    assert phases[-2:] == ["Running", "Succeeded"], (name, phases)
    assert phases[:-2] in ([], ["Pending"]), (name, phases)
    told = [row for row in rows if row["PHASE"] == "Running" and row["STEP"]]
    steps, percents = [int(row["STEP"]) for row in told], [int(row["%"]) for row in told]
    assert steps == sorted(steps)
    assert percents == sorted(percents)
    last = rows[-1]
    assert (last["%"], last["ATTEMPT"]) == ("100", "1"), (name, last)
    column = next(c for c in ("KEPT", "LOSS", "REWARD", "SCORE") if c in last)
    assert last[column], (name, last)
    trains = column in ("LOSS", "REWARD")
    if trains:
        assert last["CHECKPOINT"] == last["STEP"]
    if len(told) < LONG or last["STEP"] == "1":
        return False
    assert any(0 < percent < 100 for percent in percents), (name, percents)
    assert not trains or any(row[column] and row["CHECKPOINT"] for row in told), (name, told)
    return True


def comes_after(story: Sequence[Table], later: str, former: str) -> None:
    """Nobody runs before what it needs is there."""
    for before, now in pairwise(story):
        if before[later]["PHASE"] != "Running" and now[later]["PHASE"] == "Running":
            assert now[former]["PHASE"] == "Succeeded", (later, former, now)
