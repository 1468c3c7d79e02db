"""Where a run's pods go: ``spec.scheduling`` as fields of a pod. Pure."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from m2r_operator import names
from m2r_operator.state import RunSeen
from m2r_train.api import JobSpec
from m2r_train.api.common import Affinity, Toleration, Topology

# Kubernetes gives a pod 300 s on a node that does not answer. A run that can go on elsewhere from
# its last checkpoint would lose five minutes of all its nodes by waiting for one.
NODE_LOST: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
NODE_LOST_SECONDS: Final = 30

_TOPOLOGY: Final = {  # Kueue's annotations, read from the pod template
    "Required": "kueue.x-k8s.io/podset-required-topology",
    "Preferred": "kueue.x-k8s.io/podset-preferred-topology",
}
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"
_MOST: Final = 100  # the greatest weight of a preference


class RenderError(Exception):
    """A run whose children cannot be made: one line with the field and the remedy.

    The manifest is well-formed, or the API server would have refused it; what is wrong shows only
    when the pods are put together. Trying again cannot help.
    """


def placement(run: RunSeen, spec: JobSpec, *, queued: bool) -> dict[str, Any]:
    """Fields of a pod that say where it runs. With Kueue (``queued``) topology is Kueue's.

    Raises `RenderError` for an affinity that ours cannot be added to.
    """
    scheduling = spec.scheduling
    pod = {
        "nodeSelector": dict(scheduling.node_selector),
        "tolerations": tolerations(scheduling.tolerations),
        "affinity": _affinity(run, spec, queued=queued),
        "priorityClassName": scheduling.priority_class_name,
        "schedulerName": scheduling.scheduler_name,
        "serviceAccountName": spec.service_account_name,
    }
    return {name: value for name, value in pod.items() if value}


def topology_annotations(spec: JobSpec, *, queued: bool) -> dict[str, str]:
    """What Kueue reads from the pod template to keep the run's pods together."""
    topology = spec.scheduling.topology
    return {_TOPOLOGY[topology.mode]: topology.key} if queued and topology else {}


def tolerations(given: tuple[Toleration, ...]) -> list[dict[str, Any]]:
    """The run's tolerations, and short ones for lost nodes where it says nothing of them."""
    lost = [
        {
            "key": key,
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": NODE_LOST_SECONDS,
        }
        for key in NODE_LOST
        if not any(_tolerates_eviction(item, key) for item in given)
    ]
    return [*(item.model_dump(by_alias=True, exclude_none=True) for item in given), *lost]


def _tolerates_eviction(item: Toleration, key: str) -> bool:
    return item.key in (None, key) and item.effect in (None, "NoExecute")


def _affinity(run: RunSeen, spec: JobSpec, *, queued: bool) -> dict[str, Any]:
    given = spec.scheduling.affinity or Affinity()
    affinity = copy.deepcopy(given.model_dump(by_alias=True, exclude_none=True))
    topology = spec.scheduling.topology
    if topology is not None and not queued and spec.resources.nodes > 1:
        affinity["podAffinity"] = _together(run, topology, affinity.get("podAffinity", {}))
    return affinity


def _together(run: RunSeen, topology: Topology, given: Mapping[str, Any]) -> dict[str, Any]:
    """The pods of a run next to each other. The scheduler lets the first one go anywhere.

    The selector leaves the attempt out: an attempt begins when the pods before it are gone.
    """
    term = {
        "topologyKey": topology.key,
        "labelSelector": {
            "matchLabels": {names.KIND: run.key.kind, names.NAME: run.key.name},
        },
    }
    field, item = (
        (_REQUIRED, term)
        if topology.mode == "Required"
        else (_PREFERRED, {"weight": _MOST, "podAffinityTerm": term})
    )
    terms = given.get(field) or []
    if not isinstance(terms, list):
        raise RenderError(
            f"{run.key}: spec.scheduling.affinity.podAffinity.{field}: must be a list; write it "
            "as in a pod, or leave spec.scheduling.topology out"
        )
    return {**given, field: [*terms, item]}
