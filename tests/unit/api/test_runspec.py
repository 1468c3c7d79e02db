"""A stage is told everything by one JSON file, and a run's identity follows from its result."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.api.cases import DESIGN, changed, small

from m2r_train.api import (
    KINDS,
    JobSpec,
    ModelRef,
    Resource,
    Resources,
    RunInput,
    RunMetadata,
    RunSpec,
    RunStorage,
    SFTSpec,
    SpecError,
    SpecErrors,
    input_refs,
    load_manifests,
    local_uid,
    resolved,
)
from m2r_train.api.crdgen import crd
from m2r_train.api.manifests import parse_document

UID = "0b9bd6a5-6f2e-4a0c-9a44-5a4a5dfb2a10"


def spec_of(manifest: dict[str, Any]) -> JobSpec:
    parsed = parse_document(manifest, Path("f.yaml"), 1)
    assert isinstance(parsed, Resource), parsed
    return parsed.spec


def run_of(kind: str, spec: JobSpec) -> RunSpec:
    return RunSpec(
        kind=kind,
        metadata=RunMetadata(namespace="lab", name="x", uid=UID),
        attempt=2,
        storage=RunStorage(uri="s3://lab/runs", endpoint="http://minio:9000"),
        seed=spec.seed,
        spec=resolved(spec),
        inputs={"dataset": RunInput(uri="file:///data", digest="ab")},
    )


@pytest.mark.parametrize("resource", load_manifests([DESIGN]), ids=lambda r: r.kind)
def test_run_spec_survives_the_way_through_a_file(resource: Resource, tmp_path: Path) -> None:
    run = run_of(resource.kind, resource.spec)
    path = tmp_path / "spec.json"
    path.write_text(run.to_json(), encoding="utf-8")
    loaded = RunSpec.load(path)
    assert loaded == run
    assert loaded.to_json() == run.to_json()
    assert loaded.parsed_spec == resource.spec
    assert type(loaded.parsed_spec) is KINDS[resource.kind].spec


def test_run_spec_is_canonical_json_with_defaults_filled_and_nulls_kept() -> None:
    text = run_of("SFTJob", spec_of(small("SFTJob"))).to_json()
    value = json.loads(text)
    assert text == json.dumps(value, sort_keys=True, separators=(",", ":")) + "\n"
    assert value["spec"]["training"]["learningRate"] == 1e-5
    assert value["spec"]["training"]["steps"] is None
    assert value["inputs"] == {"dataset": {"uri": "file:///data", "digest": "ab"}}
    assert value["storage"] == {
        "uri": "s3://lab/runs",
        "endpoint": "http://minio:9000",
        "region": None,
    }


def test_labels_are_kept_and_stand_there_only_where_there_are_any() -> None:
    """An image of before, which a run may pin, refuses what it does not know."""
    plain = run_of("SFTJob", spec_of(small("SFTJob")))
    assert "labels" not in json.loads(plain.to_json())["metadata"]
    labels = {"m2r.dev/arm": "binary", "team": "vision"}
    run = plain.model_copy(
        update={"metadata": plain.metadata.model_copy(update={"labels": labels})}
    )
    assert RunSpec.from_json(run.to_json()).metadata.labels == labels
    assert run.run_prefix == plain.run_prefix


def test_run_prefix_names_namespace_kind_name_and_the_beginning_of_the_uid() -> None:
    run = run_of("RLVRJob", spec_of(small("RLVRJob")))
    assert run.run_prefix == "lab/rlvrjob/x-0b9bd6a5"


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("attempt", 0, "attempt: must be >= 1 (got 0); set it to 1 or more"),
        ("kind", "Job", 'kind: must be one of DataSynthesisJob, SFTJob, RLVRJob, EvalJob (got "Jo'),
        ("storage", {}, "storage.uri: is required; add it"),
        ("metadata.uid", "x", "metadata.uid: must have at least 8 characters"),
        ("metadata.uid", "../../../", "metadata.uid: has the wrong form"),
        ("spec.training.steps", 0, "spec.training.steps: must be >= 1 (got 0)"),
        ("spec.model", {}, "spec.model: must have exactly one of uri, from or preset"),
        ("inputs.model", {}, "inputs.model.uri: is required; add it"),
        ("extra", 1, "extra: unknown field; remove it"),
    ],
)
def test_wrong_run_spec_is_told_by_field(path: str, value: Any, line: str) -> None:
    good = json.loads(run_of("SFTJob", spec_of(small("SFTJob"))).to_json())
    with pytest.raises(SpecErrors) as caught:
        RunSpec.from_json(json.dumps(changed(good, path, value)), source="/etc/m2r/spec.json")
    (found,) = caught.value.lines
    assert found.startswith(f"/etc/m2r/spec.json: {line}")


def test_run_spec_that_is_no_json_or_no_file_is_a_spec_error(tmp_path: Path) -> None:
    with pytest.raises(SpecErrors, match=r"^run spec: is not JSON \(EOF .*; write it anew$"):
        RunSpec.from_json('{"kind":')
    with pytest.raises(SpecError, match=r"none\.json: cannot be read \(No such file"):
        RunSpec.load(tmp_path / "none.json")


def test_inputs_are_named_by_field_path_in_order() -> None:
    found = {r.kind: [path for path, _ in input_refs(r.spec)] for r in load_manifests([DESIGN])}
    assert found == {
        "DataSynthesisJob": [
            "sources[1].dataset",
            "generator.model",
            "quality.judge.model",
            "difficulty.model",
        ],
        "SFTJob": ["model", "dataset"],
        "RLVRJob": ["model", "dataset"],
        "EvalJob": ["model", "benchmarks[0].data", "benchmarks[1].data", "benchmarks[2].data"],
    }


# --- identity --------------------------------------------------------------------------------
def other_value(schema: dict[str, Any], value: Any) -> Any:
    """Another value that a field of this schema may have, or None where there is no simple one."""
    if "enum" in schema:
        return next((v for v in schema["enum"] if isinstance(v, str) and v != value), None)
    if schema.get("x-kubernetes-int-or-string"):
        return "7"
    if schema.get("type") == "boolean":
        return not value
    if schema.get("type") in ("integer", "number"):
        low, high = schema["minimum"], schema["maximum"]
        return next(v for v in (low, high, (low + high) / 2) if v != value)
    return None


def changes(schema: dict[str, Any], value: dict[str, Any], path: str) -> list[tuple[str, Any]]:
    """(path, new value) for every number, switch and choice inside a resolved spec."""
    found: list[tuple[str, Any]] = []
    for name, inner in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        if isinstance(value.get(name), dict):
            found += changes(inner, value[name], here)
        elif (other := other_value(inner, value.get(name))) is not None:
            found.append((here, other))
    return found


COSMETIC = (
    *("scheduling", "suspend", "restartPolicy", "disruption", "watchdog", "managedBy", "image"),
    *(
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
        "serviceAccountName",
        "storage",
        "parallelism",
        "traces",
    ),
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_field_gives_a_new_run_only_if_it_changes_the_result(kind: str) -> None:
    schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    base = spec_of(small(kind))
    seen = {True: 0, False: 0}
    for path, value in changes(schema, resolved(base), "spec"):
        parsed = parse_document(changed(small(kind), path, value), Path("f.yaml"), 1)
        if not isinstance(parsed, Resource):
            continue  # against a rule between fields
        top = path.split(".")[1]
        relevant = path == "spec.resources.cpu" or top not in (*COSMETIC, "resources")
        assert (local_uid(kind, parsed.spec) != local_uid(kind, base)) is relevant, path
        seen[relevant] += 1
    assert seen[False] >= 15 and seen[True] >= 8


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.image", "other:1"),
        ("spec.storage", {"uri": "s3://other/runs"}),
        ("spec.scheduling", {"queue": "q", "nodeSelector": {"a": "b"}}),
        ("spec.serviceAccountName", "someone"),
        ("spec.resources.memory", "64Gi"),
        ("spec.resources.rdma", {}),
        ("spec.resources.cpu", 2),
        ("spec.resources.cpu", "1500m"),
        ("metadata.name", "renamed"),
        ("metadata.labels", {"a": "b"}),
    ],
)
def test_field_that_does_not_change_the_result_goes_on_with_the_same_run(
    path: str, value: Any
) -> None:
    manifest = changed(small("SFTJob"), path, value)
    assert local_uid("SFTJob", spec_of(manifest)) == local_uid("SFTJob", spec_of(small("SFTJob")))


def test_kind_inputs_and_their_digests_are_part_of_the_identity() -> None:
    spec = spec_of(small("SFTJob"))
    uids = {
        local_uid("SFTJob", spec),
        local_uid("RLVRJob", spec),
        local_uid("SFTJob", spec, {"dataset": "a"}),
        local_uid("SFTJob", spec, {"dataset": "b"}),
        local_uid("SFTJob", spec, {"model": "a"}),
        local_uid("SFTJob", spec, {"dataset": None}),
    }
    assert len(uids) == 6
    assert all(len(uid) == 64 and int(uid, 16) >= 0 for uid in uids)


@given(st.integers(0, 2**32))
def test_order_of_keys_and_spelled_out_defaults_do_not_matter(seed: int) -> None:
    shuffle = random.Random(seed)

    def mixed(value: Any) -> Any:
        if isinstance(value, dict):
            items = [(k, mixed(v)) for k, v in value.items() if v is not None]
            return dict(shuffle.sample(items, len(items)))
        return value

    base = spec_of(small("RLVRJob"))
    spelled = changed(small("RLVRJob"), "spec", mixed(resolved(base)))
    inputs = {"model": "a", "dataset": "b"}
    reverse = dict(reversed(inputs.items()))
    assert local_uid("RLVRJob", spec_of(mixed(spelled)), reverse) == local_uid(
        "RLVRJob", base, inputs
    )


def test_identity_is_the_same_in_every_version_of_this_program() -> None:
    """Changing this digest abandons every unfinished local run: it needs a reason."""
    uid = local_uid("SFTJob", spec_of(small("SFTJob")), {"dataset": "ab"})
    assert uid[:16] == "f3e5eac0c4f27f0e"


@pytest.mark.parametrize(
    ("cpu", "threads"),
    [("2", 2), ("500m", 1), ("1500m", 2), ("0", 1), ("3.2", 4), ("1k", 1000), ("16", 16)],
)
def test_compute_threads_are_the_cpu_rounded_up(cpu: str, threads: int) -> None:
    assert Resources(cpu=cpu).cpu_threads == threads


def test_specs_can_be_made_in_python_by_their_names() -> None:
    spec = SFTSpec.model_validate({"model": {"preset": "tiny"}, "dataset": {"uri": "file:///d"}})
    assert spec == spec_of(changed(small("SFTJob"), "spec.dataset.uri", "file:///d"))
    with pytest.raises(ValueError, match="must have exactly one of uri, from or preset"):
        ModelRef(uri="file:///m", preset="tiny")
    with pytest.raises(ValueError, match="frozen"):
        spec.seed = 3  # type: ignore[misc]
