"""JSON Schemas for kubeconform, from the sources of Kubernetes and of the Prometheus operator.

kubeconform's own default is a web page. The modules carry the same: the API server's swagger, and
the monitors' CustomResourceDefinitions. They come through the Go module proxy, checked by its
checksum database, and stay in the module cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import gotools
import yaml
from integration.chart.rendering import LOADER

PROMETHEUS_OPERATOR: Final = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
MONITORING: Final = ("podmonitors", "servicemonitors", "prometheusrules")  # of its kinds
KUBERNETES: Final = f"k8s.io/kubernetes@v{gotools.KUBERNETES}"
TEMPLATE: Final = "{{ .ResourceKind }}{{ .KindSuffix }}.json"
_BOTH: Final = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
}

Schema = dict[str, Any]


def module(name: str) -> Path:
    """The folder of a Go module (``PATH@VERSION``) in the module cache."""
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            [str(gotools.go()), "mod", "download", "-json", name],
            cwd=empty,
            env={**os.environ, "GOWORK": "off", "GOFLAGS": "-mod=mod"},
            capture_output=True,
            text=True,
            check=False,
        )
    told = json.loads(done.stdout or "{}")
    if "Dir" not in told:
        raise RuntimeError(f"go mod download {name}: {told.get('Error') or done.stderr}")
    return Path(told["Dir"])


def write(folder: Path) -> None:
    """One file a kind, named as ``TEMPLATE`` says."""
    for name, schema in (*_builtin(), *_monitors()):
        (folder / name).write_text(json.dumps(schema))


def _builtin() -> Iterator[tuple[str, Schema]]:
    path = module(KUBERNETES) / "api" / "openapi-spec" / "swagger.json"
    definitions: Schema = json.loads(path.read_text())["definitions"] | _BOTH
    for definition in list(definitions.values()):
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            if "metadata" in definition.get("properties", {}):
                used = dict(_closure(definition, definitions))
                top = {**strict(definition), "definitions": used}
                yield _file(kind["group"], kind["version"], kind["kind"]), top


def _monitors() -> Iterator[tuple[str, Schema]]:
    folder = module(PROMETHEUS_OPERATOR) / "example" / "prometheus-operator-crd"
    for plural in MONITORING:
        text = (folder / f"monitoring.coreos.com_{plural}.yaml").read_text()
        crd = yaml.load(text, LOADER)
        for version in crd["spec"]["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            yield _file(crd["spec"]["group"], version["name"], crd["spec"]["names"]["kind"]), schema


def _file(group: str, version: str, kind: str) -> str:
    middle = f"-{group.partition('.')[0]}" if group else ""
    return f"{kind}{middle}-{version}.json".lower()


def _closure(top: Schema, definitions: Schema) -> Iterator[tuple[str, Schema]]:
    """Every definition that ``top`` refers to, directly or not."""
    seen: set[str] = set()
    open_ = [top]
    while open_:
        for reference in references(open_.pop()):
            name = reference.rpartition("/")[2]
            if name not in seen:
                seen.add(name)
                open_.append(definitions[name])
                yield name, strict(definitions[name])


def references(node: Any) -> Iterator[str]:
    """Each ``$ref`` below ``node``."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for below in node.values():
            yield from references(below)
    elif isinstance(node, list):
        for below in node:
            yield from references(below)


def strict(node: Any) -> Any:
    """The same schema, but an object with named properties has no others."""
    if isinstance(node, list):
        return [strict(below) for below in node]
    if not isinstance(node, dict):
        return node
    result = {key: strict(below) for key, below in node.items()}
    named = isinstance(node.get("properties"), dict) and isinstance(node.get("type"), str)
    if named and "additionalProperties" not in node:
        result["additionalProperties"] = False
    return result
