"""``python tools/chart.py write|check``: the generated parts of charts/m2r.

`values.yaml` is the one place where a value is declared: the comment above a key documents it, its
default gives its type, and a line ``# @schema ...`` narrows that (a name of ``TYPES``, or a piece
of JSON Schema in YAML's flow style). From it come ``values.schema.json``, which refuses every
unknown or badly typed value, and the table of ``README.md``. From ``crds/`` come the templates of
the CustomResourceDefinitions: the same text, but for a condition around it and lines of metadata.
The version of the chart is that of the project. The rules of Prometheus and ``docs/metrics.md`` are
made from the series and alerts that the packages declare.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from m2r_operator.metrics import OPERATOR_SERIES
from m2r_train.telemetry.metrics import markdown_table
from m2r_train.telemetry.rules import ALERTS, RECORDED, rules

ROOT: Final = Path(__file__).resolve().parent.parent
CHART: Final = ROOT / "charts" / "m2r"

NAME: Final = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_QUALIFIED: Final = r"^([a-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$"
_QUANTITY: Final = r"^[0-9]+(\.[0-9]+)?(m|[kMGTPE]i?|Ki)?$"
_QUANTITIES: Final = {
    "type": "object",
    "additionalProperties": {"type": ["string", "integer"], "pattern": _QUANTITY},
}

# What `# @schema NAME` stands for.
TYPES: Final[dict[str, dict[str, Any]]] = {
    "stringMap": {
        # Not `propertyNames`: helm then names another value than the wrong one.
        "patternProperties": {_QUALIFIED: {"type": "string", "maxLength": 4096}},
        "additionalProperties": False,
    },
    "object": {"additionalProperties": True},
    "objects": {"items": {"type": "object"}, "maxItems": 64},
    "names": {
        "items": {"type": "string", "pattern": NAME, "maxLength": 253},
        "uniqueItems": True,
        "maxItems": 256,
    },
    "objectName": {"pattern": NAME[:1] + "(" + NAME[1:-1] + ")?$", "maxLength": 253},
    "registry": {"pattern": r"^([A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9._/-]+)?)?$", "maxLength": 255},
    "repository": {"pattern": r"^[a-z0-9]+([._/-]+[a-z0-9]+)*$", "maxLength": 255},
    "tag": {"pattern": r"^([A-Za-z0-9_][A-Za-z0-9._-]*)?$", "maxLength": 128},
    "digest": {"pattern": r"^(sha256:[0-9a-f]{64})?$"},
    "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "port": {"minimum": 1, "maximum": 65535},
    "ports": {
        "items": {"type": "integer", "minimum": 1, "maximum": 65535},
        "minItems": 1,
        "uniqueItems": True,
    },
    "cidrs": {"items": {"type": "string", "pattern": r"^[0-9a-fA-F.:]+/[0-9]{1,3}$"}},
    "duration": {"pattern": r"^[1-9][0-9]*(ms|s|m|h)$"},
    "quantity": {"pattern": _QUANTITY},
    "resources": {
        "properties": {"requests": _QUANTITIES, "limits": _QUANTITIES},
        "additionalProperties": False,
    },
}
_JSON_TYPES: Final = {bool: "boolean", int: "integer", float: "number", str: "string"}
_KEY: Final = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z][A-Za-z0-9]*):(?P<rest>.*)$")


class ChartError(ValueError):
    """One line: what in the chart's sources is wrong, and where."""


@dataclass(frozen=True)
class Value:
    """A documented key of values.yaml."""

    path: tuple[str, ...]
    text: str
    narrowed: dict[str, Any]


