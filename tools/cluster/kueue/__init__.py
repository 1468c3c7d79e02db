"""The real Kueue on a cluster of ours: built from its Go module, run as its own Deployment.

::

    from cluster import up
    from cluster.kueue import Kueue, running

    with running(up()) as kueue:                  # installed and answering; removed at the end
        kueue.restart(external=("RLVRJob.v1alpha1.m2r.dev",))

Its manifests come from the sources of the same module version (``manifests.py`` says what is
changed), its webhooks and RBAC are its own, and removal leaves no CRD, webhook or namespace, so
that what runs afterwards is truly without Kueue. On a cluster that is not ours (``KUBECONFIG``)
nothing is installed: a Kueue that is there is used, and one that is missing is an error.
"""

from __future__ import annotations

import base64
import contextlib
import json
import platform
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gotools
import yaml
from setup_env import SetupError

from cluster.cluster import Cluster
from cluster.errors import ClusterError
from cluster.images import write_archive
from cluster.kueue.manifests import (
    DEPLOYMENT,
    NAMESPACE,
    SERVICE,
    Manifest,
    adapted,
    configuration,
    configured,
)
from cluster.parts import command, say, tool

MODULE = "sigs.k8s.io/kueue"
IMAGE = f"m2r.dev/kueue:{gotools.TOOLS['kueue'].version}"
GROUP = "kueue.x-k8s.io"
# Instances are deleted while Kueue runs, for their finalizers are its own.
INSTANCES = (
    "workloads",
    "localqueues",
    "clusterqueues",
    "cohorts",
    "admissionchecks",
    "resourceflavors",
    "topologies",
    "workloadpriorityclasses",
)
READY_SECONDS = 120


def installed(cluster: Cluster) -> bool:
    """Whether the cluster knows Kueue's API."""
    return cluster.try_get("crd", f"workloads.{GROUP}") is not None


@contextlib.contextmanager
def running(cluster: Cluster) -> Iterator[Kueue]:
    """Kueue, ready; removed at the end where this call installed it."""
    kueue = Kueue(cluster)
    if installed(cluster) and not cluster.owned:
        yield kueue
        return
    if not cluster.owned:
        raise ClusterError(
            "KUBECONFIG names a cluster without Kueue: install Kueue there, or unset KUBECONFIG"
        )
    kueue.install()
    try:
        yield kueue
    finally:
        kueue.remove()


