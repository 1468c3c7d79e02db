"""How fast, how frugal and how calm the operator is, on a real control plane.

Runs are created at a steady rate by 16 threads; a watch says when their Jobs and pods appear. The
pods ask for a node that does not exist, so that what is measured is the control plane and not the
machine's containers. The watch asks for metadata alone and the runs are sent as they are: an
onlooker that reads whole pods into objects takes a core of the two that it looks at. Writes are
those of everybody (operator, Job controller, scheduler, kubelet), leases and events left out, as
``apiserver_request_total`` counts them. Latency is from the return of the create call to the event
of the child. Processor seconds are those of each part of the control plane during the burst.

    python bench/bench_operator.py [--repeats 5] [--bursts 3] [--many 1000] [--json FILE]

Exit code 1 when a bound of `BOUNDS` is missed. Needs root for the node (or ``KUBECONFIG``).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tools"), str(ROOT)]

from cluster import Cluster, ClusterError, connect, down, up  # noqa: E402
from kubernetes import client, config  # noqa: E402
from lab import Operator, credentials  # noqa: E402
from plays import play, rlvr  # noqa: E402

from images import build  # noqa: E402
from m2r_operator import names  # noqa: E402

THREADS: Final = 16
METADATA: Final = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
GROUP: Final = ("m2r.dev", "v1alpha1")
NOWHERE: Final = {"nodeSelector": {"m2r.dev/bench": "no-such-node"}}
BOUNDS: Final = {  # name: (unit, most)
    "create to Job, p50, at 20/s": ("s", 0.075),
    "create to Job, p99, at 20/s": ("s", 0.165),
    "all pods of 1,000 runs at 100/s": ("s", 30.0),
    "writes a run until its pod is there, at 20/s": ("writes", 7.0),
    "writes a run until its pod is there, at 100/s": ("writes", 7.0),
    "memory, idle": ("MiB", 150.0),
    "memory, 1,000 runs": ("MiB", 195.0),
    "restart with 200 runs, until it is steady": ("s", 5.0),
    "restart with 200 runs, writes": ("writes", 0.0),
}


class Api:
    """The API server as a user and an onlooker have it."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        config.load_kube_config(str(cluster.kubeconfig))
        self.cluster, self.namespace = cluster, namespace

    def create(self, body: dict[str, Any]) -> None:
        """One run; a connection for each thread."""
        api = getattr(_OWN, "api", None)
        if api is None:
            api = _OWN.api = client.CustomObjectsApi(client.ApiClient())
        api.create_namespaced_custom_object(*GROUP, self.namespace, "rlvrjobs", body)

    def writes(self) -> float:
        """Writes so far, of everybody, without leases and events."""
        text = self.cluster.kubectl("get", "--raw", "/metrics")
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith("apiserver_request_total")
            and re.search(r'verb="(POST|PUT|PATCH|APPLY|DELETE)"', line)
            and not re.search(r'resource="(leases|events)"', line)
        )


_OWN = threading.local()


class Onlooker:
    """When the first child of each run was seen, by kind, on the clock of `time.perf_counter`."""

    def __init__(self, namespace: str) -> None:
        self.seen: dict[str, dict[str, float]] = {"job": {}, "pod": {}}
        self._stop = threading.Event()
        for kind, path in (("job", "/apis/batch/v1"), ("pod", "/api/v1")):
            arguments = (kind, f"{path}/namespaces/{namespace}/{kind}s")
            threading.Thread(target=self._watch, args=arguments, daemon=True).start()

    def _watch(self, kind: str, path: str) -> None:
        api, seen = client.ApiClient(), self.seen[kind]
        while not self._stop.is_set():
            request = api.param_serialize(
                "GET", path, header_params={"Accept": METADATA}, auth_settings=["BearerToken"],
                query_params=[("watch", "true"), ("timeoutSeconds", "20")],
            )  # fmt: skip
            response = api.call_api(*request)
            if response.status != 200:  # its cache is behind: again
                continue
            for line in _lines(response.response):
                labels = json.loads(line)["object"]["metadata"].get("labels", {})
                seen.setdefault(labels.get(names.NAME, ""), time.perf_counter())
                if self._stop.is_set():
                    return

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()


