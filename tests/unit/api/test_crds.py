"""The definitions keep Kubernetes' structural-schema rules and say what the models say."""

from __future__ import annotations

import functools
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from unit.api.cases import BAD, DESIGN, Bad, changed, small

from m2r_train.api import KINDS, resolved
from m2r_train.api.crdgen import check_crds, crd, render_crds, write_crds
from m2r_train.api.docsgen import check_docs, render_docs, write_docs
from m2r_train.api.manifests import parse_document
from m2r_train.api.resource import Resource
from m2r_train.api.schema import Model, Rule
from m2r_train.api.status import ConditionType
from m2r_train.api.yamlload import as_sent

ROOT = Path(__file__).parents[3]

# JSONSchemaProps of apiextensions.k8s.io/v1, less what a structural schema forbids.
ALLOWED_KEYS = {
    *("description", "type", "format", "enum", "default", "nullable", "example", "externalDocs"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "not"),
    *("minLength", "maxLength", "pattern", "minItems", "maxItems", "items", "required"),
    *("minProperties", "maxProperties", "properties", "additionalProperties"),
    *("allOf", "anyOf", "oneOf", "x-kubernetes-int-or-string", "x-kubernetes-map-type"),
    *("x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"),
    *("x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-validations"),
}
INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
ROUTED = ("SFTJob/x: apiVersion", "document 1: SFTJob: metadata.name")
"""Mistakes that the API server finds before it looks at the definition."""


@functools.cache
def root_schema(kind: str) -> dict[str, Any]:
    return crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema inside a schema, with its path."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from nodes(schema["additionalProperties"], f"{path}.*")


def structural_problems(schema: dict[str, Any]) -> list[str]:
    """What Kubernetes would refuse, one line each."""
    found = []
    for path, node in nodes(schema):
        found += [f"{path}: {key} is not allowed" for key in set(node) - ALLOWED_KEYS]
        untyped = node.get("x-kubernetes-int-or-string") or node.get(
            "x-kubernetes-preserve-unknown-fields"
        )
        if not node.get("type") and not untyped:
            found.append(f"{path}: no type")
        if "anyOf" in node and node["anyOf"] != INT_OR_STRING:
            found.append(f"{path}: anyOf other than of int-or-string")
        if node.get("x-kubernetes-int-or-string") and "type" in node:
            found.append(f"{path}: int-or-string with a type")
        if "properties" in node and "additionalProperties" in node:
            found.append(f"{path}: both properties and additionalProperties")
        if any(key.startswith("exclusive") for key in node):
            found.append(f"{path}: exclusive bound")
        if not set(node.get("required", [])) <= set(node.get("properties", {})):
            found.append(f"{path}: requires what it does not have")
        found += list_problems(path, node)
    return found


def list_problems(path: str, node: dict[str, Any]) -> list[str]:
    items = node.get("items", {})
    if node.get("x-kubernetes-list-type") == "map":
        keys = node["x-kubernetes-list-map-keys"]
        sure = [k for k in keys if k in items.get("required", [])]
        return [] if sure == keys else [f"{path}: a key of the list map may be missing"]
    if node.get("x-kubernetes-list-type") == "set" and items.get("type") != "string":
        return [f"{path}: a set of something else than text"]
    return []


@pytest.mark.parametrize("kind", KINDS)
def test_schema_is_structural(kind: str) -> None:
    assert structural_problems(root_schema(kind)) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("properties.spec.title", "Spec"),
        ("properties.spec.properties.seed.$ref", "#/x"),
        ("properties.spec.properties.seed", {}),
        ("properties.spec.properties.seed", {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        ("properties.spec.properties.seed.exclusiveMinimum", True),
        ("properties.spec.properties.scheduling.additionalProperties", {"type": "string"}),
        ("properties.spec.properties.resources.properties.cpu.type", "string"),
        ("properties.spec.properties.benchmarks.items.required", ["data"]),
    ],
)
def test_walker_sees_each_kind_of_mistake(path: str, value: Any) -> None:
    assert structural_problems(changed(root_schema("EvalJob"), path, value)) != []


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_list_and_map_of_the_spec_is_bounded(kind: str) -> None:
    unbounded = []
    for path, node in nodes(root_schema(kind)["properties"]["spec"], "spec"):
        shape = node.get("type")
        text = shape == "string" and "enum" not in node and node.get("format") != "date-time"
        missing = {
            "maxLength": text or "x-kubernetes-int-or-string" in node,
            "maxItems": shape == "array",
            "maxProperties": "additionalProperties" in node,
            "maximum": shape in ("integer", "number"),
        }
        unbounded += [f"{path}: {key}" for key, needed in missing.items() if needed > (key in node)]
    assert unbounded == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_described_in_one_line(kind: str) -> None:
    parts = root_schema(kind)["properties"]
    for path, node in [*nodes(parts["spec"], "spec"), *nodes(parts["status"], "status")]:
        if path.endswith(("*", "[]")) or "columns." in path:
            continue
        text = node.get("description", "")
        assert text and "\n" not in text and len(text) <= 120, path


