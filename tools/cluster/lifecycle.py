"""From nothing to a ready node and back, without a trace.

``up`` may be interrupted at any point: what it had started is in the cluster's cgroup, and the
state directory names the slot from its first moment, so the next ``up`` or ``down`` clears it away.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import setup_env

from cluster import bootstrap, cgroups, configs, images, node, parts, processes
from cluster.cluster import RECORD, Cluster
from cluster.errors import ClusterError
from cluster.layout import NODE, Layout, state_dir
from cluster.pki import make_pki
from cluster.waiting import wait_until

DEFAULT_GPUS = 8
READY_SECONDS = 120.0
TORN_RECORD = str(Path(RECORD).with_suffix(".new"))
AFTER_API = ("controller-manager", "scheduler", "proxy", "dns", "s3")


def up(state: Path | None = None, *, prometheus: bool = False, gpus: int | None = None) -> Cluster:
    """The cluster that ``KUBECONFIG`` names, or else our node: kept, repaired or started.

    ``gpus``: how many the node has; None keeps what is there, and is 8 for a new one.

    Raises ``ClusterError``; a node that could not be started is taken down again, its logs are kept
    beside the state directory.
    """
    given = _given()
    if given is not None and not given.owned:
        return given
    folder = given.state if given else state_dir(state)
    with _lock(folder):
        found = _find(folder)
        if found is not None:
            if _keep(found, prometheus=prometheus, gpus=gpus):
                return found
            parts.say(f"{folder} is not healthy or not as asked for: taking it down")
        _remove(folder)
        parts.check_machine()
        parts.install(parts.missing_packages(prometheus))
        for name in parts.GO_TOOLS:
            parts.tool(name)
        return _start(folder, prometheus=prometheus, gpus=DEFAULT_GPUS if gpus is None else gpus)


def connect(state: Path | None = None) -> Cluster:
    """The running cluster; starts nothing. Raises ``ClusterError`` when there is none."""
    given = _given()
    if given is not None:
        return given
    folder = state_dir(state)
    found = _find(folder)
    if found is None or not processes.alive(found.layout, processes.NODE_PROCESS):
        raise ClusterError(f"no cluster runs in {folder}: `make cluster-up`, or set KUBECONFIG")
    return found


def down(state: Path | None = None) -> None:
    """Removes our node and every trace of it; fine where there is none."""
    folder = state_dir(state)
    with _lock(folder):
        _remove(folder)


def _start(folder: Path, *, prometheus: bool, gpus: int) -> Cluster:
    begun = time.monotonic()
    with _machine_lock():
        layout = Layout(folder, node.free_slot())
        cluster = Cluster(layout.kubeconfig, layout, gpus=gpus, prometheus=prometheus)
        _claim(folder)
        cluster.save(ready=False)  # before anything else: now `down` knows what to remove
        cgroups.make(layout.cgroup)  # the slot is taken
        for path in (layout.config(""), layout.data("s3") / layout.s3.bucket):
            path.mkdir(parents=True, mode=0o711)
        layout.data("etcd").mkdir(mode=0o700)
    try:
        _bring_up(cluster)
    except BaseException:
        kept = _keep_logs(folder)
        _remove(folder)
        parts.say(f"the cluster did not start; its logs: {kept}")
        raise
    cluster.save(ready=True)
    cluster.started = True
    parts.say(f"the node {NODE} is ready after {time.monotonic() - begun:.1f} s")
    return cluster


def _bring_up(cluster: Cluster) -> None:
    """Everything in the order in which one needs the other, side by side where it can be."""
    layout = cluster.layout
    make_pki(layout)
    configs.write(layout, parts.cni_folder())
    node.start(layout)
    for name in ("etcd", "apiserver", "containerd"):
        cluster.launch(name)
    with ThreadPoolExecutor(1) as pool:
        imported = pool.submit(_import_images, cluster)
        cluster.wait_healthy("apiserver")
        for name in AFTER_API:
            cluster.launch(name)
        cluster.apply(*bootstrap.objects())
        imported.result()
    for name in ("kubelet", "gpu-plugin", *(("prometheus",) if cluster.prometheus else ())):
        cluster.launch(name)
    for name in cluster.component_names:
        cluster.wait_healthy(name)
    if not wait_until(lambda: _usable(cluster), READY_SECONDS):
        raise ClusterError(
            f"the node did not become ready in {READY_SECONDS:g} s; the end of "
            f"{cluster.log('kubelet')}:\n{processes.log_tail(layout, 'kubelet')}"
        )


def _import_images(cluster: Cluster) -> None:
    cluster.wait_healthy("containerd")
    for tool, name in (("pause", parts.PAUSE), ("toolbox", parts.TOOLBOX)):
        archive = cluster.layout.data(f"{tool}.tar")
        images.write_archive(archive, name, parts.tool(tool), platform.machine())
        cluster.import_image(archive)
        archive.unlink()


def _usable(cluster: Cluster) -> bool:
    """Ready, all GPUs there, and pods can be made in the namespace ``default``."""
    found = cluster.try_get("node", NODE)
    if found is None or cluster.try_get("serviceaccount", "default", namespace="default") is None:
        return False
    conditions = {item["type"]: item["status"] for item in found["status"].get("conditions", [])}
    gpus = int(found["status"].get("allocatable", {}).get("nvidia.com/gpu", 0))
    return conditions.get("Ready") == "True" and gpus == cluster.gpus


def _keep(found: Cluster, *, prometheus: bool, gpus: int | None) -> bool:
    """Whether a cluster that is there serves; a Prometheus is added where it is asked for."""
    try:
        record = json.loads((found.state / RECORD).read_text())
        if not record["ready"] or gpus not in (None, found.gpus):
            return False
        if not all(found.healthy(name) for name in found.component_names) or not _usable(found):
            return False
        if prometheus and not found.prometheus:
            parts.install(parts.missing_packages(prometheus=True))
            found.enable_prometheus()
    except ClusterError as error:
        parts.say(str(error))
        return False
    return True


def _find(folder: Path) -> Cluster | None:
    """The cluster that ``folder`` records, healthy or in ruins; None where there is none."""
    try:
        record = json.loads((folder / RECORD).read_text())
        layout = Layout(folder, record["slot"])
        options = {"gpus": record["gpus"], "prometheus": record["prometheus"]}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ClusterError(f"{folder / RECORD}: {error}: remove the directory by hand") from error
    return Cluster(layout.kubeconfig, layout, **options)


def _given() -> Cluster | None:
    """The cluster of ``KUBECONFIG``: one of our nodes where it is that node's file."""
    name = os.environ.get("KUBECONFIG")
    if not name:
        return None
    path = Path(name).absolute()
    ours = _find(path.parent)
    if ours is not None and path == ours.kubeconfig:
        return ours
    return Cluster(path, None)


