"""What a pod is told and given: its run spec, resources and environment."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from unit.operator.children import (
    NO_DEFAULTS,
    UID,
    a_run,
    create,
    env_of,
    pod_of,
    rendered,
    run_spec_of,
)

from m2r_operator import names, pods
from m2r_operator.manifests import RenderError, job
from m2r_operator.state import RunSeen
from m2r_train.api import JobStatus, RunInput, Storage


def test_the_pod_is_told_the_resolved_spec_as_a_file() -> None:
    inputs = {"model": RunInput(uri="s3://lab/m", digest="ab")}
    run = a_run("RLVRJob", seed=9, steps=7)
    child = job(run, create(4, inputs=inputs), NO_DEFAULTS)
    told = run_spec_of(child)
    assert (told.kind, told.metadata.namespace, told.metadata.name) == ("RLVRJob", "team", "x")
    assert (told.metadata.uid, told.attempt, told.seed) == (UID, 4, 9)
    assert told.storage.model_dump() == {
        "uri": "s3://lab/runs", "endpoint": "http://s3:9000", "region": "eu-1",
    }  # fmt: skip
    assert told.inputs == inputs
    assert told.parsed_spec == run.spec
    volume = next(v for v in pod_of(child)["volumes"] if v["name"] == "run")
    assert volume["downwardAPI"]["items"] == [
        {
            "path": "run.json",
            "fieldRef": {"fieldPath": "metadata.annotations['m2r.dev/run-spec']"},
        }
    ]


def test_the_pod_is_told_the_labels_of_the_run() -> None:
    labels = {"m2r.dev/arm": "binary", "m2r.dev/seed": "3"}
    child = job(replace(a_run(), labels=labels), create(), NO_DEFAULTS)
    assert run_spec_of(child).metadata.labels == labels
    assert run_spec_of(job(a_run(), create(), NO_DEFAULTS)).metadata.labels == {}


def wide(kilobytes: int) -> RunSeen:
    """A run whose resolved spec has a few kilobytes more than this."""
    terms = [{"key": f"k{i}", "padding": "p" * 1000} for i in range(kilobytes)]
    return a_run(scheduling={"affinity": {"nodeAffinity": {"terms": terms}}})


def test_a_spec_that_fits_into_an_annotation_is_rendered() -> None:
    child = job(wide(200), create(), NO_DEFAULTS)
    text = child["spec"]["template"]["metadata"]["annotations"][names.RUN_SPEC]
    assert 200 << 10 < len(text) < pods.RUN_SPEC_BYTES


def test_a_spec_too_long_for_an_annotation_is_refused_in_one_line() -> None:
    with pytest.raises(RenderError) as refused:
        job(wide(300), create(), NO_DEFAULTS)
    line = str(refused.value)
    assert line.startswith("spec: ")
    assert "use fewer" in line
    assert "\n" not in line


def test_a_spec_that_cannot_be_read_makes_no_job() -> None:
    seen = a_run()
    run = RunSeen(
        key=seen.key, uid=UID, generation=1, resource_version="1", spec=None,
        status=JobStatus(), unreadable="spec.steps: too many",
    )  # fmt: skip
    with pytest.raises(RenderError, match=r"spec\.steps: too many"):
        job(run, create(), NO_DEFAULTS)


# resources


@pytest.mark.parametrize(
    ("resources", "requests", "limits"),
    [
        ({}, {"cpu": "2"}, None),
        ({"cpu": "500m"}, {"cpu": "500m"}, None),
        ({"cpu": 8, "memory": "64Gi"}, {"cpu": "8", "memory": "64Gi"}, {"memory": "64Gi"}),
        ({"gpusPerNode": 8}, {"cpu": "2", "nvidia.com/gpu": "8"}, {"nvidia.com/gpu": "8"}),
        (
            {"gpusPerNode": 1, "gpuResource": "amd.com/gpu", "rdma": {"count": 4}},
            {"cpu": "2", "amd.com/gpu": "1", "rdma/hca": "4"},
            {"amd.com/gpu": "1", "rdma/hca": "4"},
        ),
    ],
)
def test_memory_and_devices_are_limited_and_cpu_is_not(
    resources: dict[str, Any], requests: dict[str, str], limits: dict[str, str] | None
) -> None:
    given = pod_of(rendered(resources=resources))["containers"][0]["resources"]
    assert given["requests"] == requests
    assert given.get("limits") == limits


@pytest.mark.parametrize(
    ("resources", "field"),
    [
        ({"gpusPerNode": 1, "gpuResource": "cpu"}, "gpuResource"),
        ({"gpusPerNode": 1, "gpuResource": "memory"}, "gpuResource"),
        ({"rdma": {"resource": "hugepages-2Mi"}}, "rdma.resource"),
        ({"gpusPerNode": 1, "gpuResource": "x.io/y", "rdma": {"resource": "x.io/y"}},
         "rdma.resource"),
    ],
)  # fmt: skip
def test_a_device_that_is_none_is_refused_with_its_field(
    resources: dict[str, Any], field: str
) -> None:
    with pytest.raises(RenderError, match=f"spec.resources.{field}: "):
        rendered(resources=resources)


def test_shared_memory_is_bounded_by_the_spec() -> None:
    volume = next(
        v
        for v in pod_of(rendered(resources={"sharedMemory": "64Gi"}))["volumes"]
        if v["name"] == "shm"
    )
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "64Gi"}


# environment


def test_the_environment_of_a_pod_is_small_and_known() -> None:
    assert env_of(rendered(action=create(5), resources={"cpu": "3500m"})) == {
        "HOME": "/cache",
        "TMPDIR": "/tmp",
        "USER": "m2r",
        "M2R_CACHE": "/cache",
        "M2R_ATTEMPT": "5",
        "OMP_NUM_THREADS": "4",
        "HF_HUB_OFFLINE": "1",
        "POD_NAME": {"fieldRef": {"fieldPath": "metadata.name"}},
    }


def test_credentials_come_from_the_secret_and_stand_nowhere_else() -> None:
    storage = Storage(uri="s3://lab/runs", secret_ref={"name": "keys"})
    child = job(a_run(), create(storage=storage), NO_DEFAULTS)
    env = env_of(child)
    for key, optional in (("AWS_ACCESS_KEY_ID", None), ("AWS_SECRET_ACCESS_KEY", None),
                          ("AWS_SESSION_TOKEN", True)):  # fmt: skip
        reference = {"name": "keys", "key": key, **({"optional": True} if optional else {})}
        assert env[key] == {"secretKeyRef": reference}
    assert "secretRef" not in json.dumps(run_spec_of(child).storage.model_dump(by_alias=True))


def test_each_endpoint_has_the_key_of_its_own_secret_in_its_own_variable() -> None:
    def served(**secret: Any) -> dict[str, Any]:
        return {"url": "https://models/v1", "model": "m", **secret}

    child = rendered(
        "DataSynthesisJob",
        generator={"endpoint": served(secretRef={"name": "teacher"})},
        quality={"judge": {"endpoint": served(secretRef={"name": "judge"})}},
    )
    env = env_of(child)
    for part, name in (("GENERATOR", "teacher"), ("QUALITY_JUDGE", "judge")):
        reference = {"name": name, "key": "API_KEY"}
        assert env[f"M2R_API_KEY_{part}_ENDPOINT"] == {"secretKeyRef": reference}
    keyless = env_of(rendered("DataSynthesisJob", generator={"endpoint": served()}))
    assert not [name for name in keyless if name.startswith("M2R_API_KEY")]