@pytest.mark.parametrize("kind", KINDS)
def test_rules_have_messages_and_point_at_fields_that_exist(kind: str) -> None:
    for path, node in nodes(root_schema(kind)):
        for rule in node.get("x-kubernetes-validations", []):
            assert rule["message"] and "\n" not in rule["message"], (path, rule)
            here = node
            for part in filter(None, rule.get("fieldPath", "").split(".")):
                here = here["properties"][part]


def models_of_resources() -> list[type[Model]]:
    """Every model inside a kind's; those of a file beside them (a sweep, a claim) are none."""
    classes: list[type[Model]] = [kind.job for kind in KINDS.values()]
    for cls in classes:
        for field in cls.model_fields.values():
            inner = (model for model in models_in(field.annotation) if model not in classes)
            classes += inner
    return classes


def models_in(annotation: Any) -> Iterator[type[Model]]:
    """The models that a field's type names, at any depth of lists, mappings and unions."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation
    for part in typing.get_args(annotation):
        yield from models_in(part)


def checked_rules() -> dict[tuple[str, str], Rule]:
    """Every rule that Python checks, by CEL text and message."""
    rules = (
        rule for model in models_of_resources() for rule in model.rules if rule.check is not None
    )
    return {(rule.cel, rule.message): rule for rule in rules}


def test_every_rule_of_python_stands_in_the_definitions_and_the_reverse() -> None:
    in_crds = {
        (rule["rule"], rule["message"])
        for kind in KINDS
        for _, node in nodes(root_schema(kind))
        for rule in node.get("x-kubernetes-validations", [])
        if "oldSelf" not in rule["rule"] and not rule["rule"].startswith("self >= ")
    }
    assert in_crds == set(checked_rules())
    assert len(in_crds) >= 15


def test_every_rule_is_broken_by_a_case_of_the_table() -> None:
    """So a run of the table against an API server proves each CEL twin."""
    lines = [bad.line for bad in BAD]
    unproven = [
        rule
        for rule in checked_rules().values()
        if not any(line.endswith(f"{rule.path}: {rule.message}") for line in lines)
    ]
    assert unproven == []


@pytest.mark.parametrize("kind", KINDS)
def test_fractional_minimum_has_a_rule_since_the_api_server_cuts_it(kind: str) -> None:
    for path, node in nodes(root_schema(kind)["properties"]["spec"], "spec"):
        if node.get("minimum", 0) % 1:
            rules = [rule["rule"] for rule in node["x-kubernetes-validations"]]
            assert rules == [f"self >= {node['minimum']!r}"], path


def test_everything_that_changes_the_result_is_immutable() -> None:
    rules = root_schema("RLVRJob")["properties"]["spec"]["x-kubernetes-validations"]
    fixed = {r["fieldPath"] for r in rules if "oldSelf" in r["rule"]}
    assert fixed == {
        *(".model", ".dataset", ".steps", ".rollout", ".rewards", ".optimization", ".curriculum"),
        *(
            ".monitors",
            ".checkpoint",
            ".evaluation",
            ".seed",
            ".storage",
            ".managedBy",
            ".resources",
        ),
        ".parallelism",
    }


def with_defaults(schema: dict[str, Any], value: Any) -> Any:
    """Defaulting as the API server does it: a missing field gets its default, then go inside."""
    if isinstance(value, dict):
        filled = dict(value)
        for name, inner in schema.get("properties", {}).items():
            if name not in filled and "default" in inner:
                filled[name] = inner["default"]
            if name in filled:
                filled[name] = with_defaults(inner, filled[name])
        if "additionalProperties" in schema:
            inner = schema["additionalProperties"]
            filled = {key: with_defaults(inner, item) for key, item in filled.items()}
        return filled
    if isinstance(value, list):
        return [with_defaults(schema["items"], item) for item in value]
    return value


def good_manifests() -> list[dict[str, Any]]:
    partly = changed(small("RLVRJob"), "spec.optimization", {"kl": {"end": 0.01}})
    some = changed(small("DataSynthesisJob"), "spec.outputs", {"sft": 5})
    design = yaml.safe_load_all(DESIGN.read_text(encoding="utf-8"))
    return [*map(small, KINDS), *design, partly, some]


@pytest.mark.parametrize("manifest", good_manifests(), ids=lambda m: m["kind"])
def test_defaults_of_the_api_server_are_the_defaults_of_python(manifest: dict[str, Any]) -> None:
    parsed = parse_document(manifest, Path("f.yaml"), 1)
    assert isinstance(parsed, Resource), parsed
    schema = root_schema(manifest["kind"])["properties"]["spec"]
    assert with_defaults(schema, manifest["spec"]) == as_sent(resolved(parsed.spec))


@pytest.mark.parametrize("kind", KINDS)
def test_every_default_is_valid_under_its_own_schema(kind: str) -> None:
    seen = 0
    for path, node in nodes(root_schema(kind)):
        if "default" in node:
            jsonschema.validate(node["default"], node)
            assert not path.startswith(".status"), path
            seen += 1
    assert seen > 20


@pytest.mark.parametrize("manifest", good_manifests(), ids=lambda m: m["kind"])
def test_good_manifest_is_valid_under_the_schema(manifest: dict[str, Any]) -> None:
    jsonschema.validate(manifest, root_schema(manifest["kind"]))


def is_a_rules_matter(bad: Bad) -> bool:
    return any(bad.line.endswith(message) for _, message in checked_rules())


@pytest.mark.parametrize(
    "bad",
    [b for b in BAD if not (b.is_dropped or is_a_rules_matter(b) or b.line.startswith(ROUTED))],
    ids=lambda bad: bad.line,
)
def test_bad_manifest_is_refused_by_the_schema(bad: Bad) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(bad.manifest, root_schema(bad.manifest["kind"]))


@pytest.mark.parametrize(
    ("value", "meaning"), [("Off", "Off"), (False, "Off"), ("On", "On"), (True, "On")]
)
def test_bare_on_and_off_which_yaml_reads_as_booleans_are_understood(
    value: Any, meaning: str
) -> None:
    manifest = changed(small("DataSynthesisJob"), "spec.quality", {"filter": value})
    jsonschema.validate(manifest, root_schema("DataSynthesisJob"))
    parsed = parse_document(manifest, Path("f.yaml"), 1)
    assert isinstance(parsed, Resource), parsed
    assert resolved(parsed.spec)["quality"]["filter"] == meaning


@pytest.mark.parametrize("kind", KINDS)
def test_names_columns_and_status_are_as_promised(kind: str) -> None:
    definition = crd(kind)
    spec, version = definition["spec"], definition["spec"]["versions"][0]
    assert definition["metadata"]["name"] == f"{spec['names']['plural']}.m2r.dev"
    assert spec["names"]["categories"] == ["m2r"]
    assert version["subresources"] == {"status": {}}
    columns = version["additionalPrinterColumns"]
    titles = [column["name"] for column in columns if not column.get("priority")]
    result = {"DataSynthesisJob": "Kept", "SFTJob": "Loss", "RLVRJob": "Reward"}.get(kind, "Score")
    assert titles == ["Phase", "Step", "%", result, "Attempt", "Checkpoint", "Age"]
    wide = [column["name"] for column in columns if column.get("priority")]
    assert wide == [
        *("Inputs", "Queue", "Pods", "Trouble", "Failed"),
        *("Restarts", "Preemptions", "ETA", "Job", "Message"),
    ]
    assert len({column["name"] for column in columns}) == len(columns)


CONDITION = re.compile(r"\.status\.conditions\[\?\(@\.type==\"(\w+)\"\)\]\.(\w+)")


@pytest.mark.parametrize("kind", KINDS)
def test_each_column_shows_a_field_that_there_is(kind: str) -> None:
    for column in crd(kind)["spec"]["versions"][0]["additionalPrinterColumns"]:
        here = root_schema(kind)
        if column["jsonPath"].startswith(".metadata."):
            continue
        if (found := CONDITION.fullmatch(column["jsonPath"])) is not None:
            assert found[1] in typing.get_args(ConditionType)
            here = here["properties"]["status"]["properties"]["conditions"]["items"]
            assert here["properties"][found[2]]["type"] == column["type"]
            continue
        for part in re.findall(r"\w+", column["jsonPath"]):
            here = here.get("properties", {}).get(part) or here["additionalProperties"]
        assert here["type"] == column["type"]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_said_of_metadata_but_its_name(kind: str) -> None:
    metadata = root_schema(kind)["properties"]["metadata"]
    assert set(metadata) == {"type", "properties"}
    assert set(metadata["properties"]) == {"name"}


def test_files_in_the_repository_are_up_to_date() -> None:
    assert check_crds(ROOT / "crds") == []
    assert check_docs(ROOT / "docs" / "reference") == []


def test_changed_missing_and_orphaned_files_are_found(tmp_path: Path) -> None:
    written = write_crds(tmp_path)
    assert check_crds(tmp_path) == []
    written[0].write_text("edited", encoding="utf-8")
    written[1].unlink()
    (tmp_path / "m2r.dev_oldjobs.yaml").touch()
    assert check_crds(tmp_path) == sorted(
        [written[0].name, written[1].name, "m2r.dev_oldjobs.yaml"]
    )


def test_crd_files_parse_to_the_definitions_and_say_that_they_are_generated() -> None:
    texts = render_crds()
    assert list(map(yaml.safe_load, texts.values())) == [crd(kind) for kind in KINDS]
    assert all(text.startswith("# Generated") and "&id" not in text for text in texts.values())


def test_reference_page_has_a_row_for_every_field(tmp_path: Path) -> None:
    write_docs(tmp_path)
    assert check_docs(tmp_path) == []
    page = render_docs()["rlvrjob.md"]
    row = "| `rollout.groupSize` | integer | `8` | >= 2, <= 1024 | "
    assert row in page
    assert "| `rewards.ednm.perTask.KEY.lambda` | number |" in page
    assert "`spec.optimization.warmupSteps` must not be more than steps" in page
    fields = [p for p, _ in nodes(root_schema("RLVRJob")["properties"]["spec"]) if p]
    rows = page.partition("## Status")[0].count("\n| `")
    assert rows == len([p for p in fields if not p.endswith(("*", "[]"))])
