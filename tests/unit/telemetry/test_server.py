"""`GET /metrics`, `/status` and `/healthz` over real HTTP."""

import http.client
import json
import math
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from m2r_train.api.errors import ConfigError
from m2r_train.telemetry.metrics import MetricSet
from m2r_train.telemetry.server import StatusServer


@pytest.fixture
def server() -> Iterator[StatusServer]:
    with StatusServer(MetricSet(), host="127.0.0.1", port=0) as running:
        yield running


def ask(server: StatusServer, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.request(method, path)
    response = connection.getresponse()
    answer = response.status, dict(response.getheaders()), response.read()
    connection.close()
    return answer


def test_status_is_the_document_that_the_operator_reads(server: StatusServer) -> None:
    checkpoint = {"uri": "s3://lab/runs/x/checkpoints/e1-s20", "step": 20}
    resumed = {"step": 20, "lostSteps": None}
    server.update(phase="Running", step=21, total_steps=100, last_checkpoint=checkpoint)
    server.update(metrics={"reward_mean": 0.61, "loss": math.nan})
    server.update(attempt=2, epoch=3, resumed_from=resumed, last_step_time=1.5)
    server.update(alarms=["NoSignal"])
    status, headers, body = ask(server, "/status")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body) == {
        "phase": "Running", "step": 21, "totalSteps": 100, "metrics": {"reward_mean": 0.61},
        "lastCheckpoint": checkpoint, "attempt": 2, "epoch": 3, "resumedFrom": resumed,
        "lastStepTime": 1.5, "alarms": ["NoSignal"],
    }  # fmt: skip


def test_a_fresh_server_has_a_complete_status(server: StatusServer) -> None:
    assert json.loads(ask(server, "/status")[2]) == {
        "phase": "Starting", "step": 0, "totalSteps": 0, "metrics": {}, "lastCheckpoint": None,
        "attempt": None, "epoch": None, "resumedFrom": None, "lastStepTime": None,
        "alarms": [],
    }  # fmt: skip


def test_metrics_show_what_is_set_also_under_labels_that_were_closed_later(
    server: StatusServer,
) -> None:
    server.metrics.set("m2r_step", 7)
    assert b"\nm2r_step 7.0\n" in ask(server, "/metrics")[2]
    server.metrics.close({"task": ["count"]})
    server.metrics.set("m2r_accuracy_mean", 0.5, task="count")
    status, headers, body = ask(server, "/metrics")
    assert (status, headers["Content-Type"].split(";")[0]) == (200, "text/plain")
    assert b'm2r_accuracy_mean{task="count"} 0.5' in body
    assert b"\nm2r_step 7.0\n" in body


def lingering(server: StatusServer, enough: Callable[[], bool] = lambda: False) -> threading.Thread:
    deadline = time.monotonic() + 30
    while not server._scraped and time.monotonic() < deadline:
        time.sleep(0.01)  # a scrape is noted after its answer is out
    thread = threading.Thread(target=server.linger, args=(enough,), daemon=True)
    thread.start()
    return thread


def test_a_pod_that_nobody_scrapes_ends_at_once(server: StatusServer) -> None:
    ask(server, "/status")
    started = time.monotonic()
    server.linger()
    assert time.monotonic() - started < 1


def test_a_pod_that_is_scraped_waits_for_the_scrape_that_sees_its_end(
    server: StatusServer,
) -> None:
    ask(server, "/metrics")
    waiting = lingering(server)
    ask(server, "/status")
    waiting.join(0.3)
    assert waiting.is_alive()
    server.metrics.set("m2r_step", 9)
    assert b"\nm2r_step 9.0\n" in ask(server, "/metrics")[2]
    waiting.join(5)
    assert not waiting.is_alive()


