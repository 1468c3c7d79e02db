"""No field of a spec makes a pod that may do more; attempts at it, each in each place of a spec.

What is accepted nowhere is refused by the contract itself. What is accepted (the free objects of
an affinity) is rendered, and the pod must be as safe as any other.
"""

from __future__ import annotations

from typing import Any, Final

import pytest
from pydantic import ValidationError
from unit.api.cases import changed
from unit.operator.children import (
    IMAGE,
    NO_DEFAULTS,
    STORAGE,
    create,
    manifest_of,
    pod_of,
    run_of,
    violations,
)

from m2r_operator import manifests, pods
from m2r_operator.manifests import job, purge_job
from m2r_operator.state import CreatePurge
from m2r_train.api import KINDS

FULL: Final[dict[str, Any]] = {
    "storage": {"uri": "s3://lab/runs", "secretRef": {"name": "keys"}},
    "resources": {"nodes": 2, "gpusPerNode": 1, "memory": "8Gi", "rdma": {"count": 1}},
    "scheduling": {
        "nodeSelector": {"gpu": "h100"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"x": 1}, "podAffinity": {"x": 1}, "podAntiAffinity": {}},
        "topology": {"key": "rack"},
    },
    "restartPolicy": {"maxRestarts": 1},
    "disruption": {"policy": "Resume"},
    "watchdog": {"action": "Restart"},
    "serviceAccountName": "writer",
}
PLACES: Final = (
    *("spec", "spec.storage", "spec.storage.secretRef", "spec.resources", "spec.resources.rdma"),
    *("spec.scheduling", "spec.scheduling.tolerations[0]", "spec.scheduling.affinity"),
    *("spec.scheduling.topology", "spec.restartPolicy", "spec.disruption", "spec.watchdog"),
)
FREE: Final = (
    "spec.scheduling.affinity.nodeAffinity",
    "spec.scheduling.affinity.podAffinity",
    "spec.scheduling.affinity.podAntiAffinity",
)
ROOT_VOLUME: Final = {"name": "host", "hostPath": {"path": "/"}}
SHELL: Final = {"name": "sh", "image": "sh", "securityContext": {"privileged": True}}
ATTACKS: Final[dict[str, Any]] = {
    "activeDeadlineSecondsOfPod": 1,
    "annotations": {"container.apparmor.security.beta.kubernetes.io/trainer": "unconfined"},
    "args": ["-c", "id"],
    "automountServiceAccountToken": True,
    "capabilities": {"add": ["SYS_ADMIN"]},
    "command": ["sh"],
    "containers": [SHELL],
    "dnsConfig": {"nameservers": ["10.0.0.1"]},
    "enableServiceLinks": True,
    "env": [{"name": "LD_PRELOAD", "value": "/cache/x.so"}],
    "envFrom": [{"secretRef": {"name": "other"}}],
    "ephemeralContainers": [SHELL],
    "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["s3"]}],
    "hostIPC": True,
    "hostNetwork": True,
    "hostPID": True,
    "hostPath": {"path": "/"},
    "hostPort": 9400,
    "hostUsers": True,
    "initContainers": [SHELL],
    "labels": {"kueue.x-k8s.io/queue-name": "other"},
    "lifecycle": {"postStart": {"exec": {"command": ["sh"]}}},
    "nodeName": "control-plane",
    "overhead": {"cpu": "0"},
    "ownerReferences": [],
    "podSpecPatch": '{"hostPID": true}',
    "podTemplate": {"spec": {"hostPID": True}},
    "preemptionPolicy": "PreemptLowerPriority",
    "priority": 2_000_001_000,
    "privileged": True,
    "procMount": "Unmasked",
    "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]},
    "resourceClaims": [{"name": "gpu"}],
    "runAsNonRoot": False,
    "runAsUser": 0,
    "runtimeClassName": "runc-privileged",
    "schedulingGates": [],
    "securityContext": {"privileged": True, "runAsUser": 0},
    "seccompProfile": {"type": "Unconfined"},
    "seLinuxOptions": {"type": "spc_t"},
    "setHostnameAsFQDN": True,
    "shareProcessNamespace": True,
    "spec": {"hostPID": True},
    "stdin": True,
    "subPath": "../../etc",
    "sysctls": [{"name": "kernel.msgmax", "value": "1"}],
    "template": {"spec": {"hostPID": True}},
    "terminationMessagePath": "/etc/passwd",
    "volumeDevices": [{"name": "host", "devicePath": "/dev/sda"}],
    "volumeMounts": [{"name": "host", "mountPath": "/host"}],
    "volumes": [ROOT_VOLUME],
    "windowsOptions": {"hostProcess": True},
    "workingDir": "/",
}
VALUES: Final = (  # hostile values of fields that exist
    ("spec.image", "$(id)"),
    ("spec.image", "x --privileged"),
    ("spec.image", "-v/:/host"),
    ("spec.serviceAccountName", "../default"),
    ("spec.serviceAccountName", "system:admin"),
    ("spec.storage.secretRef", "keys"),
    ("spec.storage.secretRef", {"name": "keys", "namespace": "kube-system"}),
    ("spec.storage.secretRef.name", "kube-system/keys"),
    ("spec.storage.uri", "https://169.254.169.254/"),
    ("spec.storage.uri", "hostpath:///"),
    ("spec.storage.endpoint", "http://user:password@s3"),
    ("spec.resources.gpuResource", "nvidia.com/gpu: 1, hostPID: true"),
    ("spec.resources.sharedMemory", "8Gi, hostPID: true"),
    ("spec.resources.cpu", "-1"),
    ("spec.scheduling.schedulerName", "a b"),
    ("spec.scheduling.priorityClassName", "System"),
    ("spec.scheduling.topology.key", "a\nb"),
    ("spec.scheduling.tolerations[0].effect", "All"),
    ("spec.disruption.terminationGracePeriodSeconds", 0),
    ("spec.disruption.terminationGracePeriodSeconds", -1),
)


