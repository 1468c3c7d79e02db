"""The pods of the trainer: what they run, get and may do. Pure.

There is no free pod template: every field comes from a typed field of the API or from here, and
`secured` has the last word. The result meets the Pod Security Standard "restricted" and goes
further: a read-only root, no token, no environment from the cluster.

RDMA needs locked memory, which a restricted pod has only as far as the container runtime allows
it by default (``ulimit -l``). The capability IPC_LOCK would lift that and is not among those that
the standard permits, so it is not added: raise the limit in the runtime of those nodes.
"""

from __future__ import annotations

from typing import Any, Final

from m2r_operator import names
from m2r_operator.placement import RenderError
from m2r_operator.state import Defaults
from m2r_train.api import JobSpec, Resources, Storage
from m2r_train.api.common import API_KEY, key_variable
from m2r_train.api.runspec import endpoint_refs

Manifest = dict[str, Any]

USER: Final = 65532  # "nonroot", also of the images; its group owns the volumes
SPEC_FILE: Final = "/etc/m2r/run.json"
RUN_SPEC_BYTES: Final = 240 << 10  # of the 256 KiB that all annotations of an object may have

_CACHE, _TMP, _SHM = "/cache", "/tmp", "/dev/shm"
_CREDENTIALS: Final = (  # key of the Secret and name of the variable, whether it may be missing
    ("AWS_ACCESS_KEY_ID", False),
    ("AWS_SECRET_ACCESS_KEY", False),
    ("AWS_SESSION_TOKEN", True),
)
_POD_SECURITY: Final[Manifest] = {
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
    "shareProcessNamespace": False,
    "securityContext": {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
}
_CONTAINER_SECURITY: Final[Manifest] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "privileged": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def trainer(
    *,
    image: str,
    command: list[str],
    env: list[Manifest],
    resources: Manifest,
    policy: str | None,
) -> Manifest:
    """The container. ``policy`` is when its image is pulled; None leaves it to Kubernetes."""
    container = {
        "name": names.CONTAINER,
        "image": image,
        "imagePullPolicy": policy,
        "command": command,
        "env": env,
        "resources": resources,
        "volumeMounts": [
            {"name": "run", "mountPath": SPEC_FILE.rpartition("/")[0], "readOnly": True},
            {"name": "cache", "mountPath": _CACHE},
            {"name": "tmp", "mountPath": _TMP},
            {"name": "shm", "mountPath": _SHM},
        ],
        "terminationMessagePolicy": "File",
    }
    return {name: value for name, value in container.items() if value is not None}


def template(
    *,
    labels: dict[str, str],
    annotations: dict[str, str],
    container: Manifest,
    pod: Manifest,
    shared_memory: str,
    defaults: Defaults,
) -> Manifest:
    """A Job's pod template around the container; ``pod`` has further fields of the pod.

    Raises `RenderError` when the run spec among the annotations is too long.
    """
    _check_run_spec(annotations[names.RUN_SPEC])
    spec: Manifest = {
        **pod,
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": _volumes(shared_memory),
    }
    if defaults.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in defaults.image_pull_secrets]
    return {"metadata": {"labels": labels, "annotations": annotations}, "spec": secured(spec)}


def secured(pod: Manifest) -> Manifest:
    """The pod with the security settings that hold for all, whatever it had in their place."""
    containers = [{**item, "securityContext": _CONTAINER_SECURITY} for item in pod["containers"]]
    return {**pod, "containers": containers, **_POD_SECURITY}


def environment(storage: Storage, attempt: int, *, threads: int) -> list[Manifest]:
    """What every pod is told beside its run spec. Credentials never pass through the operator."""
    plain = {
        "HOME": _CACHE,
        "TMPDIR": _TMP,
        "USER": "m2r",  # libraries ask for the user's name, which a uid alone does not have
        "M2R_CACHE": _CACHE,
        "M2R_ATTEMPT": str(attempt),
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
    }
    env: list[Manifest] = [{"name": name, "value": value} for name, value in plain.items()]
    env.append({"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})
    if storage.secret_ref is not None:
        secret = storage.secret_ref.name
        env += [_from_secret(secret, key, optional) for key, optional in _CREDENTIALS]
    return env


def endpoint_keys(spec: JobSpec) -> list[Manifest]:
    """The keys of the endpoints that the spec asks, each from its Secret into its variable."""
    return [
        {
            "name": key_variable(path),
            "valueFrom": {"secretKeyRef": {"name": ref.secret_ref.name, "key": API_KEY}},
        }
        for path, ref in endpoint_refs(spec)
        if ref.secret_ref is not None
    ]


def resources_of(resources: Resources) -> Manifest:
    """Requests and limits of the container.

    CPU has a request and no limit: a limit stops all threads for the rest of each 100 ms once it
    is used up, and one rank that is stopped in a collective, or a stopped data loader, stops
    every other rank too. Memory and devices have limits equal to their requests.
    """
    fixed = _devices(resources)
    if resources.memory is not None:
        fixed["memory"] = resources.memory
    requests = {"cpu": resources.cpu, **fixed}
    return {"requests": requests, "limits": fixed} if fixed else {"requests": requests}


def _devices(resources: Resources) -> dict[str, str]:
    wanted: list[tuple[str, str, int]] = []
    if resources.gpus_per_node:
        wanted.append(("gpuResource", resources.gpu_resource, resources.gpus_per_node))
    if resources.rdma is not None:
        wanted.append(("rdma.resource", resources.rdma.resource, resources.rdma.count))
    devices: dict[str, str] = {}
    for field, name, count in wanted:
        if "/" not in name or name in devices:
            raise RenderError(
                f"spec.resources.{field}: {name} is no extended resource of its own; name one as "
                "the device plugin does, such as nvidia.com/gpu or rdma/hca"
            )
        devices[name] = str(count)
    return devices


def _volumes(shared_memory: str) -> list[Manifest]:
    """The run spec, and room to write. Only these kinds of volume are ever mounted.

    The cache holds datasets and models of any size, so it has no limit of its own; the node's
    disk pressure and a namespace's quota for ephemeral storage bound it.
    """
    run_spec = {"path": SPEC_FILE.rpartition("/")[2],
                "fieldRef": {"fieldPath": f"metadata.annotations['{names.RUN_SPEC}']"}}  # fmt: skip
    return [
        {"name": "run", "downwardAPI": {"items": [run_spec]}},
        {"name": "cache", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shared_memory}},
    ]


def _from_secret(secret: str, key: str, optional: bool) -> Manifest:
    reference: Manifest = {"name": secret, "key": key}
    if optional:
        reference["optional"] = True
    return {"name": key, "valueFrom": {"secretKeyRef": reference}}


def _check_run_spec(text: str) -> None:
    size = len(text.encode())
    if size > RUN_SPEC_BYTES:
        raise RenderError(
            f"spec: {size} bytes when resolved, of which a pod's annotation holds "
            f"{RUN_SPEC_BYTES}; use fewer or shorter entries (sources, benchmarks, affinity)"
        )