def test_a_scrape_that_began_before_the_end_has_not_seen_it(server: StatusServer) -> None:
    ask(server, "/metrics")
    before = time.monotonic()
    waiting = lingering(server)
    time.sleep(0.1)
    server.scraped(before - 0.01)
    waiting.join(0.3)
    assert waiting.is_alive()
    server.scraped(time.monotonic())
    waiting.join(5)
    assert not waiting.is_alive()


def test_a_pod_that_is_asked_to_stop_waits_for_no_scrape(server: StatusServer) -> None:
    ask(server, "/metrics")
    asked = threading.Event()
    waiting = lingering(server, asked.is_set)
    waiting.join(0.2)
    assert waiting.is_alive()
    asked.set()
    waiting.join(5)
    assert not waiting.is_alive()


@pytest.mark.parametrize(("between", "waited"), [(1.0, 20.0), (40.0, 50.0), (900.0, 75.0)])
def test_the_wait_is_a_little_longer_than_the_usual_time_between_scrapes(
    server: StatusServer, monkeypatch: pytest.MonkeyPatch, between: float, waited: float
) -> None:
    now = [100.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    monkeypatch.setattr("m2r_train.telemetry.server.time", clock)
    server.scraped(now[0])
    now[0] += between
    server.scraped(now[0])
    now[0] += 0.5
    begun = now[0]
    server.linger()
    assert now[0] - begun == pytest.approx(waited, abs=0.1)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("HEAD", "/healthz", 200),
        ("GET", "/status?pretty=1", 200),
        ("GET", "/", 404),
        ("GET", "/statuses", 404),
        ("POST", "/nowhere", 404),
        ("POST", "/status", 405),
        ("PUT", "/metrics", 405),
        ("DELETE", "/healthz", 405),
    ],
)
def test_paths_and_methods(server: StatusServer, method: str, path: str, status: int) -> None:
    got, headers, body = ask(server, path, method)
    assert got == status
    assert ("Allow" in headers) == (status == 405)
    assert (body == b"") == (method == "HEAD")


def test_a_scraper_that_goes_away_leaves_no_trace_on_the_terminal(
    server: StatusServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    gone, answered = threading.Event(), threading.Event()

    def exposition() -> bytes:
        gone.wait(10)
        return b"x" * 50_000_000  # more than any buffer takes

    monkeypatch.setattr(server.metrics, "exposition", exposition)
    inner = type(server._server).shutdown_request

    def done(own: object, request: socket.socket) -> None:
        inner(own, request)  # type: ignore[arg-type]
        answered.set()

    monkeypatch.setattr(type(server._server), "shutdown_request", done)
    with socket.create_connection(("127.0.0.1", server.port)) as scraper:
        scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: m2r\r\n\r\n")
        scraper.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    gone.set()
    assert answered.wait(30)
    assert capfd.readouterr().err == ""


def test_a_taken_port_is_one_line_with_a_remedy(server: StatusServer) -> None:
    second = StatusServer(MetricSet(), host="127.0.0.1", port=server.port)
    with pytest.raises(ConfigError, match=rf"127.0.0.1:{server.port}.*choose another"):
        second.start()


def test_stopping_frees_the_port_and_leaves_no_thread() -> None:
    first = StatusServer(MetricSet(), host="127.0.0.1", port=0).start()
    port = first.port
    first.stop()
    first.stop()
    assert "m2r-status" not in {thread.name for thread in threading.enumerate()}
    with StatusServer(MetricSet(), host="127.0.0.1", port=port) as second:
        assert ask(second, "/healthz")[2] == b"ok\n"


def test_a_scrape_never_sees_half_an_update(server: StatusServer) -> None:
    seen: list[tuple[int, int]] = []

    def read() -> None:
        for _ in range(30):
            status = json.loads(ask(server, "/status")[2])
            seen.append((status["step"], status["totalSteps"]))

    reader = threading.Thread(target=read)
    reader.start()
    step = 0
    while reader.is_alive():
        step += 1
        server.update(step=step, total_steps=-step)
    reader.join()
    assert len(seen) == 30
    assert all(step == -total for step, total in seen)