class Kueue:
    """Kueue on one cluster of ours; every method is idempotent."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._documents: list[Manifest] | None = None

    def install(self) -> None:
        """Installs it and waits until its webhooks answer; raises ``ClusterError``."""
        if IMAGE not in self.cluster.images():
            with TemporaryDirectory(prefix="m2r-kueue-") as folder:
                archive = Path(folder) / "kueue.tar"
                write_archive(archive, IMAGE, tool("kueue"), platform.machine())
                self.cluster.import_image(archive)
        documents = self._manifests()
        self._apply([d for d in documents if d["kind"] in _FIRST])
        self._apply([d for d in documents if d["kind"] not in _FIRST])
        self.wait_ready()

    def restart(self, *, external: Iterable[str] = ()) -> None:
        """Restarts it with other ``externalFrameworks`` (``Kind.version.group``)."""
        [old] = [d for d in self._manifests() if d["kind"] == "ConfigMap"]
        self._apply([configured(old, configuration(external=external))])
        self.stop()
        self.start()

    def stop(self) -> None:
        """Stops its process; its webhooks then refuse what they guard, as in real life."""
        self._scale(0)
        selector = "control-plane=controller-manager"
        self.cluster.wait(
            "Kueue's pod is gone",
            lambda: not self.cluster.get("pods", namespace=NAMESPACE, selector=selector)["items"],
        )

    def start(self) -> None:
        """Starts it again and waits until its webhooks answer."""
        self._scale(1)
        self.wait_ready()

    def wait_ready(self) -> None:
        """Waits until the Deployment is available and a webhook has answered."""
        available = ("--for=condition=Available", f"deployment/{DEPLOYMENT}")
        self.cluster.kubectl(
            *("wait", *available, f"--timeout={READY_SECONDS}s"),
            namespace=NAMESPACE,
            seconds=READY_SECONDS + 10,
        )
        self.cluster.wait("Kueue's webhooks answer", self._answers, seconds=60)

    def log(self) -> str:
        """What its process has written."""
        return self.cluster.kubectl(
            "logs", f"deployment/{DEPLOYMENT}", "--tail=-1", namespace=NAMESPACE
        )

    def remove(self) -> None:
        """Removes every object of it and of its kinds; ``ClusterError`` if something stays."""
        if installed(self.cluster):
            self._delete_instances()
        documents = self._manifests()
        for kinds in (_WEBHOOKS, None):  # webhooks first: without their server they refuse
            some = [d for d in documents if kinds is None or d["kind"] in kinds]
            self.cluster.kubectl(
                *("delete", "-f", "-", "--ignore-not-found", "--wait=true"),
                stdin=_text(some),
                seconds=120,
            )
        if installed(self.cluster):
            raise ClusterError(f"Kueue's CRDs are still there: see kubectl get crd | grep {GROUP}")

    def _delete_instances(self) -> None:
        names = ",".join(f"{resource}.{GROUP}" for resource in INSTANCES)
        everywhere = (names, "--all-namespaces")
        self.cluster.kubectl(
            *("delete", *everywhere, "--all", "--wait=true", "--timeout=20s"), check=False
        )
        left = self.cluster.kubectl("get", *everywhere, "-o", "json")
        for item in json.loads(left)["items"]:  # Kueue is stopped or stuck
            meta = item["metadata"]
            patch = ("--type=merge", "-p", '{"metadata":{"finalizers":null}}')
            self.cluster.kubectl(
                *("patch", f"{item['kind'].lower()}.{GROUP}", meta["name"], *patch),
                namespace=meta.get("namespace"),
                check=False,
            )

    def _answers(self) -> bool:
        """Whether a flavor passes the webhooks; nothing is stored."""
        flavor = {
            "apiVersion": f"{GROUP}/v1beta2",
            "kind": "ResourceFlavor",
            "metadata": {"name": "is-kueue-ready"},
        }
        self.cluster.kubectl("create", "--dry-run=server", "-f", "-", stdin=_text([flavor]))
        return True

    def _scale(self, replicas: int) -> None:
        self.cluster.kubectl(
            "scale", f"deployment/{DEPLOYMENT}", f"--replicas={replicas}", namespace=NAMESPACE
        )

    def _apply(self, documents: list[Manifest]) -> None:
        self.cluster.apply(*documents)

    def _manifests(self) -> list[Manifest]:
        if self._documents is None:
            say("rendering Kueue's manifests")
            text = self.cluster.kubectl("kustomize", str(_sources() / "config" / "default"))
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # 1.7 MB: seconds in Python
            rendered = [d for d in yaml.load_all(text, loader) if d]
            certificate, key = _certificate()
            data = {"tls.crt": certificate, "tls.key": key, "ca.crt": certificate}
            documents = adapted(rendered, image=IMAGE, certificate=data, ca=certificate)
            self._documents = [
                configured(d, configuration()) if d["kind"] == "ConfigMap" else d for d in documents
            ]
        return self._documents


_FIRST = ("Namespace", "CustomResourceDefinition")
_WEBHOOKS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


def _sources() -> Path:
    """The folder of Kueue's sources in Go's module cache (checked against ``go.sum``)."""
    folder = gotools.ROOT / gotools.TOOLS["kueue"].folder
    try:
        go = str(gotools.go())
    except SetupError as error:
        raise ClusterError(str(error)) from error
    done = subprocess.run(
        [go, "mod", "download", "-json", MODULE],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ClusterError(f"the sources of {MODULE} are missing: {done.stderr.strip()[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return Path(found["Dir"])


def _certificate() -> tuple[str, str]:
    """A certificate for the webhooks, which is its own authority, and its key; both base64."""
    with TemporaryDirectory(prefix="m2r-kueue-") as folder:
        files = ("-keyout", "key.pem", "-out", "cert.pem")
        done = subprocess.run(
            [
                *(str(command("openssl")), "req", "-x509", "-nodes", "-days", "30"),
                *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
                *("-subj", "/CN=m2r-kueue", "-addext", f"subjectAltName=DNS:{SERVICE}", *files),
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ClusterError(f"openssl req failed: {done.stderr.strip()}")
        certificate, key = ((Path(folder) / f).read_bytes() for f in ("cert.pem", "key.pem"))
    return base64.b64encode(certificate).decode(), base64.b64encode(key).decode()


def _text(documents: list[Manifest]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
