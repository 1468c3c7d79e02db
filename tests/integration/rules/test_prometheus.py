"""A real Prometheus with the chart's rules: each alert is caused, waits, fires, and ends.

A run for each alert, one that stays well, the operator and a node's GPUs are scraped for two
minutes, and every cause is there at once. All times of the rules are divided by `FASTER`, half an
hour is fifteen seconds; nothing else in them is changed.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import gpuexporter
import pytest
from causes import CAUSES, KIND, NAMESPACE, Lab, Run
from promserver import Server, prometheus
from s3server import free_port

from m2r_operator.health import Probes
from m2r_operator.metrics import Metrics
from m2r_train.telemetry.rules import ALERTS, REWARD, Alert, rules

pytestmark = [pytest.mark.slow, pytest.mark.prometheus, pytest.mark.timeout(600)]

FASTER: Final = 120
MOMENT: Final = 0.25  # seconds between two steps
QUIET: Final = 6  # seconds, nearly those of a quarter of an hour
PATIENCE: Final = 120  # seconds; the slowest takes 36
WELL: Final = "well"
DOWN: Final = "M2ROperatorDown"
UNITS: Final = {"m": 60, "h": 3600}


def milliseconds(duration: str) -> int:
    """A duration of a rule, in minutes or hours, as it is here."""
    return round(1000 * int(duration[:-1]) * UNITS[duration[-1]] / FASTER)


def faster(text: str) -> str:
    """A rule's expression, or how long it waits, with all its times divided.

    These are durations, and the seconds that something is compared with: no share or count of a
    rule has three digits.
    """
    text = re.sub(r"\b\d+[mh]\b", lambda found: f"{milliseconds(found[0])}ms", text)
    return re.sub(r"(?<=> )\d{3,}\b", lambda found: f"{int(found[0]) / FASTER:g}", text)


def hurried() -> dict[str, Any]:
    """The chart's rules, made faster."""
    content = rules()
    for group in content["groups"]:
        for rule in group["rules"]:
            rule |= {key: faster(rule[key]) for key in ("expr", "for") if key in rule}
    return content


@dataclass(frozen=True)
class Alerted:
    """When an alert was in a state, in Unix seconds, and its labels."""

    labels: dict[str, str]
    times: list[float]

    @property
    def run(self) -> str:
        """The run that it names, if it names one."""
        return self.labels.get("run", "")


@dataclass(frozen=True)
class Told:
    """All that Prometheus told, and when the causes came."""

    alerts: list[Alerted]
    unscraped: set[str]  # states of `DOWN` before the operator was scraped
    begun: float  # all is scraped and nothing has happened
    caused: float
    left: set[str]  # alerts that were still there when their causes had gone

    def times(self, name: str, state: str, since: float) -> list[float]:
        """When an alert on its own run was in a state."""
        on = "" if name == DOWN else name.lower()
        own = {"alertname": name, "alertstate": state}
        found = [one for one in self.alerts if own.items() <= one.labels.items()]
        return sorted(t for one in found if one.run == on for t in one.times if t >= since)


def active(server: Server, state: str = ".+") -> set[tuple[str, str]]:
    """Alerts and their runs, now."""
    found = server.api.at(f'ALERTS{{alertstate=~"{state}"}}', time.time())
    return {(one.labels["alertname"], one.labels.get("run", "")) for one in found}


def wait(go_on: Callable[[], None], ready: Callable[[], bool]) -> bool:
    """Whether ``ready`` comes to be true while everything goes on."""
    deadline = time.monotonic() + PATIENCE
    while not ready():
        if time.monotonic() > deadline:
            return False
        go_on()
        time.sleep(MOMENT)
    return True


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


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """Everything happens once."""
    home = tmp_path_factory.mktemp("alerts")
    (home / "rules.yaml").write_text(json.dumps(hurried()))
    lab = Lab({name: Run(name) for name in (WELL, *map(str.lower, CAUSES))})
    with ExitStack() as stack:
        server = stack.enter_context(prometheus(home / "prometheus", home / "rules.yaml"))
        ports = [stack.enter_context(run.server).port for run in lab.runs.values()]
        gpus = stack.enter_context(gpuexporter.served([run.gpu for run in lab.runs.values()]))
        operator = stack.enter_context(exposed(lab.operator))
        lab.step()
        runs = zip(ports, (run.labels for run in lab.runs.values()), strict=True)
        server.scrape_all([*runs, (gpus, gpuexporter.TARGET)])
        yield story(server, lab, operator)


