"""Every label, annotation, name and reason that the operator writes, with what it is for.

Anything here is read by users, dashboards or a later version of the operator: add, do not rename.
"""

from __future__ import annotations

from typing import Final

from m2r_train.api import GROUP

MANAGER: Final = "m2r-operator"  # field manager, value of managed-by, user agent

# Labels of children. KIND is on every child, so one selector finds them all.
KIND: Final = f"{GROUP}/kind"
NAME: Final = f"{GROUP}/name"
ATTEMPT: Final = f"{GROUP}/attempt"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
APP: Final = "app.kubernetes.io/name"
CHILDREN: Final = KIND  # label selector: "has the label"

# Annotation of a Job's pods: the run spec (JSON), mounted as a file. Being part of the pod
# template it is made, seen and deleted together with the Job: no second object to keep in step.
RUN_SPEC: Final = f"{GROUP}/run-spec"

FINALIZER: Final = f"{GROUP}/purge"  # only on resources with storage.reclaimPolicy: Delete

# Kueue's contract (copied down to the Job, read back from it).
QUEUE: Final = "kueue.x-k8s.io/queue-name"
QUEUE_PRIORITY: Final = "kueue.x-k8s.io/priority-class"

PORT: Final = 9400  # of /status and /metrics in the trainer's pods
CONTAINER: Final = "trainer"

SHORT: Final = {
    "DataSynthesisJob": "dsj",
    "SFTJob": "sftj",
    "RLVRJob": "rlvrj",
    "EvalJob": "evj",
}
PLURALS: Final = {
    "DataSynthesisJob": "datasynthesisjobs",
    "SFTJob": "sftjobs",
    "RLVRJob": "rlvrjobs",
    "EvalJob": "evaljobs",
}


def child_name(kind: str, name: str) -> str:
    """What a run's children are called; kinds may share names, so the kind is part of it."""
    return f"{name}-{SHORT[kind]}"


def job_name(kind: str, name: str, attempt: int) -> str:
    """The Job of one attempt. Deterministic: making it twice is a conflict, not a duplicate."""
    return f"{child_name(kind, name)}-{attempt}"


def purge_name(kind: str, name: str) -> str:
    """The Job that deletes a run's folder from the store."""
    return f"{child_name(kind, name)}-purge"
