"""Runs of several processes: how those of several nodes find each other. Pure.

SFT and RLVR are gangs: every rank takes part in every step, so one that is lost ends the attempt
for all. ``m2r stage`` starts the ranks of its node, as the run spec says how many there are. What
it cannot know is where rank 0 listens: at the first pod, whose name is known before it runs. Which
node a pod is, Kubernetes tells it (``JOB_COMPLETION_INDEX``).
"""

from __future__ import annotations

from typing import Any, Final

from m2r_operator import names
from m2r_operator.state import RunSeen
from m2r_train.api import JobSpec
from m2r_train.api.runspec import GANGS

RENDEZVOUS_PORT: Final = 29500


def is_gang(kind: str, spec: JobSpec) -> bool:
    """Whether the loss of one pod ends the attempt; else the pods make shards independently."""
    return kind in GANGS or spec.resources.nodes == 1


def processes(kind: str, spec: JobSpec) -> int:
    """Processes of each pod, which share its CPU."""
    return spec.resources.processes if kind in GANGS else 1


def meets(kind: str, spec: JobSpec) -> bool:
    """Whether pods have to find each other, for which they need names in DNS."""
    return kind in GANGS and spec.resources.nodes > 1


def environment(run: RunSeen, spec: JobSpec, job: str) -> list[dict[str, Any]]:
    """Where the ranks of several nodes meet; nothing for a run of one node."""
    kind = run.key.kind
    if not meets(kind, spec):
        return []
    first = f"{job}-0.{names.child_name(kind, run.key.name)}"
    told = {"MASTER_ADDR": first, "MASTER_PORT": str(RENDEZVOUS_PORT)}
    return [{"name": name, "value": value} for name, value in told.items()]
