"""A namespace with an operator in it: what the cluster tests of the operator work with.

The operator is the real program as a process of this machine (it can be killed with -9, stopped
and started at will); the chart's tests run the same program in pods.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from cluster import Cluster

from m2r_operator import names

T = TypeVar("T")
ROOT: Final = Path(__file__).parents[1]
SECRET: Final = "s3"
FINISHED: Final = ("Succeeded", "Failed")


@dataclass
class Operator:
    """One operator process. ``identity`` is what it calls itself in the Lease."""

    cluster: Cluster
    namespace: str
    folder: Path
    image: str
    identity: str = "operator-1"
    more: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None
    _born: int = 0  # bytes of the log before this life

    @property
    def arguments(self) -> list[str]:
        """Its flags."""
        given = {
            "--namespaces": self.namespace,
            "--lease-namespace": self.namespace,
            "--lease-name": "m2r-operator",
            "--identity": self.identity,
            "--default-image": self.image,
            "--storage-uri": f"s3://{self.cluster.s3.bucket}/{self.namespace}",
            "--storage-endpoint": self.cluster.s3.endpoint,
            "--storage-region": self.cluster.s3.region,
            "--storage-secret": SECRET,
            "--host": "127.0.0.1",
            "--health-port": "0",
            "--metrics-port": "0",
            "--poll-seconds": "1",
            "--kubeconfig": str(self.cluster.kubeconfig),
        }
        return [word for pair in given.items() for word in pair] + list(self.more)

    @property
    def log(self) -> Path:
        """What it has written, over all its lives."""
        return self.folder / f"{self.identity}.log"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> Operator:
        """Starts it; with ``wait`` returns when it leads."""
        assert not self.alive
        with self.log.open("ab") as log:
            self._born = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "m2r_operator", *self.arguments],
                cwd=ROOT,
                env={
                    **{k: v for k, v in os.environ.items() if not k.startswith("M2R_OPERATOR_")},
                    "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
                    **self.env,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            self.cluster.wait(f"{self.identity} leads", self.leads, seconds=60, every=0.1)
        return self

    def leads(self) -> bool:
        """Whether the Lease names this process."""
        assert self.alive, f"the operator has ended: {self.log.read_text()[-4000:]}"
        return holder(self.cluster, self.namespace) == self.identity

    def has_said(self, words: str) -> bool:
        """Whether the log of its present life has these words."""
        with self.log.open("rb") as log:
            log.seek(self._born)
            return words.encode() in log.read()

    def kill(self) -> None:
        """SIGKILL: it can clean up nothing."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()

    def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM; its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(seconds)

    def pause(self) -> None:
        """SIGSTOP: it lives and does nothing, as a machine that hangs."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)


def holder(cluster: Cluster, namespace: str) -> str | None:
    """Who leads."""
    lease = cluster.try_get("lease", "m2r-operator", namespace=namespace)
    return lease["spec"].get("holderIdentity") if lease else None


@dataclass
class Lab:
    """A namespace, its operator, and questions to the API server."""

    cluster: Cluster
    namespace: str
    operator: Operator

    def apply(self, *manifests: Mapping[str, Any]) -> None:
        """``kubectl apply --server-side``."""
        self.cluster.apply(*map(dict, manifests), namespace=self.namespace)

    def run(self, kind: str, name: str) -> dict[str, Any]:
        """The resource as it is now."""
        return self.cluster.get(names.PLURALS[kind] + ".m2r.dev", name, namespace=self.namespace)

    def try_run(self, kind: str, name: str) -> dict[str, Any] | None:
        """The resource, or None."""
        plural = names.PLURALS[kind] + ".m2r.dev"
        return self.cluster.try_get(plural, name, namespace=self.namespace)

    def status(self, kind: str, name: str) -> dict[str, Any]:
        """Its status."""
        return dict(self.run(kind, name).get("status", {}))

    def condition(self, kind: str, name: str, condition: str) -> dict[str, Any] | None:
        """One of its conditions."""
        for one in self.status(kind, name).get("conditions", []):
            if one["type"] == condition:
                return dict(one)
        return None

    def phase(self, kind: str, name: str) -> str | None:
        """Its phase."""
        return self.status(kind, name).get("phase")

    def until(self, what: str, probe: Callable[[], T | None], seconds: float = 120.0) -> T:
        """Waits for something; a failure shows the namespace and the operator's last words."""
        try:
            return self.cluster.wait(
                what, probe, seconds=seconds, every=0.2, namespace=self.namespace
            )
        except AssertionError as error:
            words = self.operator.log.read_text()[-6000:] if self.operator.log.exists() else ""
            raise AssertionError(f"{error}\n== operator\n{words}") from None

    def until_phase(self, kind: str, name: str, *phases: str, seconds: float = 180.0) -> str:
        """Waits until the run is in one of the phases; a run that ends otherwise fails at once."""

        def probe() -> str | None:
            phase = self.phase(kind, name)
            if phase in FINISHED and phase not in phases:
                pytest_fail = json.dumps(self.status(kind, name), indent=1)
                raise RuntimeError(f"{kind}/{name} has ended as {phase}: {pytest_fail}")
            return phase if phase in phases else None

        return self.until(f"{kind}/{name} is {' or '.join(phases)}", probe, seconds)

    def until_step(self, kind: str, name: str, step: int, seconds: float = 120.0) -> None:
        """Waits until the trainer itself says that it has finished ``step`` steps."""
        self.until(
            f"{kind}/{name} is at step {step}",
            lambda: (self.told(kind, name) or {}).get("step", 0) >= step or None,
            seconds,
        )

    def told(self, kind: str, name: str) -> dict[str, Any] | None:
        """What the first live pod answers on /status; None when there is none that does."""
        for pod in self.pods(kind, name):
            address = pod["status"].get("podIP")
            if pod["status"]["phase"] != "Running" or not address:
                continue
            with contextlib.suppress(OSError, ValueError):
                return http_json(f"http://{address}:{names.PORT}/status")
        return None

    def jobs(self, kind: str, name: str) -> list[dict[str, Any]]:
        """Its Jobs, oldest attempt first."""
        found = self.cluster.get("jobs", namespace=self.namespace, selector=selector(kind, name))
        return sorted(found["items"], key=lambda j: int(j["metadata"]["labels"][names.ATTEMPT]))

    def pods(self, kind: str, name: str) -> list[dict[str, Any]]:
        """Its pods that the API server knows, newest attempt first."""
        found = self.cluster.get("pods", namespace=self.namespace, selector=selector(kind, name))
        return sorted(found["items"], key=lambda p: -int(p["metadata"]["labels"][names.ATTEMPT]))

    def live_pods(self, kind: str, name: str) -> list[dict[str, Any]]:
        """Those whose processes may run."""
        ended = ("Succeeded", "Failed")
        return [p for p in self.pods(kind, name) if p["status"].get("phase") not in ended]

    def events(self, name: str) -> list[str]:
        """Reasons of the events about a run, oldest first."""
        found = self.cluster.get("events", namespace=self.namespace)["items"]
        own = [e for e in found if e["involvedObject"]["name"] == name]
        return [e["reason"] for e in sorted(own, key=lambda e: e["metadata"]["creationTimestamp"])]


def selector(kind: str, name: str) -> str:
    """The children of a run."""
    return f"{names.KIND}={kind},{names.NAME}={name}"


def http_json(url: str) -> dict[str, Any]:
    """GET of a JSON document."""
    import urllib.request

    with urllib.request.urlopen(url, timeout=2) as answer:
        return dict(json.load(answer))


def credentials(cluster: Cluster) -> dict[str, Any]:
    """The Secret that runs read the store with."""
    s3 = cluster.s3
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET},
        "stringData": {
            "AWS_ACCESS_KEY_ID": s3.access_key,
            "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        },
    }


@contextlib.contextmanager
def lab(
    cluster: Cluster, namespace: str, folder: Path, image: str, *more: str, start: bool = True
) -> Iterator[Lab]:
    """A lab with a leading operator; the operator is killed at the end."""
    cluster.apply(credentials(cluster), namespace=namespace)
    operator = Operator(cluster, namespace, folder, image, more=more)
    if start:
        operator.start()
    try:
        yield Lab(cluster, namespace, operator)
    finally:
        if operator.alive:
            operator.kill()


def seconds_since(start: float) -> float:
    """Of the monotonic clock."""
    return time.monotonic() - start
