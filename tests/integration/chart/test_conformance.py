"""What the chart makes is what the API of Kubernetes declares, to the last field."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import gotools
import pytest
import yaml
from integration.chart import schemas
from integration.chart.rendering import ALL, DUMPER, Helm, Manifest, Values, parse


@pytest.fixture(scope="session")
def schema_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Strict schemas of all kinds of Kubernetes, and of the two monitors."""
    folder = tmp_path_factory.mktemp("schemas")
    schemas.write(folder)
    return folder


def kubeconform(folder: Path, objects: list[Manifest]) -> list[dict[str, str]]:
    """kubeconform's verdict on each object."""
    done = subprocess.run(
        [
            str(gotools.build("kubeconform")), "-output", "json", "-verbose", "-strict",
            "-schema-location", f"{folder}/{schemas.TEMPLATE}",
        ],
        input=yaml.dump_all(objects, Dumper=DUMPER), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    found: list[dict[str, str]] = json.loads(done.stdout)["resources"]
    return found


def test_every_object_conforms_to_the_schema_of_its_kind(
    helm: Helm, values: Values, schema_folder: Path
) -> None:
    objects = helm.objects(values)
    verdicts = kubeconform(schema_folder, objects)
    assert len(verdicts) == len(objects)
    assert [v for v in verdicts if v["status"] != "statusValid"] == []


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("Deployment", "replicas: 3", "replica: 3"),
        ("Deployment", "runAsNonRoot: true", "runAsNonRoot: 'true'"),
        ("Deployment", "readOnlyRootFilesystem", "readOnlyRootFileSystem"),
        ("PodMonitor", "podMetricsEndpoints", "podMetricEndpoints"),
        ("ServiceMonitor", "honorLabels: true", "honorLabels: 1"),
        ("PrometheusRule", "for: 5m", "for: soon"),
        ("NetworkPolicy", "policyTypes", "policyType"),
        ("ValidatingAdmissionPolicy", "validations:", "validation:"),
        ("ClusterRole", "verbs:", "verb:"),
    ],
)
def test_a_misspelt_field_or_wrong_type_would_be_found(
    schema_folder: Path, kind: str, old: str, new: str
) -> None:
    objects = [o for o in Helm("helm").objects(ALL) if o["kind"] == kind]
    text: str = yaml.dump_all(objects, Dumper=DUMPER)
    assert old in text
    verdicts = kubeconform(schema_folder, parse(text.replace(old, new)))
    assert "statusInvalid" in {verdict["status"] for verdict in verdicts}
