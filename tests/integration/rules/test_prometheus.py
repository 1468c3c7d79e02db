"""A real Prometheus with the chart's rules: an alert waits, then fires; a healthy run has none.

Two runs are told by the trainer's own server, step after step. Only how long an alert waits is
changed, since that is a field of its declaration: minutes become seconds.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from promserver import Server, prometheus
from s3server import free_port

from m2r_operator.health import Probes
from m2r_operator.metrics import Metrics
from m2r_train.telemetry.history import StepRecord
from m2r_train.telemetry.metrics import MetricSet
from m2r_train.telemetry.rules import ALERTS, rules
from m2r_train.telemetry.server import StatusServer

pytestmark = [pytest.mark.prometheus, pytest.mark.timeout(600)]

WAIT = "3s"
NAMED = "M2RRepetition"
RUN = {"namespace": "lab", "run_kind": "RLVRJob"}


def record(step: int, repetition: float) -> StepRecord:
    """A step of RLVR as its history has it."""
    return {
        "step": step, "task": "Rooms", "reward": 0.5, "reward_std": 0.2, "loss": 0.1,
        "grad_norm": 1.0, "repetition": repetition, "zero_signal": 0.3, "sampler_logp_diff": 0.01,
    }  # fmt: skip


class Exporter:
    """A trainer's server that tells of a run, and how much of it repeats itself."""

    def __init__(self, name: str, repetition: float) -> None:
        self.labels = {**RUN, "run": name, "instance": f"lab/RLVRJob/{name}"}
        self.repetition = repetition
        self.metrics = MetricSet(label_values={"task": ["Rooms"]})
        self.server = StatusServer(self.metrics, host="127.0.0.1", port=0)
        self._step = 0

    def step(self) -> None:
        """Tell one more step, as `stages.context` does."""
        self._step += 1
        self.metrics.record_step(record(self._step, self.repetition))
        self.metrics.set("m2r_step", self._step)
        for name in ("m2r_last_step_timestamp_seconds", "m2r_checkpoint_last_timestamp_seconds"):
            self.metrics.set(name, time.time())
        self.metrics.set("m2r_alarm", 0.0, sign="Divergence")


@contextmanager
def watched(home: Path) -> Iterator[tuple[Server, Exporter, Exporter]]:
    """Prometheus, a run that repeats itself and one that is well."""
    home.mkdir(exist_ok=True)
    short = [replace(one, wait=WAIT) for one in ALERTS]
    (home / "rules.yaml").write_text(json.dumps(rules(short)))
    with ExitStack() as stack:
        server = stack.enter_context(prometheus(home / "prometheus", home / "rules.yaml"))
        made = [Exporter("loops", 0.02), Exporter("well", 0.02)]
        for one in made:
            one.step()
            stack.enter_context(one.server)
            server.scrape(one.server.port, one.labels)
        yield server, made[0], made[1]


def states(server: Server, run: str) -> set[tuple[str, str]]:
    """The alerts on a run and their states, now."""
    found = server.api.at(f'ALERTS{{run="{run}"}}', time.time())
    return {(one.labels["alertname"], one.labels["alertstate"]) for one in found}


def told(server: Server, run: str, state: str) -> list[float]:
    """When the alert on a run was in a state, in Unix seconds."""
    query = f'ALERTS{{run="{run}", alertname="{NAMED}", alertstate="{state}"}}[10m]'
    (found,) = server.api.samples(query, time.time())
    return [moment for moment, _ in found.points]


def seen(exporters: Sequence[Exporter], ready: Callable[[], bool], seconds: float = 100) -> bool:
    """Whether ``ready`` comes to be true while the runs go on."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for one in exporters:
            one.step()
        if ready():
            return True
        time.sleep(0.2)
    return False


def test_an_alert_becomes_pending_fires_and_ends_while_a_healthy_run_has_none(
    tmp_path: Path,
) -> None:
    with watched(tmp_path) as (server, loops, well):
        both = (loops, well)
        assert seen(both, lambda: len(server.api.at("m2r_repetition_ratio", time.time())) == 2)
        assert states(server, "loops") == set()
        loops.repetition = 0.6
        assert seen(both, lambda: states(server, "loops") == {(NAMED, "firing")})
        pending, firing = (told(server, "loops", state) for state in ("pending", "firing"))
        assert firing[0] - pending[0] > 2.9  # the alert's own wait
        assert pending[-1] < firing[0]
        (alert,) = server.api.at('ALERTS{alertstate="firing", run="loops"}', time.time())
        kept = ("alertname", "alertstate", "namespace", "run_kind", "run", "severity")
        assert set(alert.labels) == {"__name__", *kept}
        assert alert.labels["severity"] == "warning"
        loops.repetition = 0.02
        assert seen(both, lambda: states(server, "loops") == set())
        assert server.api.samples('ALERTS{run="well"}[10m]', time.time()) == []


def test_no_leader_is_told_until_the_operator_is_scraped(tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.show(list, leads=lambda: True, depth=lambda: 0)

    def down(server: Server) -> set[str]:
        found = server.api.at('ALERTS{alertname="M2ROperatorDown"}', time.time())
        return {one.labels["alertstate"] for one in found}

    with watched(tmp_path) as (server, *runs):
        assert seen(runs, lambda: down(server) == {"firing"})
        with exposed(metrics) as port:
            server.scrape(port, {"namespace": "m2r-system", "instance": "operator"})
            assert seen(runs, lambda: down(server) == set())


@contextmanager
def exposed(metrics: Metrics) -> Iterator[int]:
    """The port at which the operator's own probes serve its metrics."""
    port, stop, ready = free_port(), threading.Event(), threading.Event()

    async def serve() -> None:
        async with Probes("127.0.0.1", 0, port, metrics, lambda: "", lambda: ""):
            ready.set()
            while not stop.is_set():
                await asyncio.sleep(0.1)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield port
    finally:
        stop.set()
        thread.join(30)
