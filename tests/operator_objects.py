"""Objects as the API server would give them, in one line each."""

from __future__ import annotations

import hashlib
from typing import Any

from m2r_operator import names
from m2r_operator.observe import run_seen
from m2r_operator.state import Key, RunSeen

Object = dict[str, Any]

SPECS: dict[str, Object] = {
    "SFTJob": {"model": {"preset": "tiny"}, "dataset": {"uri": "s3://lab/data", "split": "sft"}},
    "RLVRJob": {"model": {"preset": "tiny"}, "dataset": {"uri": "s3://lab/data", "split": "rlvr"}},
}


def uid(name: str) -> str:
    """The uid of the object of this name, in the form of a uid."""
    digest = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:]}"


def meta(name: str, **more: Any) -> Object:
    """Metadata of an object of namespace ``ns``; ``version`` is its resource version."""
    version = more.pop("version", None)
    found = {"name": name, "namespace": "ns", "uid": uid(name), **more}
    return found if version is None else {**found, "resourceVersion": str(version)}


def sft(name: str = "ci", *, version: int = 1, status: Object | None = None, **more: Any) -> Object:
    """An SFTJob; further arguments are fields of its spec."""
    return {
        "kind": "SFTJob",
        "metadata": meta(name, version=version, generation=1),
        "spec": {**SPECS["SFTJob"], **more},
        "status": status or {},
    }


def rlvr(
    name: str = "rl", *, version: int = 1, status: Object | None = None, **more: Any
) -> Object:
    """An RLVRJob; further arguments are fields of its spec."""
    return {
        "kind": "RLVRJob",
        "metadata": meta(name, version=version, generation=1),
        "spec": {**SPECS["RLVRJob"], **more},
        "status": status or {},
    }


def seen(body: Object) -> RunSeen:
    """A resource as observed."""
    return run_seen(str(body["kind"]), body)


def done(**outputs: Any) -> Object:
    """A status that is complete."""
    time = "2026-01-01T00:00:00Z"
    condition = {"type": "Complete", "status": "True", "reason": "F", "lastTransitionTime": time}
    return {"conditions": [condition], "phase": "Succeeded", "completionTime": time,
            "attempt": 1, "outputs": outputs}  # fmt: skip


def labels(run: str = "ci", attempt: int = 1, kind: str = "SFTJob") -> dict[str, str]:
    """Labels of a child."""
    return {names.KIND: kind, names.NAME: run, names.ATTEMPT: str(attempt)}


def owned(owner: str) -> list[Object]:
    """Owner references to a controller."""
    return [{"kind": "x", "name": "x", "uid": owner, "controller": True}]


def job(
    run: str = "ci", attempt: int = 1, *, version: int = 10, owner: str | None = None,
    status: Object | None = None, **more: Any,
) -> Object:  # fmt: skip
    """A Job of an SFTJob's attempt."""
    name = names.job_name("SFTJob", run, attempt)
    return {
        "metadata": meta(
            name, version=version, labels=labels(run, attempt),
            ownerReferences=owned(owner or uid(run)), **more,
        ),
        "spec": {},
        "status": status or {},
    }  # fmt: skip


def pod(
    run: str = "ci", attempt: int = 1, index: int = 0, *, version: int = 20,
    owner: str | None = None, status: Object | None = None, **more: Any,
) -> Object:  # fmt: skip
    """A pod of that Job."""
    parent = names.job_name("SFTJob", run, attempt)
    return {
        "metadata": meta(
            f"{parent}-{index}", version=version, labels=labels(run, attempt),
            annotations={"batch.kubernetes.io/job-completion-index": str(index)},
            ownerReferences=owned(owner or uid(parent)), **more,
        ),
        "spec": {"nodeName": "n"},
        "status": {"phase": "Running", "podIP": "10.0.0.1"} if status is None else status,
    }  # fmt: skip


KEY = Key("SFTJob", "ns", "ci")
