"""Runs of several processes: how torchrun on each node finds the others. Pure.

SFT and RLVR are gangs: every rank takes part in every step, so one that is lost ends the attempt
for all. torchrun's static rendezvous suits that: ranks come from the Job's completion index, rank
0 listens, and no server but the first pod itself is needed. Every option has an environment
variable ``PET_<OPTION>`` (torch.distributed.argparse_util).
"""

from __future__ import annotations

from typing import Any, Final

from m2r_operator import names
from m2r_operator.state import RunSeen
from m2r_train.api import JobSpec

GANGS: Final = ("SFTJob", "RLVRJob")  # kinds whose nodes compute one step together
RENDEZVOUS_PORT: Final = 29500
_INDEX: Final = "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def is_gang(kind: str, spec: JobSpec) -> bool:
    """Whether the loss of one pod ends the attempt; else the pods make shards independently."""
    return kind in GANGS or spec.resources.nodes == 1


def processes(kind: str, spec: JobSpec) -> int:
    """Processes of each pod: one for each accelerator of a gang, else one."""
    return max(1, spec.resources.gpus_per_node) if kind in GANGS else 1


def meets(kind: str, spec: JobSpec) -> bool:
    """Whether pods have to find each other, for which they need names in DNS."""
    return kind in GANGS and spec.resources.nodes > 1


def command(kind: str, spec: JobSpec, *arguments: str) -> list[str]:
    """``m2r`` with these arguments, under torchrun where there are several processes."""
    if meets(kind, spec) or processes(kind, spec) > 1:
        return ["torchrun", "-m", "m2r_train", *arguments]
    return ["m2r", *arguments]


def environment(run: RunSeen, spec: JobSpec, job: str) -> list[dict[str, Any]]:
    """What torchrun is told; nothing for a run of one process."""
    kind = run.key.kind
    if not meets(kind, spec) and processes(kind, spec) == 1:
        return []
    service = names.child_name(kind, run.key.name)
    first = f"{job}-0.{service}" if meets(kind, spec) else "127.0.0.1"
    told = {
        "MASTER_ADDR": first,
        "MASTER_PORT": str(RENDEZVOUS_PORT),
        "PET_MASTER_ADDR": first,
        "PET_MASTER_PORT": str(RENDEZVOUS_PORT),
        "PET_RDZV_BACKEND": "static",
        "PET_NNODES": str(spec.resources.nodes),
        "PET_NPROC_PER_NODE": str(processes(kind, spec)),
        # torchrun kills ranks that have not saved their state 30 s after SIGTERM, by default
        "PET_SHUTDOWN_TIMEOUT": str(spec.disruption.termination_grace_period_seconds),
    }
    rank = {"name": "PET_NODE_RANK", "valueFrom": {"fieldRef": {"fieldPath": _INDEX}}}
    return [*({"name": name, "value": value} for name, value in told.items()), rank]
