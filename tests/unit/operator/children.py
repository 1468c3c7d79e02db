"""Runs to render children of, and what must hold of every pod that is rendered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from unit.api.cases import small

from m2r_operator import names
from m2r_operator.manifests import job
from m2r_operator.state import CreateJob, Defaults, Key, RunSeen
from m2r_train.api import KINDS, JobStatus, RunInput, RunSpec, Storage

UID: Final = "0f8fad5b-d9cb-469f-a165-70867728950e"
STORAGE: Final = Storage(uri="s3://lab/runs", endpoint="http://s3:9000", region="eu-1")
IMAGE: Final = "registry.example/m2r-train@sha256:" + "0" * 64
NO_DEFAULTS: Final = Defaults()

_POD_FIELDS: Final = {
    *("affinity", "automountServiceAccountToken", "containers", "enableServiceLinks"),
    *("imagePullSecrets", "nodeSelector", "priorityClassName", "restartPolicy", "schedulerName"),
    *("securityContext", "serviceAccountName", "shareProcessNamespace", "subdomain"),
    *("terminationGracePeriodSeconds", "tolerations", "volumes"),
}
_CONTAINER_FIELDS: Final = {
    *("command", "env", "image", "imagePullPolicy", "name", "ports", "resources"),
    *("securityContext", "terminationMessagePolicy", "volumeMounts"),
}
_POD_SECURITY: Final = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "fsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_CONTAINER_SECURITY: Final = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "privileged": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_MOUNTS: Final = {"run": "/etc/m2r", "cache": "/cache", "tmp": "/tmp", "shm": "/dev/shm"}
_COMMANDS: Final = (
    ["m2r", "stage", "--spec", "/etc/m2r/run.json"],
    ["m2r", "purge", "--spec", "/etc/m2r/run.json"],
)
_SECRETS: Final = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}


def manifest_of(kind: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The smallest manifest of a kind with further fields of its spec."""
    manifest = small(kind)
    manifest["spec"] |= spec
    return manifest


def run_of(manifest: Mapping[str, Any], *, labels: Mapping[str, str] | None = None) -> RunSeen:
    """A run as the operator sees it; ``SpecErrors`` or ``ValidationError`` for a wrong spec."""
    kind = manifest["kind"]
    return RunSeen(
        key=Key(kind, manifest["metadata"].get("namespace", "team"), manifest["metadata"]["name"]),
        uid=UID,
        generation=1,
        resource_version="7",
        spec=KINDS[kind].spec.model_validate(manifest["spec"], by_alias=True, by_name=False),
        status=JobStatus(),
        labels=labels or {},
    )


def a_run(kind: str = "RLVRJob", **spec: Any) -> RunSeen:
    """The smallest run of a kind with further fields of its spec (camelCase)."""
    return run_of(manifest_of(kind, spec))


def create(
    attempt: int = 1,
    *,
    queue: str | None = None,
    storage: Storage = STORAGE,
    inputs: Mapping[str, RunInput] | None = None,
) -> CreateJob:
    """The action of making an attempt's Job."""
    return CreateJob(
        attempt=attempt, storage=storage, image=IMAGE, inputs=inputs or {}, queue=queue
    )


def rendered(
    kind: str = "RLVRJob", *, action: CreateJob | None = None, **spec: Any
) -> dict[str, Any]:
    """The Job of the smallest run of a kind with further fields of its spec."""
    return job(a_run(kind, **spec), action or create(), NO_DEFAULTS)


def pod_of(child: Mapping[str, Any]) -> dict[str, Any]:
    """The pod spec of a Job."""
    return dict(child["spec"]["template"]["spec"])


def env_of(child: Mapping[str, Any]) -> dict[str, Any]:
    """Name -> value, or what the value comes from."""
    variables = pod_of(child)["containers"][0]["env"]
    assert len({item["name"] for item in variables}) == len(variables)
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in variables}


def rules_of(child: Mapping[str, Any]) -> list[tuple[str, str | tuple[int, ...]]]:
    """(action, exit codes or condition) of the failure policy, in order."""
    rules = []
    for rule in child["spec"]["podFailurePolicy"]["rules"]:
        if "onExitCodes" in rule:
            codes = rule["onExitCodes"]
            assert (codes["operator"], codes["containerName"]) == ("In", names.CONTAINER)
            rules.append((rule["action"], tuple(codes["values"])))
        else:
            ((condition),) = rule["onPodConditions"]
            assert condition["status"] == "True"
            rules.append((rule["action"], condition["type"]))
    return rules


def run_spec_of(child: Mapping[str, Any]) -> RunSpec:
    """What the trainer will read."""
    text = child["spec"]["template"]["metadata"]["annotations"][names.RUN_SPEC]
    return RunSpec.from_json(text)


def violations(child: Mapping[str, Any]) -> list[str]:
    """What a Job's pod may do beyond what any trainer's pod may; written apart from the code."""
    return list(_violations(child))


def _violations(child: Mapping[str, Any]) -> Iterator[str]:
    pod = pod_of(child)
    yield from (f"field {name}" for name in pod.keys() - _POD_FIELDS)
    if pod["securityContext"] != _POD_SECURITY:
        yield f"securityContext {pod['securityContext']}"
    for name in ("automountServiceAccountToken", "enableServiceLinks", "shareProcessNamespace"):
        if pod[name] is not False:
            yield name
    for volume in pod["volumes"]:
        if volume.keys() - {"name"} not in ({"emptyDir"}, {"downwardAPI"}):
            yield f"volume {volume}"
    (container,) = pod["containers"]
    yield from _of_container(container)
    yield from (f"env {item}" for item in container["env"] if not _harmless(item))


def _of_container(container: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"container field {name}" for name in container.keys() - _CONTAINER_FIELDS)
    if container["securityContext"] != _CONTAINER_SECURITY:
        yield f"container's securityContext {container['securityContext']}"
    if {item["name"]: item["mountPath"] for item in container["volumeMounts"]} != _MOUNTS:
        yield f"volumeMounts {container['volumeMounts']}"
    if any(item.keys() - {"name", "mountPath", "readOnly"} for item in container["volumeMounts"]):
        yield "fields of volumeMounts"
    if container["command"] not in _COMMANDS:
        yield f"command {container['command']}"
    if any(port.keys() - {"name", "containerPort"} for port in container.get("ports", ())):
        yield "ports"
    if "cpu" in container["resources"].get("limits", {}):
        yield "a limit on CPU"


def _harmless(variable: Mapping[str, Any]) -> bool:
    """A value of ours, a field of the pod, or one key of S3 credentials under its own name."""
    if variable.keys() == {"name", "value"}:
        return True
    ((source, reference),) = variable["valueFrom"].items()
    if source == "fieldRef":
        return True
    return source == "secretKeyRef" and variable["name"] == reference["key"] in _SECRETS
