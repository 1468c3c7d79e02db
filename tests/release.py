"""Releases of the chart on a real cluster: install, upgrade, uninstall, and what they may do."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import tarfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import chart
import gotools
import yaml
from cluster import Cluster
from cluster.images import write_archive
from integration.chart.rendering import DUMPER, LOADER

from images import build
from m2r_operator import names
from m2r_train.api import GROUP

ROOT: Final = Path(__file__).parents[1]
CHART: Final = ROOT / "charts" / "m2r"
CRDS: Final = tuple(f"{plural}.{GROUP}" for plural in sorted(names.PLURALS.values()))
SMALL: Final = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}
S3_IMAGE: Final = "ghcr.io/versity/versitygw:v1.8.0"
OLD: Final = "0.0.9"
NEW_FIELD: Final = "watchdog"  # the made-up former release does not have it yet

Manifest = dict[str, Any]
Access = tuple[str, str, str]  # group, resource or resource/subresource, verb


@dataclass(frozen=True)
class Release:
    """A release by one of the helms (a name in ``gotools.TOOLS``)."""

    cluster: Cluster
    namespace: str
    home: Path
    tool: str = "helm"
    name: str = "m2r"

    @property
    def operator(self) -> str:
        """The name of the Deployment, its account and its lease."""
        prefix = self.name if "m2r" in self.name else f"{self.name}-m2r"
        return f"{prefix}-operator"

    @property
    def user(self) -> str:
        """Who the operator is for the API server."""
        return f"system:serviceaccount:{self.namespace}:{self.operator}"

    def helm(self, *arguments: str, values: Mapping[str, Any] | None = None) -> str:
        """Runs helm in the release's namespace; AssertionError with what it says if it fails."""
        given = ["--values", "-"] if values is not None else []
        command = [str(gotools.build(self.tool)), *arguments, *given, "--namespace", self.namespace]
        done = subprocess.run(
            command,
            input=json.dumps(values) if values is not None else None,
            env={**os.environ, **environment(self.cluster, self.home)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def install(self, values: Mapping[str, Any], *more: str, source: Path = CHART) -> str:
        """``helm install``."""
        return self.helm("install", self.name, str(source), *more, values=values)

    def upgrade(self, values: Mapping[str, Any], *more: str, source: Path = CHART) -> str:
        """``helm upgrade``."""
        return self.helm("upgrade", self.name, str(source), *more, values=values)

    def uninstall(self) -> str:
        """``helm uninstall``, waits until all is gone."""
        return self.helm("uninstall", self.name, "--wait", "--ignore-not-found")

    def ready(self, deployment: str | None = None, *, seconds: int = 180) -> None:
        """Waits until every replica runs the newest version and is ready."""
        self.cluster.kubectl(
            "rollout", "status", f"deployment/{deployment or self.operator}",
            f"--timeout={seconds}s", namespace=self.namespace, seconds=seconds + 10,
        )  # fmt: skip

    def objects(self) -> list[str]:
        """Whatever of the release is in the cluster, as ``kind/name``."""
        kinds = ",".join((*EVERYTHING, "customresourcedefinitions"))
        selector = f"app.kubernetes.io/instance={self.name},app.kubernetes.io/managed-by=Helm"
        found = []
        for scope in (("--all-namespaces",), ()):
            text = self.cluster.kubectl("get", kinds, "-l", selector, "-o", "json", *scope)
            found += [
                f"{item['kind']}/{item['metadata']['name']}" for item in json.loads(text)["items"]
            ]
        return sorted(set(found))


EVERYTHING: Final = (
    "deployments", "services", "serviceaccounts", "secrets", "persistentvolumeclaims", "roles",
    "rolebindings", "clusterroles", "clusterrolebindings", "poddisruptionbudgets",
    "networkpolicies", "validatingadmissionpolicies", "validatingadmissionpolicybindings",
)  # fmt: skip


def environment(cluster: Cluster, home: Path) -> dict[str, str]:
    """For helm and kubectl: the cluster, and nothing of the user's own settings."""
    folders = {name: str(home / name) for name in ("cache", "config", "data")}
    return {
        "KUBECONFIG": str(cluster.kubeconfig),
        "HELM_CACHE_HOME": folders["cache"],
        "HELM_CONFIG_HOME": folders["config"],
        "HELM_DATA_HOME": folders["data"],
    }


def former_chart(folder: Path, root: Path = ROOT) -> Path:
    """The chart of the last release: of the newest tag in git, else one that is made up.

    The made-up one has another version, and definitions that lack a field.
    """
    git = ["git", "-C", str(root)]
    tag = subprocess.run(
        [*git, "describe", "--tags", "--abbrev=0", "--match", "v*"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if tag.returncode == 0:
        packed = folder / "former.tar"
        command = [*git, "archive", "-o", str(packed), tag.stdout.strip(), "charts/m2r"]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            with tarfile.open(packed) as archive:
                archive.extractall(folder, filter="data")
            return folder / "charts" / "m2r"
    target = folder / "charts" / "m2r"
    shutil.copytree(root / "charts" / "m2r", target)
    about = target / "Chart.yaml"
    about.write_text(about.read_text().replace(f'"{chart.project_version()}"', f'"{OLD}"'))
    for path in (root / "crds").glob("*.yaml"):
        text = without_field(path.read_text(), NEW_FIELD)
        (target / "templates" / "crds" / path.name).write_text(chart.crd_template(text))
    return target


def without_field(crd: str, field: str) -> str:
    """A CRD whose spec does not have ``field``."""
    header, document = crd.splitlines()[0], yaml.load(crd, LOADER)
    for version in document["spec"]["versions"]:
        spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
        del spec["properties"][field]
        assert not any(field in str(rule) for rule in spec["x-kubernetes-validations"])
    return f"{header}\n{yaml.dump(document, Dumper=DUMPER, sort_keys=False)}"


def make_adoptable(cluster: Cluster, release: Release) -> None:
    """Makes the definitions look as if an earlier install of the release had left them.

    Other tests have applied them with kubectl, which then counts as an owner of their fields: an
    upgrade that changes one would be a conflict, as it would not be for people who use Helm alone.
    """
    definitions = []
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        definition = yaml.load(path.read_text(), LOADER)
        definition["metadata"] |= {
            "labels": {"app.kubernetes.io/managed-by": "Helm"},
            "annotations": {
                "meta.helm.sh/release-name": release.name,
                "meta.helm.sh/release-namespace": release.namespace,
            },
        }
        definitions.append(json.dumps(definition))
    command = ("apply", "--server-side", "--force-conflicts", "--field-manager=helm", "-f", "-")
    cluster.kubectl(*command, stdin="\n---\n".join(definitions))
    shown = cluster.kubectl("get", "crd", *CRDS, "-o", "json", "--show-managed-fields")
    for item in json.loads(shown)["items"]:
        fields = item["metadata"]["managedFields"]
        kept = [entry for entry in fields if entry["manager"] in ("helm", "kube-apiserver")]
        patch = json.dumps({"metadata": {"managedFields": kept}})
        name = item["metadata"]["name"]
        cluster.kubectl("patch", "crd", name, "--type=merge", "--patch", patch)
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s",
                    *(f"crd/{name}" for name in CRDS))  # fmt: skip


def restore_crds(cluster: Cluster) -> None:
    """The definitions as they stand in the tree, for the tests that come after."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))


def import_s3_server(cluster: Cluster, folder: Path) -> None:
    """An image of the real S3 server under the name that the chart's values have."""
    archive = folder / "s3.tar"
    write_archive(archive, S3_IMAGE, gotools.build("versitygw"), platform.machine())
    cluster.import_image(archive)


# Runs of a release -------------------------------------------------------------------------------


def values(standin: str, **more: Any) -> dict[str, Any]:
    """Values for a small node on which runs play the stand-in."""
    repository, _, tag = standin.partition(":")
    return {
        "resources": SMALL,
        "image": {"tag": build("operator").short.partition(":")[2]},
        "trainer": {"image": {"repository": repository, "tag": tag}},
        "storage": {"uri": "s3://m2r/runs"},
        "pollSeconds": 1,
        **more,
    }


def phase(cluster: Cluster, namespace: str, name: str) -> str | None:
    """The phase of an SFTJob."""
    status = cluster.get("sftjobs.m2r.dev", name, namespace=namespace).get("status", {})
    found: str | None = status.get("phase")
    return found


def wait_phase(cluster: Cluster, namespace: str, name: str, wanted: str) -> None:
    """Waits for a phase of an SFTJob."""
    cluster.wait(
        f"{name} is {wanted}", lambda: phase(cluster, namespace, name) == wanted,
        seconds=120, namespace=namespace,
    )  # fmt: skip


# What an account has asked for --------------------------------------------------------------------


def accesses(
    events: Iterable[Mapping[str, Any]], user: str, since: datetime | None = None
) -> Iterator[tuple[Access, str, int]]:
    """Each request of ``user`` for an object: what was asked, in which namespace, the answer."""
    for event in events:
        if event["user"].get("username") != user or "objectRef" not in event:
            continue
        if since and datetime.fromisoformat(event["requestReceivedTimestamp"]) < since:
            continue
        what = event["objectRef"]
        resource = "/".join(filter(None, (what.get("resource"), what.get("subresource"))))
        access = (what.get("apiGroup", ""), resource, event["verb"])
        yield access, what.get("namespace", ""), event.get("responseStatus", {}).get("code", 0)


def refused(
    events: Iterable[Mapping[str, Any]], user: str, since: datetime | None = None
) -> Counter[tuple[Access, str]]:
    """Requests that the API server has answered with 401 or 403, by what and where."""
    return Counter(
        (access, namespace)
        for access, namespace, code in accesses(events, user, since)
        if code in (401, 403)
    )


def unused(
    events: Iterable[Mapping[str, Any]],
    user: str,
    granted: Collection[Access],
    since: datetime | None = None,
) -> set[Access]:
    """Rights of ``granted`` that ``user`` has not used once."""
    used = {access for access, _, code in accesses(events, user, since) if code not in (401, 403)}
    return set(granted) - used


def granted(role: Manifest) -> set[Access]:
    """A role's rules, one by one."""
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
