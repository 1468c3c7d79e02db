"""The processes of a cluster: started in its cgroup, found again by id and start time.

A process first joins the cluster's cgroup and then becomes the program, so that whatever happens to
the one who starts it, nothing of it can be lost: taking the cluster down ends all that is in the
cgroup. Single components are found by their record, which holds the start time as well as the id,
so that an id which the system gave to another process meanwhile is never signalled.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cluster import cgroups
from cluster.errors import ClusterError
from cluster.layout import Layout
from cluster.parts import command
from cluster.waiting import wait_until

NODE_PROCESS = "node"  # holds the namespaces
STOP_SECONDS = 10.0
# $1 cgroup.procs, $2 file for the id; the rest is the program
LAUNCH = 'echo 0 >"$1" && echo $$ >"$2.new" && mv "$2.new" "$2" && shift 2 && exec "$@"'


@dataclass(frozen=True)
class Process:
    """A process as it was recorded."""

    pid: int
    started: int  # clock ticks after boot
    boot: str  # the boot's id: ticks begin again with each

    @property
    def alive(self) -> bool:
        """Whether that very process still runs (a zombie does not)."""
        return self.boot == _boot() and _started(self.pid) == self.started

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, if the process is still that one."""
        if self.alive:
            os.kill(self.pid, number)

    def wait(self, seconds: float) -> bool:
        """Waits until it is gone; False when the time is over."""
        return wait_until(lambda: not self.alive, seconds, every=0.02)


def launch(
    layout: Layout, name: str, argv: list[str], *, env: dict[str, str] | None = None
) -> None:
    """Starts ``argv`` on the host as the process ``name``, in the cluster's cgroup.

    Its parent is init, so it lives on after the caller. Raises ``ClusterError`` if it is gone at
    once; its output goes to the component's log file.
    """
    record, pid_file = layout.record(name), layout.record(name).with_suffix(".pid")
    for path in (record, layout.log(name)):
        path.parent.mkdir(parents=True, exist_ok=True)
    pid_file.unlink(missing_ok=True)
    shell = ["sh", "-c", LAUNCH, "sh", str(cgroups.procs_file(layout.cgroup)), str(pid_file)]
    with layout.log(name).open("ab") as log:
        done = subprocess.run(
            [str(command("setsid")), "--fork", *shell, *argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=env,
            cwd="/",
            check=False,
        )
    if done.returncode != 0 or not wait_until(pid_file.exists, 10, every=0.005):
        raise ClusterError(f"{name} did not start: {log_tail(layout, name)}")
    pid = int(pid_file.read_text())
    started = _started(pid)
    if started is None:
        raise ClusterError(f"{name} ended at once: {log_tail(layout, name)}")
    fresh = record.with_suffix(".new")
    fresh.write_text(json.dumps({"pid": pid, "started": started, "boot": _boot()}))
    fresh.replace(record)


def enter(layout: Layout, *, network: bool = True, mounts: bool = True) -> list[str]:
    """The command prefix that runs a program in the node's namespaces."""
    node = find(layout, NODE_PROCESS)
    if node is None or not node.alive:
        raise ClusterError(f"the node in {layout.state} is gone: `make cluster-up`")
    options = [f"--net=/proc/{node.pid}/ns/net"] if network else []
    options += [f"--mount=/proc/{node.pid}/ns/mnt"] if mounts else []
    return [str(command("nsenter")), *options, "--"]


def find(layout: Layout, name: str) -> Process | None:
    """The recorded process ``name``, alive or not; None where it was never started."""
    try:
        return Process(**json.loads(layout.record(name).read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise ClusterError(
            f"{layout.record(name)}: {error}: take the cluster down with `make cluster-down`"
        ) from error


def alive(layout: Layout, name: str) -> bool:
    """Whether the component runs."""
    process = find(layout, name)
    return process is not None and process.alive


def end(layout: Layout, name: str, *, kill: bool) -> None:
    """Ends a component: SIGKILL, or SIGTERM first. Returns when the process is gone."""
    process = find(layout, name)
    if process is None:
        return
    process.signal(signal.SIGCONT)
    if not kill:
        process.signal(signal.SIGTERM)
        if process.wait(STOP_SECONDS):
            return
    process.signal(signal.SIGKILL)
    if not process.wait(STOP_SECONDS):
        raise ClusterError(f"{name} (process {process.pid}) survives SIGKILL: see `dmesg`")


def log_tail(layout: Layout, name: str, characters: int = 2000) -> str:
    """The end of a component's log."""
    try:
        text = layout.log(name).read_text(errors="replace")
    except FileNotFoundError:
        return "(no log)"
    return text[-characters:].strip() or "(empty log)"


def _started(pid: int) -> int | None:
    """When a living process began, in clock ticks after boot (``/proc/PID/stat``, field 22)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