def story(server: Server, lab: Lab, operator: int) -> Told:
    """No operator, then all is well, then all goes wrong, then all is well again."""
    down = f'ALERTS{{alertname="{DOWN}"}}'
    assert wait(lab.step, lambda: (DOWN, "") in active(server, "firing"))
    unscraped = {one.labels["alertstate"] for one in server.api.at(down, time.time())}
    server.scrape(operator, {"namespace": "m2r-system", "instance": "operator"})

    def well() -> bool:
        """Rewards are told from some time on only."""
        old = len(server.api.at(f"{REWARD.name} offset 2s", time.time())) == len(lab.runs)
        return old and not active(server)

    wait(lab.step, well)
    begun = time.time()
    wait(lab.step, lambda: time.time() > begun + QUIET)
    caused = time.time()
    for name, cause in CAUSES.items():
        cause.begin(lab, lab.runs[name.lower()])

    def go_wrong() -> None:
        lab.step()
        for name, cause in CAUSES.items():
            cause.keep(lab, lab.runs[name.lower()])

    missing = {(name, "" if name == DOWN else name.lower()) for name in CAUSES}

    def all_fired() -> bool:
        missing.difference_update(active(server, "firing"))
        return not missing

    wait(go_wrong, all_fired)
    for name, cause in CAUSES.items():
        cause.end(lab, lab.runs[name.lower()])
    wait(lab.step, lambda: not active(server))
    alerts = [
        Alerted(dict(one.labels), [moment for moment, _ in one.points])
        for one in server.api.samples("ALERTS[15m]", time.time())
    ]
    return Told(alerts, unscraped, begun, caused, {name for name, _ in active(server)})


@pytest.mark.parametrize("alert", ALERTS, ids=lambda one: one.name)
def test_every_alert_is_silent_until_it_is_caused_then_waits_fires_and_ends(
    told: Told, alert: Alert
) -> None:
    assert alert.name in CAUSES, "tests/causes.py does not cause it"
    pending, firing = (told.times(alert.name, s, told.begun) for s in ("pending", "firing"))
    assert firing, f"{CAUSES[alert.name].what}: it did not fire"
    assert min(*pending[:1], *firing) > told.caused
    if milliseconds(alert.wait):
        assert firing[0] - pending[0] >= milliseconds(alert.wait) / 1000 - 0.01
    else:
        assert not pending
    assert alert.name not in told.left


@pytest.mark.parametrize("alert", ALERTS, ids=lambda one: one.name)
def test_an_alert_names_the_run_and_nothing_that_changes_with_its_pods(
    told: Told, alert: Alert
) -> None:
    run = {"namespace": NAMESPACE, "run_kind": KIND, "run": alert.name.lower()}
    names = {} if alert.name == DOWN else run
    fired = {"__name__": "ALERTS", "alertname": alert.name, "alertstate": "firing"}
    assert fired | names | {"severity": alert.severity} in [one.labels for one in told.alerts]


def test_a_healthy_run_has_no_alert_and_others_only_their_own(told: Told) -> None:
    expected = {(name.lower(), one) for name, cause in CAUSES.items() for one in cause.also}
    expected |= {(name.lower(), name) for name in CAUSES if name != DOWN} | {("", DOWN)}
    fired = [one for one in told.alerts if one.labels["alertstate"] == "firing"]
    assert {(one.run, one.labels["alertname"]) for one in fired} <= expected
    assert WELL not in {one.run for one in told.alerts}


def test_no_leader_is_told_until_the_operator_is_scraped(told: Told) -> None:
    assert told.unscraped == {"firing"}
    assert told.times(DOWN, "firing", 0)[0] < told.begun


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5m", "2500ms"),
        ("0m", "0ms"),
        ("avg_over_time(a:b:avg30m[30m]) and b offset 20m",
         "avg_over_time(a:b:avg30m[15000ms]) and b offset 10000ms"),
        ("time() - max(a > 0) > 1800", "time() - max(a > 0) > 15"),
        ("sum(increase(a[10m])) > 180", "sum(increase(a[5000ms])) > 1.5"),
        ("a < 0.5 * max(b[6h]) and c >= 3", "a < 0.5 * max(b[180000ms]) and c >= 3"),
        ("max(a) > 0.2", "max(a) > 0.2"),
    ],
)  # fmt: skip
def test_only_the_times_of_a_rule_are_made_shorter(text: str, expected: str) -> None:
    assert faster(text) == expected


def test_every_cause_is_one_of_an_alert() -> None:
    assert set(CAUSES) == {one.name for one in ALERTS}