def _lines(response: Any) -> Iterator[bytes]:
    rest = b""
    for part in response.stream(1 << 16):
        *whole, rest = (rest + part).split(b"\n")
        yield from filter(None, whole)


def burst(api: Api, prefix: str, n: int, rate: float) -> dict[str, Any]:
    """Creates ``n`` runs at ``rate`` a second; latencies, seconds until all pods are there."""
    onlooker, created = Onlooker(api.namespace), {}
    time.sleep(1.0)
    before, used, begun = api.writes(), processors(), time.perf_counter()

    def one(i: int) -> None:
        pause = begun + i / rate - time.perf_counter()
        if pause > 0:
            time.sleep(pause)
        name = f"{prefix}-{i}"
        api.create(rlvr(name, uri=play(), scheduling=NOWHERE))
        created[name] = time.perf_counter()

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(one, range(n)))
    deadline = time.perf_counter() + 300
    while time.perf_counter() < deadline:
        if all(sum(r in created for r in seen) == n for seen in map(dict, onlooker.seen.values())):
            break
        time.sleep(0.05)
    total = time.perf_counter() - begun
    used = {name: seconds - used.get(name, 0.0) for name, seconds in processors().items()}
    onlooker.stop()
    time.sleep(3.0)
    missing = set(created) - set(onlooker.seen["job"])
    if missing or len(created) < n:
        raise SystemExit(f"{len(missing)} of {len(created)} runs have no Job after 300 s")
    waits = sorted(onlooker.seen["job"][name] - at for name, at in created.items())
    return {
        "p50": waits[len(waits) // 2],
        "p99": waits[min(len(waits) - 1, int(0.99 * len(waits)))],
        "all_pods": total,
        "processors": used,
        "writes": (api.writes() - before) / n,
    }


def memory(pid: int) -> float:
    """MiB of a process."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def processor(pid: int) -> float:
    """Seconds of processor time of a process."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def processors() -> dict[str, float]:
    """Seconds of processor time of this process and the control plane's, by name of the program."""
    parts = ("kube-apiserver", "etcd", "kube-controller", "kube-scheduler", "containerd", "kubelet")
    found = {"this benchmark": time.process_time()}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):
                name = (folder / "comm").read_text().strip()
                if name.startswith(parts):
                    found[name] = found.get(name, 0.0) + processor(int(folder.name))
    return found


def delete_all(api: Api) -> None:
    """All runs of the namespace, and their children."""
    cluster, namespace = api.cluster, api.namespace
    cluster.kubectl("delete", "rlvrjobs", "--all", "--wait=false", namespace=namespace, seconds=600)

    def gone(resource: str) -> bool:
        return not cluster.get(resource, namespace=namespace)["items"]

    for resource in ("rlvrjobs.m2r.dev", "jobs", "pods"):
        cluster.wait(f"no {resource}", partial(gone, resource), seconds=600, every=1.0)


def running_writes(api: Api, n: int = 20) -> float:
    """Writes a run, of everybody, from its creation until its pod runs and its status says so."""
    before = api.writes()
    for i in range(n):
        api.create(rlvr(f"live-{i}", uri=play(steps=100_000, stepSeconds=60)))

    def all_run() -> bool:
        found = api.cluster.get("rlvrjobs.m2r.dev", namespace=api.namespace)["items"]
        return len(found) == n and all(
            one.get("status", {}).get("phase") == "Running" for one in found
        )

    api.cluster.wait("all run", all_run, seconds=300, every=0.5)
    time.sleep(1.0)
    return (api.writes() - before) / n


