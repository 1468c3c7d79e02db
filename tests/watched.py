"""Real runs and a real operator under the eyes of a real Prometheus.

Stages run as pods run them, one after another, each with its port and the labels that the chart's
PodMonitor would give it. The operator's controller works on a played API server and is served by
the operator's own code.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fakeapi import FakeApi
from operator_objects import done, rlvr, seen, sft, uid
from promserver import Server
from runs import KILLED, M2R, Golden
from s3server import free_port
from trials import Trial

from m2r_operator.client import Client
from m2r_operator.controller import Controller
from m2r_operator.health import Probes
from m2r_operator.metrics import Metrics
from m2r_operator.state import Defaults, Measured, RunSeen
from m2r_train.api import Storage

NAMESPACE = "lab"
DEVICE = {"M2R_PEAK_TFLOPS": "0.1"}  # of about a core; nobody knows the peak of a CPU
OPERATOR = {"namespace": "m2r-system", "instance": "operator", "job": "m2r-operator"}


@dataclass(frozen=True)
class Watched:
    """A run that was scraped: its labels, and when a scrape saw it last."""

    labels: Mapping[str, str]
    end: float


def watch(
    server: Server,
    golden: Golden,
    m2r: M2R,
    name: str,
    home: Path,
    *,
    steps: Mapping[str, int] | None = None,
    kill_at: str | None = None,
    within: float = 600,
) -> Watched:
    """Run a stage of the golden run again, scraped; ``kill_at``: after an attempt that dies there.

    ``steps`` are fields of the spec by their path. Raises TimeoutError after ``within`` seconds.
    """
    home.mkdir(parents=True)
    trial = Trial(m2r, golden, name, home)
    for path, value in (steps or {}).items():
        trial.change(path, value)
    kind = trial.spec.kind
    labels = {
        "namespace": NAMESPACE, "run_kind": kind, "run": name, "index": "0",
        "instance": f"{NAMESPACE}/{kind}/{name}",
    }  # fmt: skip
    port = free_port()
    server.scrape(port, labels)
    if kill_at is not None:
        died = trial.start(port=port, M2R_KILL_AT=kill_at, **DEVICE).wait()
        assert died.code == KILLED, died.err
        trial.spec = trial.spec.model_copy(update={"attempt": 2})
        (home / "spec.json").write_text(trial.spec.to_json())
    ended = trial.start(port=port, **DEVICE).wait(within)
    assert ended.code == 0, ended.err
    server.forget(port)
    return Watched(labels, server.last_seen(f'instance="{labels["instance"]}"'))


_QUEUED_SECONDS = 2.0  # in which runs wait for a worker: two points of a panel


@contextlib.contextmanager
def operator(
    server: Server,
    taken: Sequence[tuple[str, str]] = (),
    running: Sequence[tuple[str, str]] = (),
) -> Iterator[None]:
    """An operator that has some runs, looks at one of them each half second, and is scraped.

    ``taken`` are kinds and names of runs that it tells were taken away again and again, ``running``
    of those that never were.
    """
    begun = [_Begun(*run, most=4) for run in taken] + [_Begun(*run, most=0) for run in running]
    played = _Operator(free_port(), begun)
    problems = list[BaseException]()

    def work() -> None:
        try:
            asyncio.run(played.operate())
        except BaseException as error:
            problems.append(error)
            raise

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        assert played.ready.wait(30)
        server.scrape(played.port, OPERATOR)
        played.scraped.set()
        yield
    finally:
        played.stop.set()
        thread.join(30)
    assert not problems


class _Begun:
    """A run that loses another attempt each two seconds, until it has lost ``most``."""

    def __init__(self, kind: str, name: str, most: int) -> None:
        self._kind, self._name, self._most = kind, name, most
        self._begun: float | None = None  # the first look at it

    def seen(self) -> RunSeen:
        now = time.monotonic()
        self._begun = now if self._begun is None else self._begun
        lost = min(self._most, int(now - self._begun) // 2)
        phase = "Running" if lost % 2 or self._most == 0 else "Preempted"
        status = {"phase": phase, "attempt": 1 + lost, "restarts": {"disruptions": lost}}
        meta = {"name": self._name, "namespace": NAMESPACE, "uid": uid(self._name)}
        return seen({"kind": self._kind, "metadata": meta, "spec": {}, "status": status})


@dataclass
class _Operator:
    """The operator's thread, and what it and the test wait for."""

    port: int
    begun: list[_Begun]
    ready: threading.Event = field(default_factory=threading.Event)  # it can be scraped
    scraped: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)

    async def operate(self) -> None:
        metrics = Metrics()
        async with FakeApi().serve() as api:
            client = Client(api.credentials, count=metrics.request)
            controller = Controller(
                client, Defaults(storage=Storage(uri="s3://bucket/p")), metrics,
                identity="me", poll_seconds=5,
            )  # fmt: skip
            metrics.show(
                lambda: [*controller.runs, *(one.seen() for one in self.begun)],
                leads=lambda: True, depth=lambda: controller.queue.depth,
            )  # fmt: skip
            async with Probes("127.0.0.1", 0, self.port, metrics, lambda: "", lambda: ""):
                _put(controller, api, rlvr("finished", status=_FINISHED))
                _put(controller, api, rlvr("failed", status=_FAILED))
                metrics.relisted("pods")
                self.ready.set()
                while not (self.scraped.is_set() or self.stop.is_set()):
                    await asyncio.sleep(0.1)
                await asyncio.sleep(_QUEUED_SECONDS)
                controller.queue.start()
                number = 0
                while not self.stop.is_set():
                    number += 1
                    if number % 20 == 0:
                        api.fail(lambda request: request.writes, status=503)
                    _put(controller, api, sft(f"live-{number % 8}"))
                    _events(metrics, number)
                    await asyncio.sleep(0.5)
            await controller.queue.stop(1)
            await client.close()


def _put(controller: Controller, api: FakeApi, body: dict[str, Any]) -> None:
    plural = {"SFTJob": "sftjobs", "RLVRJob": "rlvrjobs"}[body["kind"]]
    meta = {k: v for k, v in body["metadata"].items() if k != "resourceVersion"}
    controller.runs.put(body["kind"], api.put(plural, {**body, "metadata": meta}))


def _events(metrics: Metrics, number: int) -> None:
    """What needs nodes and pods, told as the controller tells it."""
    metrics.polled(number % 10 > 0)
    metrics.relisted("jobs")
    metrics.measured(Measured(series="m2r_recovery_seconds", value=4.0 + number % 3))
    labels = {"kind": "SFTJob", "class": "Preempted" if number % 2 else "Crash"}
    metrics.measured(Measured(series="m2r_restarts_total", labels=labels))
    if number % 4 == 0:
        metrics.failed("SFTJob")


_FINISHED = {
    **done(modelUri="s3://m"), "progress": {"step": 7, "totalSteps": 7},
    "metrics": {"rewardMean": 0.5, "score": 40.0}, "activeSeconds": 60,
}  # fmt: skip
_FAILED = {
    **_FINISHED, "phase": "Failed",
    "conditions": [{**_FINISHED["conditions"][0], "type": "Failed"}],
}  # fmt: skip
