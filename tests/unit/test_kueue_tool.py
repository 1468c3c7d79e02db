"""What is changed in Kueue's manifests before they are applied to a test cluster."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cluster import Cluster, ClusterError, kueue
from cluster.kueue.manifests import adapted, configuration, configured

CERTIFICATE = {"tls.crt": "Q0VSVA==", "tls.key": "S0VZ"}


def a(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name}, **fields}


def hook(name: str, group: str) -> dict[str, Any]:
    service = {"name": "kueue-webhook-service", "path": f"/{name}"}
    rules = [{"apiGroups": [group], "resources": [name], "operations": ["CREATE"]}]
    return {"name": name, "clientConfig": {"service": service}, "rules": rules}


def deployment() -> dict[str, Any]:
    container = {
        "name": "manager",
        "image": "registry.example/kueue:main",
        "imagePullPolicy": "Always",
        "command": ["/manager"],
        "args": ["--config=/x.yaml"],
        "resources": {"requests": {"cpu": "500m"}},
        "readinessProbe": {"periodSeconds": 10, "initialDelaySeconds": 5},
        "volumeMounts": [{"name": "cert", "mountPath": "/certs"}],
    }
    pod = {"containers": [container], "securityContext": {"runAsNonRoot": True}, "volumes": []}
    return a("Deployment", "kueue-controller-manager", spec={"template": {"spec": pod}})


def change(*documents: dict[str, Any]) -> list[dict[str, Any]]:
    return adapted(documents, image="m2r.dev/kueue:1", certificate=CERTIFICATE, ca="Q0E=")


def test_the_program_is_ours_and_its_arguments_are_kueues() -> None:
    [changed] = change(deployment())
    [container] = changed["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["imagePullPolicy"]) == ("m2r.dev/kueue:1", "IfNotPresent")
    assert (container["command"], container["args"]) == (["/kueue"], ["--config=/x.yaml"])
    assert container["resources"]["requests"]["cpu"] == "50m"
    assert {m["mountPath"] for m in container["volumeMounts"]} == {
        "/certs",
        "/etc/kueue/metrics/certs",
    }


def test_webhooks_of_kinds_that_kueue_does_not_manage_here_are_left_out() -> None:
    hooks = [hook("jobs", "batch"), hook("pods", ""), hook("clusterqueues", "kueue.x-k8s.io")]
    [changed] = change(a("MutatingWebhookConfiguration", "kueue-mutating", webhooks=hooks))
    assert [h["name"] for h in changed["webhooks"]] == ["jobs", "clusterqueues"]
    assert all(h["clientConfig"]["caBundle"] == "Q0E=" for h in changed["webhooks"])


def test_conversion_webhooks_trust_the_same_authority() -> None:
    client = {"service": {"name": "kueue-webhook-service"}}
    with_webhook = {"conversion": {"strategy": "Webhook", "webhook": {"clientConfig": client}}}
    changed, plain = change(
        a("CustomResourceDefinition", "workloads", spec=with_webhook),
        a("CustomResourceDefinition", "topologies", spec={}),
    )
    assert changed["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"] == "Q0E="
    assert plain["spec"] == {}


def test_the_certificate_is_given_and_the_visibility_api_left_out() -> None:
    [secret] = change(
        a("Secret", "kueue-webhook-server-cert"),
        a("APIService", "v1beta2.visibility.kueue.x-k8s.io"),
        a("Service", "kueue-visibility-server"),
    )
    assert (secret["type"], secret["data"]) == ("kubernetes.io/tls", CERTIFICATE)


def test_what_was_read_is_not_changed() -> None:
    original = deployment()
    change(original)
    assert original == deployment()


def test_the_configuration_leaves_jobs_without_a_queue_alone() -> None:
    config = configuration(external=["RLVRJob.v1alpha1.m2r.dev"])
    assert config["manageJobsWithoutQueueName"] is False
    assert config["integrations"] == {
        "frameworks": ["batch/job"],
        "externalFrameworks": ["RLVRJob.v1alpha1.m2r.dev"],
    }
    changed = configured(a("ConfigMap", "kueue-manager-config", data={"old": "x"}), config)
    assert json.loads(changed["data"]["controller_manager_config.yaml"]) == config
    assert changed["data"].keys() == {"controller_manager_config.yaml"}


class Foreign:
    """A cluster of somebody else."""

    owned = False

    def __init__(self, crd: dict[str, Any] | None) -> None:
        self.crd = crd

    def try_get(self, resource: str, name: str) -> dict[str, Any] | None:
        assert (resource, name) == ("crd", "workloads.kueue.x-k8s.io")
        return self.crd


def foreign(crd: dict[str, Any] | None) -> Cluster:
    cluster: Any = Foreign(crd)
    return cluster  # type: ignore[no-any-return]


def test_somebody_elses_cluster_is_used_with_its_kueue_and_never_changed() -> None:
    with kueue.running(foreign({"kind": "CustomResourceDefinition"})) as found:
        assert isinstance(found, kueue.Kueue)


def test_somebody_elses_cluster_without_kueue_is_an_error_with_a_remedy() -> None:
    there = kueue.running(foreign(None))
    with pytest.raises(ClusterError, match="install Kueue there, or unset KUBECONFIG"), there:
        raise AssertionError("not reached")