def restart(api: Api, operator: Operator, n: int = 200) -> tuple[float, float]:
    """Seconds until a restarted operator knows its runs and decides, and its writes in 20 s."""
    for i in range(n):
        api.create(rlvr(f"rest-{i}", uri=play(), scheduling=NOWHERE))
    api.cluster.wait(
        "all pods", lambda: len(api.cluster.get("pods", namespace=api.namespace)["items"]) == n,
        seconds=300, every=1.0,
    )  # fmt: skip
    time.sleep(15.0)  # what is said of a pod that finds no place is said after ten seconds
    operator.kill()
    since, begun = datetime.now(UTC), time.monotonic()
    operator.start(wait=False)
    while not operator.has_said(f"works on {n} runs"):
        assert time.monotonic() - begun < 60, "it does not come to work"
        time.sleep(0.02)
    steady = time.monotonic() - begun
    time.sleep(20.0)
    found = api.cluster.writes(user_agent=names.MANAGER, since=since)
    return steady, sum(c for (_, what), c in found.items() if what not in ("leases", "events"))


@contextmanager
def bench(folder: Path) -> Iterator[tuple[Api, Operator]]:
    """A namespace with a leading operator; the node goes again if it was started for this."""
    try:
        cluster = connect()
    except ClusterError:
        cluster = up()
    namespace = f"bench-{uuid.uuid4().hex[:6]}"
    try:
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
        cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        image = build("standin")
        cluster.import_image(image.archive)
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        cluster.apply(credentials(cluster), namespace=namespace)
        operator = Operator(cluster, namespace, folder, image.short).start()
        try:
            yield Api(cluster, namespace), operator
        finally:
            operator.kill()
            cluster.delete("namespace", namespace, wait=True, seconds=600)
    finally:
        if cluster.started:
            down()


def measure(repeats: int, bursts: int, many: int) -> dict[str, list[float]]:
    """Every figure, one value for each repetition."""
    found: dict[str, list[float]] = {name: [] for name in BOUNDS}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    with tempfile.TemporaryDirectory() as folder, bench(Path(folder)) as (api, operator):
        time.sleep(5.0)
        note("memory, idle", memory(operator.pid))
        for n in range(repeats):
            slow = burst(api, f"slow{n}", 100, 20)
            note("create to Job, p50, at 20/s", slow["p50"])
            note("create to Job, p99, at 20/s", slow["p99"])
            note("writes a run until its pod is there, at 20/s", slow["writes"])
            delete_all(api)
        note("writes a run until its pod runs and its status says so", running_writes(api))
        delete_all(api)
        for n in range(bursts):
            before = processor(operator.pid)
            fast = burst(api, f"fast{n}", many, 100)
            note("all pods of 1,000 runs at 100/s", fast["all_pods"])
            note("writes a run until its pod is there, at 100/s", fast["writes"])
            note("create to Job, p50, at 100/s", fast["p50"])
            note("create to Job, p99, at 100/s", fast["p99"])
            note("processor seconds for them, operator", processor(operator.pid) - before)
            for name, seconds in fast["processors"].items():
                note(f"processor seconds for them, {name}", seconds)
            note("memory, 1,000 runs", memory(operator.pid))
            delete_all(api)
        seconds, writes = restart(api, operator)
        note("restart with 200 runs, until it is steady", seconds)
        note("restart with 200 runs, writes", writes)
        delete_all(api)
    return found


def main() -> int:
    """Measures, prints a table, compares with the bounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="of the 100 runs at 20/s")
    parser.add_argument("--bursts", type=int, default=3, help="of --many runs at 100/s")
    parser.add_argument("--many", type=int, default=1000, help="runs at 100/s")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    given = parser.parse_args()
    found = measure(given.repeats, given.bursts, given.many)
    missed = []
    print("| figure | minimum | median | maximum | bound |")
    print("|---|---|---|---|---|")
    for name, values in found.items():
        unit, most = BOUNDS.get(name, ("", float("inf")))
        median = statistics.median(values)
        bound = f"{most:g} {unit}" if name in BOUNDS else "-"
        print(f"| {name} | {min(values):.3f} | {median:.3f} | {max(values):.3f} | {bound} |")
        if median > most:
            missed.append(name)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    for name in missed:
        print(f"missed: {name}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
