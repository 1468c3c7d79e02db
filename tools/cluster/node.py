"""The node's own network and mount namespaces, and the link between them and the host.

Everything that a node does to a machine (bridges, firewall rules, hundreds of mounts) happens in
namespaces that one process holds. They vanish with the cluster's last process, and with them all
that is inside; the host has one veth link and two routes, which vanish with the network namespace.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
from pathlib import Path

from cluster import cgroups, processes
from cluster.errors import ClusterError
from cluster.layout import MOUNTS, SLOTS, Layout
from cluster.parts import command
from cluster.waiting import wait_until

MARK = ".m2r-cluster"  # in folders that had to be made on the host for mounts in the namespace
START_SECONDS = 20.0


def links() -> list[str]:
    """Names of all network links of the host."""
    return sorted(path.name for path in Path("/sys/class/net").iterdir())


def free_slot() -> int:
    """A slot that no cluster uses, whole or in ruins."""
    used = set(links())
    for slot in SLOTS:
        layout = Layout(Path("/"), slot)
        if layout.link not in used and not cgroups.exists(layout.cgroup):
            return slot
    raise ClusterError(f"all {len(SLOTS)} slots are in use: see `ip link`, then take clusters down")


def start(layout: Layout) -> None:
    """Makes the namespaces, fills them with mounts and addresses, and links them to the host."""
    for target in MOUNTS.values():
        if not target.exists():
            target.mkdir(parents=True)
            (target / MARK).touch()
    for name in MOUNTS:
        layout.data(name).mkdir(parents=True, exist_ok=True)
    script = layout.config("node.sh")
    script.write_text(setup_script(layout))
    unshare = [str(command("unshare")), "--net", "--mount", "--propagation", "slave"]
    ready = layout.state / "run" / "node.ready"
    ready.unlink(missing_ok=True)
    processes.launch(layout, processes.NODE_PROCESS, [*unshare, "sh", str(script), str(ready)])
    if not wait_until(ready.exists, START_SECONDS, every=0.01):
        tail = processes.log_tail(layout, processes.NODE_PROCESS)
        raise ClusterError(f"the node's namespaces could not be made: {tail}")
    _connect(layout)


def setup_script(layout: Layout) -> str:
    """What the holder of the namespaces does before it sleeps; $1 is made when it is done."""
    lines = ["set -eu"]
    for name, target in MOUNTS.items():
        source, there = shlex.quote(str(layout.data(name))), shlex.quote(str(target))
        lines += [f"mount --bind {source} {there}", f"mount --make-rshared {there}"]
    lines += [
        "ip link set lo up",
        "echo 1 >/proc/sys/net/ipv4/ip_forward",
        "echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet",
        'touch "$1"',
        "exec sleep infinity",
    ]
    return "\n".join(lines) + "\n"


def remove_link(layout: Layout) -> None:
    """Removes the host's end of the link, if it outlived the namespace."""
    if layout.link in links():
        _run([str(command("ip")), "link", "delete", layout.link])


def remove_mount_points() -> None:
    """Removes folders that were made on the host, when no cluster uses them any more."""
    if any(cgroups.exists(Layout(Path("/"), slot).cgroup) for slot in SLOTS):
        return
    for target in MOUNTS.values():
        if (target / MARK).exists() and len(list(target.iterdir())) == 1:
            (target / MARK).unlink()
            with contextlib.suppress(OSError):  # filled by somebody a moment ago: now theirs
                target.rmdir()


def _connect(layout: Layout) -> None:
    """A veth pair: addresses at both ends, and routes to pods and Services on the host."""
    ip, inside = str(command("ip")), processes.enter(layout, mounts=False)
    holder = processes.find(layout, processes.NODE_PROCESS)
    assert holder is not None  # launched above
    peer = ["type", "veth", "peer", "name", "eth0", "netns", str(holder.pid)]
    _run([ip, "link", "add", layout.link, *peer])
    _run([*inside, ip, "address", "add", f"{layout.node_address}/30", "dev", "eth0"])
    _run([*inside, ip, "link", "set", "eth0", "up"])
    _run([ip, "address", "add", f"{layout.host_address}/30", "dev", layout.link])
    _run([ip, "link", "set", layout.link, "up"])
    _run([*inside, ip, "route", "add", "default", "via", layout.host_address])
    for subnet in (layout.pod_subnet, layout.service_subnet):
        _run([ip, "route", "add", subnet, "via", layout.node_address])


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"`{' '.join(argv)}` failed: {done.stderr.strip()}")
