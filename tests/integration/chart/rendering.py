"""Renders charts/m2r with a real helm, and finds things in what comes out."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gotools
import yaml

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts" / "m2r"
NAMESPACE = "m2r-system"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the definitions: a second in Python
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

Values = dict[str, Any]
Manifest = dict[str, Any]

# One value set for each way of installing that the documentation shows, and each toggle at least
# once on and once off.
ALL: Values = {
    "global": {"imageRegistry": "registry.example.com:5000", "imagePullSecrets": ["pull"]},
    "replicas": 3,
    "nodeSelector": {"pool": "system"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "preference": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}
    ]}},
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
                                   "whenUnsatisfiable": "DoNotSchedule"}],
    "priorityClassName": "system-cluster-critical",
    "podAnnotations": {"example.com/note": "yes"},
    "podLabels": {"team": "ml"},
    "serviceAccount": {"annotations": {"example.com/role": "operator"}},
    "trainer": {"image": {"digest": "sha256:" + "a" * 64, "pullPolicy": "Always"},
                "serviceAccounts": ["trainer"]},
    "metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "prom"}},
                "podMonitor": {"enabled": True, "labels": {"release": "prom"}},
                "prometheusRule": {"enabled": True, "namespace": "monitoring",
                                   "labels": {"release": "prom"}}},
    "dashboards": {"enabled": True, "namespace": "monitoring"},
    "networkPolicy": {"operator": {"apiServerCidrs": ["10.0.0.1/32"]},
                      "trainer": {"enabled": True, "namespaces": ["team-a", "team-b"]}},
    "admission": {"enabled": True, "actions": ["Deny", "Audit"], "maxGpus": 16,
                  "imagePrefixes": ["registry.example.com/"], "serviceAccounts": ["trainer"],
                  "storagePrefixes": ["s3://lab/{namespace}/"],
                  "namespaceLabels": {"m2r": "tenant"}},
    "s3": {"enabled": True, "namespaces": ["team-a"]},
}  # fmt: skip
MATRIX: dict[str, Values] = {
    "defaults": {},
    "everything": ALL,
    "namespaced": {"watchNamespaces": ["team-a", "team-b"]},
    "namespaced, everything": {
        **ALL, "watchNamespaces": ["team-a"], "networkPolicy": {"trainer": {"enabled": True}},
    },
    "one replica": {"replicas": 1},
    "no rights, no account": {
        "rbac": {"create": False}, "serviceAccount": {"create": False, "name": "mine"},
    },
    "default account": {"serviceAccount": {"create": False}},
    "no CRDs": {"crds": {"enabled": False}},
    "CRDs that go": {"crds": {"keep": False}},
    "bare": {
        "crds": {"enabled": False}, "rbac": {"userRoles": False}, "replicas": 1,
        "networkPolicy": {"operator": {"enabled": False}}, "resources": {},
    },
    "store with keys": {
        "storage": {"uri": "s3://lab/runs", "endpoint": "https://s3.example.com",
                    "region": "eu-central-1", "secretName": "lab-s3"},
    },
    "store with identity": {
        "storage": {"uri": "s3://lab/runs"}, "trainer": {"serviceAccounts": ["trainer"]},
    },
    "S3 in memory, own keys": {
        "s3": {"enabled": True, "persistence": {"enabled": False},
               "credentials": {"accessKey": "CANARYKEY", "secretKey": "canary/secret+1"}},
    },
    "S3 with a Secret of the user": {
        "s3": {"enabled": True, "existingSecret": "mine", "bucket": "first-try",
               "persistence": {"storageClassName": "fast", "size": "1Gi"}},
    },
    "names": {"fullnameOverride": "training", "image": {"tag": "1.2.3", "registry": "r.example"}},
    "air gap": {"global": {"imageRegistry": "registry.internal/m2r"}, "s3": {"enabled": True}},
}  # fmt: skip


class HelmError(Exception):
    """What helm said on stderr."""


@dataclass(frozen=True)
class Helm:
    """A helm binary, by its name in ``gotools.TOOLS``."""

    tool: str

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Runs helm; returns stdout, raises HelmError with stderr."""
        command = [str(gotools.build(self.tool)), *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise HelmError(done.stderr)
        return done.stdout

    def render(self, values: Values, *, release: str = "m2r", chart: Path = CHART) -> str:
        """The manifests of a release as text; the same question is asked once."""
        return _render(self, json.dumps(values), release, chart)

    def objects(self, values: Values, *, release: str = "m2r") -> list[Manifest]:
        """The manifests of a release, which all who ask share: change a copy."""
        return _objects(self, json.dumps(values), release)


@functools.cache
def _render(helm: Helm, values: str, release: str, chart: Path) -> str:
    return helm.run(
        "template", release, str(chart), "--namespace", NAMESPACE,
        "--kube-version", gotools.KUBERNETES, "--values", "-", stdin=values,
    )  # fmt: skip


@functools.cache
def _objects(helm: Helm, values: str, release: str) -> list[Manifest]:
    return parse(_render(helm, values, release, CHART))


def parse(text: str) -> list[Manifest]:
    """The objects in a stream of YAML."""
    return [document for document in yaml.load_all(text, LOADER) if document]


def keys(objects: list[Manifest]) -> list[tuple[str, str, str]]:
    """Kind, namespace (empty: none given) and name of each object."""
    return [(o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]) for o in objects]


def of(objects: list[Manifest], kind: str) -> dict[str, Manifest]:
    """The objects of a kind, by ``name`` or ``namespace/name`` outside the release's namespace."""
    found = {}
    for item in objects:
        if item["kind"] == kind:
            namespace = item["metadata"].get("namespace", NAMESPACE)
            prefix = "" if namespace == NAMESPACE else f"{namespace}/"
            found[prefix + item["metadata"]["name"]] = item
    return found


def pods(objects: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Name and pod spec of each workload."""
    for name, item in of(objects, "Deployment").items():
        yield name, item["spec"]["template"]["spec"]


def environment(objects: list[Manifest], deployment: str = "m2r-operator") -> dict[str, str]:
    """The operator's environment."""
    (container,) = of(objects, "Deployment")[deployment]["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry["value"] for entry in container["env"]}
