"""What to do about each reason for which a run ends badly, in one line. Pure.

A reason alone sends people to the documentation. The line says which field is to be changed, or
which command shows the cause. Reasons are the ones that `Failed` may have, and ``PurgeGivenUp``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from m2r_operator import names
from m2r_operator.state import Key

LONGEST: Final = 1024  # characters of a condition's message, remedy included
_AGAIN: Final = "delete the run and apply it anew"
_SEE: Final = "`{logs}` shows more: "

# {logs} and {events}: commands that show the cause. {folder}: where the run's data lies.
REMEDIES: Final[Mapping[str, str]] = {
    "BadSpec": f"{_SEE}correct the field that is named, {_AGAIN}",
    "BadData": f"{_SEE}correct the data or the field that names it, {_AGAIN}",
    "BadConfig": f"{_SEE}correct the store, model or devices that are named, {_AGAIN}",
    "Collapsed": (
        "`{logs}` shows the signs: lower spec.optimization.learningRate or raise "
        f"spec.optimization.kl.end, {_AGAIN}; spec.monitors.action: Warn goes on in spite of them"
    ),
    "CrashLoopAtStep": f"`{{logs}}` shows why: repair the data or the code of that step, {_AGAIN}",
    "MaxRestarts": (
        f"`{{logs}}` shows why: repair that, or raise spec.restartPolicy.maxRestarts, {_AGAIN}"
    ),
    "MaxPreemptions": (
        "`{events}` shows by whom: set a higher spec.scheduling.priorityClassName or raise "
        f"spec.disruption.maxPreemptions (0: no limit), {_AGAIN}"
    ),
    "Disrupted": (
        f"`{{events}}` shows by whom: set spec.disruption.policy: Resume to go on, {_AGAIN}"
    ),
    "DeadlineExceeded": (
        f"raise spec.activeDeadlineSeconds, or give the run less to do or more GPUs, {_AGAIN}"
    ),
    "Stalled": (
        "`{events}` shows the node: raise spec.watchdog.stallSeconds if a step may take that long, "
        f"{_AGAIN}; spec.watchdog.action: Restart tries again by itself"
    ),
    "GateMissed": (
        "`m2r report` shows the samples: evaluate a better model, or lower spec.gates[].min, "
        f"{_AGAIN}"
    ),
    "PurgeGivenUp": (
        "delete {folder} yourself; spec.storage.secretRef needs the right to list and delete there"
    ),
}


def with_remedy(
    reason: str, cause: str, key: Key, *, pod: str | None = None, folder: str = "that folder"
) -> str:
    """The message for a reason: what was found, then what to do; the cause is cut, if need be."""
    remedy = REMEDIES.get(reason, f"{_SEE}{_AGAIN}").format(
        logs=_logs(key, pod),
        events=f"kubectl -n {key.namespace} describe {names.SHORT[key.kind]} {key.name}",
        folder=folder,
    )
    room = LONGEST - len(remedy) - 2
    return f"{cause[:room]}; {remedy}" if cause else remedy


def _logs(key: Key, pod: str | None) -> str:
    """The command that shows what a pod, or all of the run's, last wrote."""
    of = pod or f"-l {names.KIND}={key.kind},{names.NAME}={key.name}"
    return f"kubectl -n {key.namespace} logs {of} --tail 50"
