"""Keys, certificates and kubeconfigs, by the ``openssl`` command (3.0 or later).

Each component has an identity of its own, so that RBAC is what decides: Kubernetes takes the common
name for the user and the organisation for the group.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from cluster.errors import ClusterError
from cluster.layout import CLUSTER_DOMAIN, NODE, Layout
from cluster.parts import command

DAYS = "30"
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
# file -> subject; what clients of the API server are
CLIENTS = {
    "admin": "/O=system:masters/CN=m2r-admin",
    "controller-manager": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
    "proxy": "/CN=system:kube-proxy",
    "dns": "/CN=system:coredns",
    "kubelet": f"/O=system:nodes/CN=system:node:{NODE}",
    "apiserver-kubelet": "/CN=kube-apiserver-kubelet-client",
}


def make_pki(layout: Layout) -> None:
    """Writes the authority, one certificate for each identity, and their kubeconfigs."""
    folder = layout.pki("")
    folder.mkdir(parents=True, mode=0o700)
    _openssl(
        folder,
        *("req", "-x509", *CURVE, "-days", DAYS, "-subj", "/CN=m2r-cluster-ca"),
        *("-addext", "basicConstraints=critical,CA:TRUE", "-keyout", "ca.key", "-out", "ca.crt"),
    )
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    names += [f"kubernetes.default.svc.{CLUSTER_DOMAIN}", "localhost", NODE]
    addresses = [layout.node_address, layout.host_address, layout.api_service, "127.0.0.1"]
    alternatives = [f"DNS:{name}" for name in names] + [f"IP:{address}" for address in addresses]
    _certificate(folder, "server", "/CN=m2r-cluster", "serverAuth", ",".join(alternatives))
    for name, subject in CLIENTS.items():
        _certificate(folder, name, subject, "clientAuth")
    # The key that signs tokens of ServiceAccounts, and its public half.
    key = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    name = "service-accounts"
    _openssl(folder, "genpkey", *key, "-out", f"{name}.key")
    _openssl(folder, "pkey", "-in", f"{name}.key", "-pubout", "-out", f"{name}.pub")
    for name in CLIENTS:
        write_kubeconfig(layout, kubeconfig(layout, name), _certificate_user(folder, name))


def kubeconfig(layout: Layout, identity: str) -> Path:
    """Path of the kubeconfig of an identity of ``CLIENTS``."""
    return layout.kubeconfig if identity == "admin" else layout.config(f"{identity}.kubeconfig")


def write_kubeconfig(layout: Layout, path: Path, user: dict[str, str], namespace: str = "") -> None:
    """Writes a kubeconfig (JSON is YAML) for ``user``: a token, or files of a certificate."""
    cluster = {"server": layout.server, "certificate-authority": str(layout.ca)}
    context = {"cluster": "m2r", "user": "m2r", **({"namespace": namespace} if namespace else {})}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "m2r", "cluster": cluster}],
        "users": [{"name": "m2r", "user": user}],
        "contexts": [{"name": "m2r", "context": context}],
        "current-context": "m2r",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=1) + "\n")


def _certificate_user(folder: Path, name: str) -> dict[str, str]:
    return {
        "client-certificate": str(folder / f"{name}.crt"),
        "client-key": str(folder / f"{name}.key"),
    }


def _certificate(folder: Path, name: str, subject: str, usage: str, alternatives: str = "") -> None:
    extensions = ["-addext", f"extendedKeyUsage={usage}", "-addext", "basicConstraints=CA:FALSE"]
    if alternatives:
        extensions += ["-addext", f"subjectAltName={alternatives}"]
    _openssl(
        folder,
        *("req", "-x509", *CURVE, "-CA", "ca.crt", "-CAkey", "ca.key", "-days", DAYS),
        *("-subj", subject, *extensions, "-keyout", f"{name}.key", "-out", f"{name}.crt"),
    )


def _openssl(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [str(command("openssl")), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ClusterError(
            f"openssl {arguments[0]} failed (version 3.0 or later is needed): {done.stderr.strip()}"
        )