def _remove(folder: Path) -> None:
    """Ends all processes, then removes what does not vanish with them."""
    found = _find(folder)
    if found is not None:
        layout = found.layout
        cgroups.remove(layout.cgroup)
        gone = wait_until(lambda: layout.link not in node.links(), 5.0, every=0.02)
        if not gone:
            node.remove_link(layout)
        _erase(folder)
    with _machine_lock():
        node.remove_mount_points()


def _claim(folder: Path) -> None:
    """Makes the state directory; one with something else in it is nobody's to remove later."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o711)
    foreign = sorted({path.name for path in folder.iterdir()} - {TORN_RECORD})
    if foreign:
        raise ClusterError(
            f"{folder} is not empty ({foreign[0]}) and not a cluster's: choose another "
            "M2R_CLUSTER_DIR"
        )


def _erase(folder: Path) -> None:
    """Removes the state directory, its record last: interrupted, it can be done again."""
    for path in folder.iterdir():
        if path.name != RECORD:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    shutil.rmtree(folder)


def _keep_logs(folder: Path) -> Path:
    """Copies the logs of a start that failed to where they outlive it."""
    target = setup_env.cache_dir() / "cluster-failed"
    shutil.rmtree(target, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        shutil.copytree(folder / "log", target)
    return target


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One ``up`` or ``down`` of a state directory at a time."""
    name = str(folder).strip("/").replace("/", "-")
    with setup_env.locked(setup_env.cache_dir() / "locks" / f"cluster-{name}.lock"):
        yield


@contextlib.contextmanager
def _machine_lock() -> Iterator[None]:
    """Slots and mount points belong to the machine: one change at a time."""
    with setup_env.locked(setup_env.cache_dir() / "locks" / "cluster-slots.lock"):
        yield
