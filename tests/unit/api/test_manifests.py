"""Manifests are read as the API server would, and each mistake gives one line that helps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from unit.api.cases import BAD, DESIGN, Bad, changed, small

from m2r_train.api import KINDS, SpecError, SpecErrors, load_manifests, references, resolved
from m2r_train.api.problems import fields_of
from m2r_train.api.schema import looks_like_secret
from m2r_train.api.yamlload import MAX_BYTES

ROOT = Path(__file__).parents[3]


def written(folder: Path, text: str, name: str = "x.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def lines_for(*paths: Path) -> tuple[str, ...]:
    with pytest.raises(SpecErrors) as caught:
        load_manifests(paths)
    assert caught.value.exit_code == 64
    return caught.value.lines


SFT = yaml.safe_dump(small("SFTJob"))


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.line)
def test_bad_manifest_gives_one_line_with_file_field_and_remedy(bad: Bad, tmp_path: Path) -> None:
    path = written(tmp_path, json.dumps(bad.manifest))
    assert lines_for(path) == (f"{path}: {bad.line}",)


def test_table_is_long_and_its_lines_are_short() -> None:
    assert len(BAD) >= 60
    assert all("\n" not in bad.line and len(bad.line) < 400 for bad in BAD)
    assert {bad.manifest["kind"] for bad in BAD} == set(KINDS)


def test_the_designs_manifests_parse_and_keep_every_value() -> None:
    resources = load_manifests([DESIGN])
    documents = list(yaml.safe_load_all(DESIGN.read_text(encoding="utf-8")))
    assert [(r.kind, r.name, r.document) for r in resources] == [
        ("DataSynthesisJob", "m2-data", 1),
        ("SFTJob", "m2-ci", 2),
        ("RLVRJob", "m2-rlvr", 3),
        ("EvalJob", "m2-eval", 4),
    ]
    for resource, document in zip(resources, documents, strict=True):
        assert holds(resolved(resource.spec), document["spec"])
    assert resources[2].job.metadata.labels == {"kueue.x-k8s.io/queue-name": "research"}


def holds(whole: Any, part: Any) -> bool:
    """Whether a resolved value has everything that was written."""
    if isinstance(part, dict):
        return all(holds(whole[key], value) for key, value in part.items())
    if isinstance(part, list):
        return all(map(holds, whole, part)) and len(whole) == len(part)
    return bool(whole == part)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("RLVRJob", "rollout.groupSize", 8),
        ("RLVRJob", "rollout.maxCompletionTokens", 1024),
        ("RLVRJob", "rewards.ednm.gamma", 1.0),
        ("RLVRJob", "rewards.ednm.lambda", 2.0),
        ("RLVRJob", "optimization.advantageWeight.sigma", 4.0),
        ("RLVRJob", "optimization.kl.schedule", "Cosine"),
        ("RLVRJob", "optimization.loss", "Grpo"),
        ("RLVRJob", "curriculum.order", "Ascending"),
        ("RLVRJob", "checkpoint.everySteps", 20),
        ("SFTJob", "checkpoint.everySteps", 200),
        ("SFTJob", "training.warmupRatio", 0.03),
        ("DataSynthesisJob", "outputs.sft", 168_000),
        ("DataSynthesisJob", "outputs.rlvr", 126_200),
        ("DataSynthesisJob", "generator.chainsPerQuestion", 4),
        ("DataSynthesisJob", "quality.minMean", 4.0),
        ("EvalJob", "generation.greedy", True),
    ],
)
def test_what_is_left_out_is_as_in_the_paper(
    kind: str, path: str, value: Any, tmp_path: Path
) -> None:
    (resource,) = load_manifests([written(tmp_path, yaml.safe_dump(small(kind)))])
    here = resolved(resource.spec)
    for part in path.split("."):
        here = here[part]
    assert here == value


def test_every_problem_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    worse = changed(changed(small("RLVRJob"), "spec.steps", 0), "spec.seed", -1)
    first = written(tmp_path, yaml.safe_dump(worse), "a.yaml")
    second = written(tmp_path, f"{SFT}---\nkind: Pod\n", "b.yml")
    third = tmp_path / "none.yaml"
    assert lines_for(tmp_path, third) == (
        f"{first}: RLVRJob/x: spec.seed: must be >= 0 (got -1); set it to 0 or more",
        f"{first}: RLVRJob/x: spec.steps: must be >= 1 (got 0); set it to 1 or more",
        f'{second}: document 2: kind: "Pod" is not a kind of M2R; '
        "write one of DataSynthesisJob, SFTJob, RLVRJob, EvalJob",
        f"{third}: cannot be read (No such file or directory); check the path",
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "kind: [",
            "line 1: not YAML (expected the node content, but found '<stream end>'); correct the",
        ),
        ("a: 1\n b: 2\n", "line 2: not YAML (mapping values are not allowed"),
        (f"{SFT}spec: {{}}\n", "line 10: key spec stands twice; remove one"),
        ("a: {b: 1, b: 2}", "line 1: key b stands twice; remove one"),
        ("{a: 1}: 2", "line 1: a key must be text; write it plainly"),
        ("a: !!python/object:os.system {}", "line 1: not YAML (could not determine a constructor"),
        ("a: &x [*x]", "line 1: an alias holds itself; write the value out"),
        ("- 1", "document 1: must be a map; begin with apiVersion: m2r.dev/v1alpha1"),
        ("just text", "document 1: must be a map"),
        ("a: 1", "document 1: kind: is required; add one of DataSynthesisJob, SFTJob"),
        ("kind: SFTjob", 'document 1: kind: "SFTjob" is not a kind of M2R; write SFTJob'),
        ("kind: 5", "document 1: kind: 5 is not a kind of M2R; write one of"),
        ("kind: SFTJob", "document 1: apiVersion: is required; add m2r.dev/v1alpha1"),
        ("", "no manifests; name a file with resources"),
        ("---\n---\n# nothing\n", "no manifests; name a file with resources"),
        (f"{SFT}bin: !!binary aGk=\n", "SFTJob/x: holds a value that JSON does not have"),
        (f"{SFT}status: 1\n", "SFTJob/x: status: must be a map"),
        ("a: \x00", "not YAML (unacceptable character #x0000: special characters"),
        ("[" * 200 + "]" * 200, "line 1: nested too deeply; write it flatter"),
        (
            "a: &a [1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b]\n"
            "d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e]",
            "more than 100000 values; split the file",
        ),
    ],
    ids=lambda text: text[:40],
)
def test_text_that_is_no_manifest_gives_one_line(text: str, line: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    (found,) = lines_for(path)
    assert found.startswith(f"{path}: ")
    assert line in found
    assert "\n" not in found


def test_file_of_more_than_a_mebibyte_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, SFT + "#" * (MAX_BYTES - len(SFT)))
    assert len(load_manifests([path])) == 1
    path = written(tmp_path, SFT + "#" * (MAX_BYTES - len(SFT) + 1))
    assert lines_for(path) == (f"{path}: larger than 1 MiB; split it",)


def test_same_kind_and_name_twice_is_told_with_the_first_place(tmp_path: Path) -> None:
    first = written(tmp_path, f"{SFT}---\n{yaml.safe_dump(small('RLVRJob'))}", "a.yaml")
    second = written(tmp_path, SFT, "b.yaml")
    assert lines_for(first, second) == (
        f"{second}: SFTJob/x: metadata.name: already used in {first} document 1; rename one",
    )


def test_folder_gives_its_yaml_files_by_name_and_a_file_counts_once(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "c.json", "d.txt"):
        text = yaml.safe_dump(changed(small("SFTJob"), "metadata.name", name[0]))
        written(tmp_path, text, name)
    (tmp_path / "e.yaml").mkdir()
    loaded = load_manifests([tmp_path, tmp_path / "a.yml"])
    assert [resource.name for resource in loaded] == ["a", "b"]
    assert lines_for(tmp_path / "e.yaml")[0].endswith(
        "e.yaml: no *.yaml or *.yml in this folder; name another"
    )


def test_yaml_is_read_as_kubectl_reads_it(tmp_path: Path) -> None:
    text = SFT.replace("name: x", "name: x\n  annotations: {made: 2025-07-11}")
    text += "  training: {learningRate: 1e-5, weightDecay: null, steps: 2.0}\n  seed:\n"
    (resource,) = load_manifests([written(tmp_path, text)])
    spec = resolved(resource.spec)
    assert resource.job.metadata.annotations == {"made": "2025-07-11"}
    assert spec["training"]["learningRate"] == 1e-5
    assert (spec["training"]["weightDecay"], spec["training"]["steps"]) == (0.01, 2)
    assert spec["seed"] == 0


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    text = SFT + "  training: &t {epochs: 2, <<: {steps: 3, epochs: 9}}\n"
    (resource,) = load_manifests([written(tmp_path, text)])
    training = resolved(resource.spec)["training"]
    assert (training["epochs"], training["steps"]) == (2.0, 3)


def test_what_kubectl_get_prints_can_be_read_back(tmp_path: Path) -> None:
    manifest = small("SFTJob")
    manifest["metadata"] |= {
        "uid": "0b9bd6a5-6f2e-4a0c-9a44-5a4a5dfb2a10",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "resourceVersion": "12",
        "generation": 3,
        "managedFields": [{"manager": "kubectl"}],
    }
    manifest["status"] = {
        "phase": "Running",
        "attempt": 2,
        "startTime": "2026-01-01T00:00:05Z",
        "conditions": [
            {
                "type": "Running",
                "status": "True",
                "reason": "PodsReady",
                "message": "",
                "lastTransitionTime": "2026-01-01T00:00:05Z",
            }
        ],
        "aFieldOfANewerOperator": 1,
    }
    (resource,) = load_manifests([written(tmp_path, yaml.safe_dump(manifest))])
    status = resource.job.status
    assert status is not None
    assert (status.attempt, status.conditions[0].type) == (2, "Running")
    assert status.start_time is not None and status.start_time.year == 2026
    assert resource.job.metadata.generation == 3


def test_values_that_may_hold_a_password_are_never_repeated(tmp_path: Path) -> None:
    for value in ("https://user:hunter2@host/x", "x AKIAABCDEFGHIJKLMNOP"):
        text = yaml.safe_dump(changed(small("SFTJob"), "spec.dataset.uri", value))
        (line,) = lines_for(written(tmp_path, text))
        assert value not in line
        assert "hunter2" not in line and "ABCDEFGHIJ" not in line


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("AKIAABCDEFGHIJKLMNOP", True),
        ("s3://b/ASIA0123456789ABCDEF/x", True),
        ("AKIAABCDEFGHIJKLMNO", False),
        ("AKIAabcdefghijklmnop", False),
        ("", False),
    ],
)
def test_access_keys_are_known_by_their_form(text: str, secret: bool) -> None:
    assert looks_like_secret(text) is secret


def test_long_values_are_cut_in_messages(tmp_path: Path) -> None:
    text = yaml.safe_dump(changed(small("SFTJob"), "spec.seed", "9" * 5000))
    (line,) = lines_for(written(tmp_path, text))
    assert len(line) < 200 + len(str(tmp_path))


@pytest.mark.parametrize("kind", KINDS)
def test_reference_of_a_wrong_kind_is_refused(kind: str, tmp_path: Path) -> None:
    target = {"kind": kind, "name": "y"}
    as_model = changed(small("EvalJob"), "spec.model", {"from": target})
    as_data = changed(small("SFTJob"), "spec.dataset", {"from": target, "split": "sft"})
    for manifest, right in ((as_model, ("SFTJob", "RLVRJob")), (as_data, ("DataSynthesisJob",))):
        path = written(tmp_path, yaml.safe_dump(manifest))
        if kind in right:
            (resource,) = load_manifests([path])
            assert [(r.kind, r.name) for r in references(resource)] == [(kind, "y")]
        else:
            (line,) = lines_for(path)
            assert "from.kind: must be" in line


def test_errors_are_spec_errors_with_one_line_for_each_problem() -> None:
    error = SpecErrors(["a", "b"])
    assert isinstance(error, SpecError)
    assert (str(error), error.lines) == ("a\nb", ("a", "b"))


def test_field_names_in_yaml_never_have_an_underscore() -> None:
    todo: list[Any] = [kind.job for kind in KINDS.values()]
    names = []
    while todo:
        fields = fields_of(todo.pop())
        names += fields
        todo += fields.values()
    assert "groupSize" in names and "lambda" in names and "from" in names
    assert not [name for name in names if "_" in name]


def test_api_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'numpy', 'boto3', 'transformers', 'kubernetes', 'kopf', 'rich', 'typer'}"
    modules = ("m2r_train.api", "m2r_train.api.crdgen", "m2r_train.api.docsgen")
    code = f"import sys, {', '.join(modules)}; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "[]\n"