def full(kind: str) -> dict[str, Any]:
    return manifest_of(kind, FULL)


def unsafe(manifest: dict[str, Any]) -> list[str]:
    """What is wrong with the pods of a run, the purge's too; ValidationError: refused."""
    run = run_of(manifest)
    storage = STORAGE if run.spec is None or run.spec.storage is None else run.spec.storage
    children = (
        job(run, create(storage=storage), NO_DEFAULTS),
        job(run, create(storage=storage, queue="q"), NO_DEFAULTS),
        purge_job(run, CreatePurge(storage=storage, image=IMAGE), NO_DEFAULTS),
    )
    return [line for child in children for line in violations(child)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_sets_every_shared_field_is_as_safe_as_any(kind: str) -> None:
    assert unsafe(full(kind)) == []


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_field_that_would_let_a_pod_do_more_is_refused_wherever_it_stands(attack: str) -> None:
    for place in PLACES:
        manifest = changed(full("RLVRJob"), f"{place}.{attack}", ATTACKS[attack])
        with pytest.raises(ValidationError):
            run_of(manifest)


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_an_affinity_holds_stays_in_the_affinity(attack: str) -> None:
    for place in FREE:
        manifest = changed(full("RLVRJob"), f"{place}.{attack}", ATTACKS[attack])
        assert unsafe(manifest) == []
        pod = pod_of(job(run_of(manifest), create(), NO_DEFAULTS))
        assert pod["affinity"][place.rpartition(".")[2]][attack] == ATTACKS[attack]


def test_the_tables_are_long_enough_to_mean_something() -> None:
    assert len(ATTACKS) + len(VALUES) >= 60


@pytest.mark.parametrize(("path", "value"), VALUES)
def test_a_hostile_value_of_a_field_is_refused(path: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        run_of(changed(full("RLVRJob"), path, value))


@pytest.mark.parametrize(
    "name", ["securityContext", "automountServiceAccountToken", "shareProcessNamespace"]
)
def test_security_has_the_last_word(name: str) -> None:
    """Whatever an earlier step may put there one day."""
    loose: dict[str, Any] = {
        name: {"runAsUser": 0} if name == "securityContext" else True,
        "containers": [{"name": "trainer", "securityContext": {"privileged": True}}],
    }
    tight = pods.secured(loose)
    assert tight[name] != loose[name]
    assert tight["containers"][0]["securityContext"]["privileged"] is False


def test_the_check_sees_what_it_looks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the last step the very same runs are found to be unsafe."""
    original = manifests.pods.template

    def with_host_path(**arguments: Any) -> Any:
        template = original(**arguments)
        template["spec"]["volumes"].append(ROOT_VOLUME)
        return template

    monkeypatch.setattr(pods, "secured", lambda pod: {**_secured(pod), "hostPID": True})
    monkeypatch.setattr(pods, "template", with_host_path)
    found = unsafe(full("RLVRJob"))
    assert "field hostPID" in found
    assert f"volume {ROOT_VOLUME}" in found


_secured = pods.secured