def documented(source: str) -> Iterator[Value]:
    """Each key of values.yaml with the comment right above it, in the order of the file.

    Keys inside a value of a type that is declared as a whole (``resources``, maps) have none.
    """
    comment: list[str] = []
    path: list[str] = []
    for line in source.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            comment.append(stripped[1:].strip())
            continue
        found = _KEY.match(line)
        if found and comment:
            del path[len(found["indent"]) // 2 :]
            path.append(found["key"])
            yield _value(tuple(path), comment)
        comment = []


def _value(path: tuple[str, ...], comment: list[str]) -> Value:
    text = " ".join(line for line in comment if not line.startswith("@schema"))
    given = [line.removeprefix("@schema").strip() for line in comment if line.startswith("@schema")]
    if not text or len(given) > 1:
        raise ChartError(f"values.yaml: {'.'.join(path)}: write one comment, at most one @schema")
    if not given:
        return Value(path, text, {})
    narrowed = TYPES.get(given[0]) if re.fullmatch(r"\w+", given[0]) else yaml.safe_load(given[0])
    if not isinstance(narrowed, dict):
        raise ChartError(f"values.yaml: {'.'.join(path)}: no type `{given[0]}` in tools/chart.py")
    return Value(path, text, narrowed)


def schema(source: str) -> dict[str, Any]:
    """The JSON Schema of values.yaml. Raises ChartError for a key without a comment or a type."""
    known = {value.path: value for value in documented(source)}
    root = Value((), "Values of the chart m2r.", {})
    result = _schema(yaml.safe_load(source), root, known)
    return {"$schema": "http://json-schema.org/draft-07/schema#", **result}


def _schema(default: Any, value: Value, known: dict[tuple[str, ...], Value]) -> dict[str, Any]:
    result: dict[str, Any] = {"description": value.text}
    if isinstance(default, dict):
        result |= {"type": "object", "additionalProperties": False}
        if not {"properties", "patternProperties"} & set(value.narrowed) and default:
            result["properties"] = {
                key: _schema(below, _find((*value.path, key), known), known)
                for key, below in default.items()
            }
    elif isinstance(default, list):
        result["type"] = "array"
    elif default is not None:
        result["type"] = _JSON_TYPES[type(default)]
    result |= value.narrowed
    _check_complete(default, value, result)
    return result


def _find(path: tuple[str, ...], known: dict[tuple[str, ...], Value]) -> Value:
    if path not in known:
        raise ChartError(f"values.yaml: {'.'.join(path)}: write a comment above it")
    return known[path]


def _check_complete(default: Any, value: Value, result: dict[str, Any]) -> None:
    vague = (
        (default is None and "type" not in value.narrowed)
        or (default == {} and not value.narrowed)
        or (isinstance(default, list) and "items" not in result)
    )
    if vague:
        raise ChartError(f"values.yaml: {'.'.join(value.path)}: say its type by `# @schema`")


def table(source: str) -> str:
    """The values as a table in Markdown: each leaf with its default and its comment."""
    values = yaml.safe_load(source)
    rows = ["| value | default | meaning |", "| --- | --- | --- |"]
    known = list(documented(source))
    parents = {value.path[:-1] for value in known}
    for value in known:
        default = values
        for key in value.path:
            default = default[key]
        text = value.text.replace("|", r"\|")
        shown = "" if value.path in parents else f"`{json.dumps(default)}`"
        rows.append(f"| `{'.'.join(value.path)}` | {shown} | {text} |")
    return "\n".join(rows) + "\n"


def crd_template(source: str) -> str:
    """The template of one CRD: its text as it is, with a condition and Helm's metadata.

    Raises ChartError for text that Helm would take for a template's action.
    """
    header, mark, body = source.partition("apiVersion: apiextensions.k8s.io/v1\n")
    start = re.match(r"(kind: CustomResourceDefinition\nmetadata:\n  name: \S+\n)(?=\S)", body)
    if not mark or start is None or "{{" in source:
        raise ChartError(f"crds/: {header.strip()[:60]!r}: not as `m2r crds` writes it")
    metadata = (
        "  labels:\n"
        '    {{- include "m2r.labels" . | nindent 4 }}\n'
        "  {{- if .Values.crds.keep }}\n"
        "  annotations:\n"
        "    helm.sh/resource-policy: keep\n"
        "  {{- end }}\n"
    )
    note = "{{- /* Generated by `make chart` from crds/: do not edit. */}}\n"
    text = note + "{{- if .Values.crds.enabled }}\n" + mark + start[1] + metadata
    return text + body[start.end() :] + "{{- end }}\n"


def rules_file() -> str:
    """The alerts as a Prometheus rules file, made from m2r_train/telemetry/rules.py."""
    note = "# Made from m2r_train/telemetry/rules.py by `make chart`: do not edit.\n"
    return note + yaml.safe_dump(rules(), sort_keys=False, width=120)


METRICS_HEAD: Final = """\
<!-- Made by `make chart` from m2r_train/telemetry and m2r_operator/metrics.py: do not edit. -->
# Metrics

Every pod of a run answers `GET /metrics` at port 9400, the operator at the port `metrics.port` of
the chart. Which run a series belongs to comes from the scrape: the chart's PodMonitor adds
`namespace`, `run_kind`, `run` and `index`. Of processes that train together the first tells of the
run.

"""


def metrics_page() -> str:
    """All series, those that the rules record, and the alerts, in Markdown."""
    recorded = [
        f"| `{one.name}` | `{one.expression.replace('|', chr(92) + '|')}` |" for one in RECORDED
    ]
    alerts = [
        f"| [{one.name}](runbook.md#{one.name.lower()}) | {one.severity} | {one.summary} |"
        for one in ALERTS
    ]
    parts = (
        ("A run", markdown_table()),
        ("The operator", markdown_table(OPERATOR_SERIES)),
        ("Recorded by the rules", _table("| series | expression |", recorded)),
        ("Alerts", _table("| alert | severity | meaning |", alerts)),
    )
    return METRICS_HEAD + "\n".join(f"## {title}\n\n{text}" for title, text in parts)


def _table(head: str, rows: list[str]) -> str:
    rule = "|" + "---|" * (head.count("|") - 1)
    return "\n".join((head, rule, *rows)) + "\n"


def project_version() -> str:
    """The version in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def generated() -> dict[Path, str]:
    """Every generated file of the chart and what it should contain."""
    values = (CHART / "values.yaml").read_text()
    head = (CHART / "README.head.md").read_text()
    about = (CHART / "Chart.yaml").read_text()
    version = project_version()
    files = {
        CHART / "values.schema.json": json.dumps(schema(values), indent=2) + "\n",
        CHART / "README.md": head + "\n" + table(values),
        CHART / "Chart.yaml": re.sub(
            r"^(version|appVersion): .*$", rf'\1: "{version}"', about, flags=re.MULTILINE
        ),
    }
    files[CHART / "rules.yaml"] = rules_file()
    files[ROOT / "docs" / "metrics.md"] = metrics_page()
    for crd in sorted((ROOT / "crds").glob("*.yaml")):
        files[CHART / "templates" / "crds" / crd.name] = crd_template(crd.read_text())
    return files


def stale() -> list[Path]:
    """Generated files that are missing, different, or left over."""
    files = generated()
    wrong = [path for path, text in files.items() if not path.is_file() or path.read_text() != text]
    left = set((CHART / "templates" / "crds").glob("*")) - set(files)
    return sorted([*wrong, *left])


def write() -> None:
    """Brings every generated file up to date."""
    files = generated()
    for path in stale():
        if path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path])
        else:
            path.unlink()
        print(f"chart: {path.relative_to(ROOT)}")


def main(arguments: list[str]) -> int:
    """The command line: see the module's docstring."""
    try:
        if arguments == ["write"]:
            write()
            return 0
        if arguments == ["check"]:
            wrong = stale()
            for path in wrong:
                shown = path.relative_to(ROOT)
                print(f"chart: {shown} is stale: run `make chart`", file=sys.stderr)
            return 1 if wrong else 0
    except ChartError as error:
        print(f"chart: {error}", file=sys.stderr)
        return 1
    print("usage: python tools/chart.py write|check", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
