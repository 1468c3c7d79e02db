"""A node comes from nothing and goes without a trace, also when its start is cut short.

These tests start nodes of their own, in other state directories, beside the one of the session.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import TOOLBOX, Cluster, ClusterError, connect, up
from cluster.cgroups import members
from cluster.layout import MOUNTS
from cluster.waiting import wait_until

TOOL = Path(__file__).parents[2] / "tools" / "cluster"
OTHERS = re.compile(r"/m2r-cluster-\d+(/|$)|/k8s\.io/")  # cgroups of other clusters
WATCHED = ("/var/lib", "/run", "/var/log", "/var/lib/cni", "/run/netns")


def traces(state: Path) -> set[str]:
    """What a node could leave on the host: links, routes, mounts, rules, cgroups, folders.

    Of the mounts only those that name a node's folders: builders of images mount, too.
    """
    found: set[str] = set()
    for command in (["ip", "-o", "-br", "link"], ["ip", "route"], ["iptables-save"]):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        # Rules of the firewall are compared without their counters and dates.
        found.update(f"{command[0]} {line}" for line in done.stdout.splitlines() if line[0] != "#")
    ours = (f"{state}/", *(f"{path}/" for path in MOUNTS.values()))
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    found.update(line for line in mounts if any(path in line for path in ours))
    for folder, names, _ in os.walk("/sys/fs/cgroup"):
        names[:] = [name for name in names if not OTHERS.search(f"{folder}/{name}")]
        found.add(f"cgroup {folder}")
    for folder in map(Path, WATCHED):
        found.update(map(str, folder.iterdir() if folder.is_dir() else ()))
    return found


def processes(state: Path) -> list[str]:
    """Command lines that name the state directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if f"{state}/" in line:
            found.append(line)
    return found


@pytest.fixture
def state(cluster: Cluster) -> Iterator[Path]:
    """The state directory of another node, which is gone afterwards whatever happened."""
    with tempfile.TemporaryDirectory(prefix="m2r-", dir="/tmp") as folder:
        path = Path(folder) / "c"
        yield path
        run(path, "down")


def environment(state: Path, **more: str) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    return {**env, "M2R_CLUSTER_DIR": str(state), **more}


def run(
    state: Path, *args: str, check: bool = True, **more: str
) -> subprocess.CompletedProcess[str]:
    """``python tools/cluster ARGS`` for the node in ``state``."""
    done = subprocess.run(
        [sys.executable, str(TOOL), *args],
        env=environment(state, **more),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def leaves_nothing(state: Path, before: set[str]) -> None:
    """Fails with what is left of the node in ``state``."""
    wait_until(lambda: not traces(state) - before, 10, every=0.5)  # the kernel takes its time
    assert sorted(traces(state) - before) == []
    assert not state.exists()
    assert processes(state) == []


def pid_of(state: Path, name: str) -> int:
    return int(json.loads((state / "run" / f"{name}.json").read_text())["pid"])


def test_a_node_is_kept_mended_and_removed_without_a_trace(state: Path) -> None:
    before = traces(state)
    shown = run(state, "up")
    assert f"export KUBECONFIG={state}/admin.kubeconfig" in shown.stdout
    assert "ready after" in shown.stderr
    node = up(state)
    assert not node.started, "a healthy node is kept"
    container = {"name": "main", "image": TOOLBOX, "args": ["ignore-term"]}
    node.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p", "namespace": "default"},
            "spec": {"containers": [container]},
        }
    )
    node.wait("it runs", lambda: node.phase("default", "p") == "Running", namespace="default")
    assert len(members(node.layout.cgroup)) > 10

    (state / "run" / "apiserver.json").write_text(json.dumps({"pid": os.getpid(), **OTHER_START}))
    assert not node.alive("apiserver"), "this test's own process is not the API server"
    node.kill("apiserver")  # and is not harmed

    first = pid_of(state, "etcd")
    assert "taking it down" in run(state, "up").stderr, "a broken node is made anew"
    assert pid_of(state, "etcd") != first
    assert connect(state).get("nodes")["items"]
    run(state, "down")
    leaves_nothing(state, before)
    run(state, "down")  # again: nothing to do
    with pytest.raises(ClusterError, match="no cluster runs in"):
        connect(state)


OTHER_START = {"started": 1, "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip()}


@pytest.mark.parametrize("seconds", [0.5, 1.5, 4.0])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill", "interrupt"])
def test_a_start_that_is_cut_short_leaves_nothing_that_down_does_not_remove(
    state: Path, seconds: float, number: signal.Signals
) -> None:
    before = traces(state)
    start = subprocess.Popen(
        [sys.executable, str(TOOL), "up"], env=environment(state), stderr=subprocess.DEVNULL
    )
    time.sleep(seconds)
    start.send_signal(number)
    start.wait(120)
    if number is signal.SIGKILL:
        run(state, "down")
    leaves_nothing(state, before)


def test_a_folder_of_somebody_else_is_neither_used_nor_removed(state: Path) -> None:
    state.mkdir()
    (state / "thesis.txt").write_text("years")
    done = run(state, "up", check=False)
    assert done.returncode == 1
    assert f"cluster: {state} is not empty (thesis.txt)" in done.stderr
    run(state, "down")
    assert (state / "thesis.txt").read_text() == "years"
    (state / "thesis.txt").unlink()


def test_a_kubeconfig_is_used_as_it_is(
    cluster: Cluster, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = state.parent / "kubeconfig"
    copy.write_text(cluster.kubeconfig.read_text())
    shown = run(state, "up", KUBECONFIG=str(copy))
    assert "nothing started" in shown.stdout
    assert not state.exists()
    monkeypatch.setenv("KUBECONFIG", str(copy))
    foreign = up(state)
    assert not foreign.owned
    assert foreign.node == cluster.node
    with pytest.raises(ClusterError, match="not a node of ours"):
        foreign.kill("apiserver")
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    assert connect(state).owned == cluster.owned


def test_prometheus_is_added_and_scrapes_annotated_pods(state: Path) -> None:
    assert up(state).prometheus is None
    node = up(state, prometheus=True)
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"}
    for name in ("asked", "other"):
        container = {"name": "main", "image": TOOLBOX, "args": ["serve"]}
        metadata = {"name": name, "namespace": "default", "labels": {"m2r.dev/run": name}}
        if name == "asked":
            metadata["annotations"] = annotations  # type: ignore[assignment]
        node.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": metadata,
                "spec": {"containers": [container]},
            }
        )
    node.wait("it runs", lambda: node.phase("default", "asked") == "Running", namespace="default")
    assert len(node.scrape("default")) == 1
    query = urllib.parse.urlencode({"query": "toolbox_answer"})

    def series() -> list[dict[str, object]]:
        with urllib.request.urlopen(f"{node.prometheus}/api/v1/query?{query}", timeout=5) as answer:
            found: list[dict[str, object]] = json.load(answer)["data"]["result"]
            return found

    (found,) = node.wait("it is scraped", series, seconds=30)
    assert found["metric"]["m2r_dev_run"] == "asked"  # type: ignore[index]
    assert found["metric"]["pod"] == "asked"  # type: ignore[index]
    assert found["value"][1] == "42"  # type: ignore[index]
