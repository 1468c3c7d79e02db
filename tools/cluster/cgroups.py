"""The cluster's cgroup: what holds every process and container of it, and how all of them end.

The components join ``/<name>/host`` in one hierarchy; the kubelet puts containers below
``/<name>/kubepods``, in each hierarchy of cgroup v1 or in the only one of v2.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from cluster.errors import ClusterError
from cluster.waiting import wait_until

ROOT = Path("/sys/fs/cgroup")
KILL_SECONDS = 60.0


def hierarchies(root: Path = ROOT) -> list[Path]:
    """The roots of all mounted hierarchies."""
    if (root / "cgroup.procs").exists():
        return [root]
    mounted = {path.resolve() for path in root.iterdir() if (path / "cgroup.procs").exists()}
    return sorted(mounted)


def make(name: str, root: Path = ROOT) -> None:
    """Makes the cgroup in each hierarchy: the kubelet wants its root to be there."""
    mounted = hierarchies(root)
    if not mounted:
        raise ClusterError(f"no cgroup hierarchy in {root}: mount the cgroup file systems")
    for path in mounted:
        (path / name).mkdir(exist_ok=True)
    procs_file(name, root).parent.mkdir(exist_ok=True)


def procs_file(name: str, root: Path = ROOT) -> Path:
    """The file by which a component joins the cgroup."""
    mounted = hierarchies(root)
    chosen = next((path for path in mounted if path.name == "pids"), mounted[0])
    return chosen / name / "host" / "cgroup.procs"


def exists(name: str, root: Path = ROOT) -> bool:
    """Whether any hierarchy has the cgroup."""
    return any((path / name).is_dir() for path in hierarchies(root))


def members(name: str, root: Path = ROOT) -> set[int]:
    """The ids of all processes in the cgroup and below it, in any hierarchy."""
    found: set[int] = set()
    for path in hierarchies(root):
        for file in (path / name).rglob("cgroup.procs"):
            with contextlib.suppress(FileNotFoundError, OSError):  # a container that just ended
                found.update(int(line) for line in file.read_text().split())
    return found


def remove(name: str, root: Path = ROOT) -> None:
    """Kills whatever is in the cgroup, then removes it from every hierarchy."""
    thaw(name, root)
    if not wait_until(lambda: _kill(name, root), KILL_SECONDS, every=0.02):
        left = ", ".join(map(str, sorted(members(name, root))))
        raise ClusterError(f"cgroup {name}: the processes {left} survive SIGKILL: see `dmesg`")
    for path in hierarchies(root):
        if not wait_until(lambda path=path: _removed(path / name), 10.0, every=0.02):  # type: ignore[misc]
            raise ClusterError(f"{path / name} cannot be removed: see {path / name}/cgroup.procs")


def thaw(name: str, root: Path = ROOT) -> None:
    """Lets paused containers run again: a frozen process cannot die."""
    for file in (root / "freezer" / name).rglob("freezer.state"):
        file.write_text("THAWED")


def _kill(name: str, root: Path) -> bool:
    """One round; True when nobody is left."""
    pids = members(name, root) - {0}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return not pids


def _removed(folder: Path) -> bool:
    if not folder.is_dir():
        return True
    inner = [path for path in folder.rglob("*") if path.is_dir()]
    for path in [*sorted(inner, key=lambda path: len(path.parts), reverse=True), folder]:
        with contextlib.suppress(OSError):  # busy for a moment after its last process
            path.rmdir()
    return not folder.is_dir()
