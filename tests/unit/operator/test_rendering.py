"""Rendering as a whole: pure, the same for every attempt, and reviewed."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from unit.operator.children import (
    NO_DEFAULTS,
    a_run,
    create,
    pod_of,
    run_of,
)

from m2r_operator import names
from m2r_operator.manifests import job
from m2r_operator.state import RunSeen
from m2r_train.api import KINDS, RunInput, Storage

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests" / "golden"


def quickstart(name: str) -> RunSeen:
    manifest = yaml.safe_load((ROOT / "examples" / "quickstart" / name).read_text())
    return run_of(manifest)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("queue", [None, "research"])
def test_rendering_twice_gives_the_same_and_shares_nothing(kind: str, queue: str | None) -> None:
    run = a_run(
        kind,
        resources={"nodes": 2, "memory": "8Gi"},
        scheduling={"affinity": {"podAffinity": {"x": [1]}}, "nodeSelector": {"a": "b"},
                    "topology": {"mode": "Required", "key": "rack"}},
    )  # fmt: skip
    first = job(run, create(queue=queue), NO_DEFAULTS)
    kept = copy.deepcopy(first)
    assert json.loads(json.dumps(first)) == first
    _spoil(first)
    assert job(run, create(queue=queue), NO_DEFAULTS) == kept


def _spoil(value: Any) -> None:
    """Changes every dict and list in place."""
    if isinstance(value, dict):
        for item in list(value.values()):
            _spoil(item)
        value["spoiled"] = True
    elif isinstance(value, list):
        for item in value:
            _spoil(item)
        value.append("spoiled")


@pytest.mark.parametrize("nodes", [1, 2])
def test_attempts_differ_in_name_label_and_run_spec_only(nodes: int) -> None:
    run = a_run(resources={"nodes": nodes})
    one, two = (job(run, create(attempt), NO_DEFAULTS) for attempt in (1, 2))
    assert one != two
    for child in (one, two):
        child["metadata"]["name"] = "-"
        for holder in (child, child["spec"]["template"]):
            del holder["metadata"]["labels"][names.ATTEMPT]
        del child["spec"]["template"]["metadata"]["annotations"][names.RUN_SPEC]
        for item in pod_of(child)["containers"][0]["env"]:
            if item["name"] in ("M2R_ATTEMPT", "MASTER_ADDR"):
                item["value"] = "-"
    assert one == two


def test_the_quickstarts_main_job_is_rendered_as_reviewed() -> None:
    """``M2R_UPDATE_GOLDEN=1 pytest …`` writes the file anew; read the difference."""
    inputs = {
        "model": RunInput(uri="s3://lab/runs/team/sftjob/sft-00000000/model", digest="a" * 64),
        "dataset": RunInput(uri="s3://lab/runs/team/datasynthesisjob/c-00000000/dataset/rlvr"),
    }
    storage = Storage(uri="s3://lab/runs", endpoint="http://s3:9000", secret_ref={"name": "s3"})
    child = job(quickstart("4-rlvr.yaml"), create(1, inputs=inputs, storage=storage), NO_DEFAULTS)
    annotations = child["spec"]["template"]["metadata"]["annotations"]
    told = json.loads(annotations[names.RUN_SPEC])
    assert told.pop("spec")["steps"] == 400  # the defaults of the API are not reviewed here
    annotations[names.RUN_SPEC] = told
    text = json.dumps(child, indent=2, sort_keys=True) + "\n"
    path = GOLDEN / "quickstart-rlvr-job.json"
    if os.environ.get("M2R_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()
