"""Kueue's own manifests, made fit for a test cluster. Pure.

They are rendered from the sources of the very version that is built, so they cannot drift from the
binary and none of their text is kept here. What is changed, and why:

- one image, one replica, no leader election, quick probes: ready in seconds;
- the certificate is given instead of made by Kueue: its own way is a Secret that it fills itself
  and that the kubelet brings back to it up to a minute later;
- the visibility API is off: it needs an aggregation layer, and no run depends on it;
- only webhooks of kinds that Kueue manages here are left: a webhook for all pods and Deployments
  of the cluster would stop everything else the moment that a test stops Kueue.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from copy import deepcopy
from typing import Any, Final

NAMESPACE: Final = "kueue-system"
DEPLOYMENT: Final = "kueue-controller-manager"
ACCOUNT: Final = "kueue-controller-manager"  # the ServiceAccount
SECRET: Final = "kueue-webhook-server-cert"  # its name in Kueue's manifests
SERVICE: Final = f"kueue-webhook-service.{NAMESPACE}.svc"  # what the certificate is for
CONFIG_FILE: Final = "controller_manager_config.yaml"
FRAMEWORKS: Final = ("batch/job",)
WEBHOOKS: Final = ("kueue.x-k8s.io", "batch")  # API groups whose webhooks stay
PROGRAM: Final = "/kueue"  # in our image
METRICS_CERTIFICATE: Final = "/etc/kueue/metrics/certs"  # a constant in Kueue's main.go

Manifest = dict[str, Any]


def configuration(
    *, frameworks: Iterable[str] = FRAMEWORKS, external: Iterable[str] = ()
) -> Manifest:
    """Kueue's configuration: Jobs without a queue are left alone; no certificate management."""
    return {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "health": {"healthProbeBindAddress": ":8081"},
        "metrics": {"bindAddress": ":8443"},
        "webhook": {"port": 9443},
        "leaderElection": {"leaderElect": False},
        "clientConnection": {"qps": 300, "burst": 500},  # as its chart has it
        "manageJobsWithoutQueueName": False,
        "internalCertManagement": {"enable": False},
        "featureGates": {"VisibilityOnDemand": False},
        "integrations": {"frameworks": [*frameworks], "externalFrameworks": [*external]},
    }


def adapted(
    documents: Iterable[Manifest], *, image: str, certificate: dict[str, str], ca: str
) -> list[Manifest]:
    """The manifests to apply, in their order.

    ``certificate`` is the Secret's ``data`` and ``ca`` the authority that signed it (base64, both).
    """
    return [
        _change(deepcopy(document), image, certificate, ca)
        for document in documents
        if document["kind"] != "APIService" and not _is_for_visibility(document)
    ]


def configured(document: Manifest, configuration: Manifest) -> Manifest:
    """The ConfigMap with this configuration."""
    return {**document, "data": {CONFIG_FILE: json.dumps(configuration, indent=1)}}


def _is_for_visibility(document: Manifest) -> bool:
    return "visibility-server" in document["metadata"]["name"]


def _change(document: Manifest, image: str, certificate: dict[str, str], ca: str) -> Manifest:
    kind, name = document["kind"], document["metadata"]["name"]
    if kind == "Deployment":
        _change_pod(document["spec"]["template"]["spec"], image)
    elif kind == "Secret" and name == SECRET:
        document.update(type="kubernetes.io/tls", data=certificate)
    elif kind == "CustomResourceDefinition":
        client = document["spec"].get("conversion", {}).get("webhook", {}).get("clientConfig")
        if client is not None:
            client["caBundle"] = ca
    elif kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        document["webhooks"] = [hook for hook in document["webhooks"] if _is_needed(hook)]
        for hook in document["webhooks"]:
            hook["clientConfig"]["caBundle"] = ca
    return document


def _is_needed(hook: Manifest) -> bool:
    return all(group in WEBHOOKS for rule in hook["rules"] for group in rule["apiGroups"])


def _change_pod(pod: Manifest, image: str) -> None:
    [container] = pod["containers"]
    container.update(image=image, imagePullPolicy="IfNotPresent", command=[PROGRAM])
    container["resources"] = {"requests": {"cpu": "50m", "memory": "128Mi"}}  # the node is small
    container["readinessProbe"].update(initialDelaySeconds=0, periodSeconds=1)
    container["volumeMounts"].append(
        {"name": "cert", "mountPath": METRICS_CERTIFICATE, "readOnly": True}
    )
    pod["securityContext"]["runAsUser"] = 65532
    pod["terminationGracePeriodSeconds"] = 1
