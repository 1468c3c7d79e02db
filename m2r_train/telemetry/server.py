"""What a pod tells about itself while it runs: ``/metrics``, ``/status``, ``/healthz``.

The operator and Prometheus pull; the trainer never pushes and knows neither of them.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self

from prometheus_client import CONTENT_TYPE_LATEST

from m2r_train.api.errors import ConfigError
from m2r_train.telemetry.history import to_lines
from m2r_train.telemetry.metrics import MetricSet

DEFAULT_PORT = 9400
_LINGER_SECONDS = (20.0, 75.0)  # at least, for a scrape each 15 s; at most

Phase = Literal["Starting", "Running", "Saving"]


class StatusServer:
    """Serves one run's metrics and status from a daemon thread. Use as a context.

    ``port`` 0 takes a free one (read `port` after `start`). ``host`` is every interface by
    default, because a kubelet and a scraper come from outside the pod.
    """

    def __init__(
        self, metrics: MetricSet, *, host: str = "0.0.0.0", port: int = DEFAULT_PORT
    ) -> None:
        self._metrics = metrics
        self._address = (host, port)
        self._status: dict[str, Any] = {
            "phase": "Starting",
            "attempt": None,
            "epoch": None,
            "step": 0,
            "totalSteps": 0,
            "lastStepTime": None,
            "metrics": {},
            "lastCheckpoint": None,
            "resumedFrom": None,
            "alarms": [],
        }
        self._scraped: tuple[float, ...] = ()  # when the last two scrapes began
        self._turn = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    def update(
        self,
        *,
        phase: Phase | None = None,
        attempt: int | None = None,
        epoch: int | None = None,
        step: int | None = None,
        total_steps: int | None = None,
        last_step_time: float | None = None,
        metrics: Mapping[str, float] | None = None,
        last_checkpoint: Mapping[str, Any] | None = None,
        resumed_from: Mapping[str, Any] | None = None,
        alarms: Sequence[str] | None = None,
    ) -> None:
        """Replace what is given and leave the rest; a reader sees all of it or none.

        May be called from several threads.

        ``last_step_time`` is in Unix seconds; ``resumed_from`` has ``step`` and ``lostSteps``;
        ``alarms`` are the signs of a collapse that are there.
        """
        changes = {
            "phase": phase,
            "attempt": attempt,
            "epoch": epoch,
            "step": step,
            "totalSteps": total_steps,
            "lastStepTime": last_step_time,
            "metrics": None if metrics is None else _finite(metrics),
            "lastCheckpoint": None if last_checkpoint is None else dict(last_checkpoint),
            "resumedFrom": None if resumed_from is None else dict(resumed_from),
            "alarms": None if alarms is None else list(alarms),
        }
        given = {key: new for key, new in changes.items() if new is not None}
        with self._turn:
            self._status = {**self._status, **given}  # swapped whole: no reader sees half of it

    def linger(self, enough: Callable[[], bool] = lambda: False) -> None:
        """Wait until ``/metrics`` is scraped once more, if it ever was, or until ``enough()``.

        What a run knows only at its end (scores, the size of a dataset) would be lost with the pod
        otherwise. Waits for a little more than the time between the last two scrapes, at most.
        """
        if not self._scraped:
            return
        begun = time.monotonic()
        least, most = _LINGER_SECONDS
        usual = 1.25 * (self._scraped[-1] - self._scraped[0])
        until = begun + min(max(least, usual), most)
        while self._scraped[-1] < begun and time.monotonic() < until and not enough():
            time.sleep(0.05)

    def scraped(self, begun: float) -> None:
        """Note that a reader has all of ``/metrics`` as it was at ``begun`` (monotonic)."""
        self._scraped = (*self._scraped[-1:], begun)

    @property
    def metrics(self) -> MetricSet:
        """The set that ``GET /metrics`` shows."""
        return self._metrics

    def status(self) -> dict[str, Any]:
        """The document of ``GET /status``."""
        return dict(self._status)

    @property
    def port(self) -> int:
        """The port in use; the requested one before `start`."""
        return self._address[1] if self._server is None else int(self._server.server_address[1])

    def start(self) -> Self:
        """Bind and serve; ``ConfigError`` when the port is taken."""
        host, port = self._address
        try:
            self._server = _Server(self._address, _handler(self))
        except OSError as error:
            raise ConfigError(
                f"status server: cannot listen on {host}:{port} ({error.strerror}); "
                "stop what uses the port or choose another"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05},
            name="m2r-status", daemon=True,
        )  # fmt: skip
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop serving and free the port; safe to call twice."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """JSON has no NaN, and a reader of the status shows the last good figure or none."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is its own affair: a trace would stand among the run's lines."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _handler(server: StatusServer) -> type[BaseHTTPRequestHandler]:
    def metrics_page() -> tuple[str, bytes]:
        return CONTENT_TYPE_LATEST, server.metrics.exposition()

    def status_page() -> tuple[str, bytes]:
        return "application/json", to_lines([server.status()])

    def health_page() -> tuple[str, bytes]:
        return "text/plain; charset=utf-8", b"ok\n"

    pages = {"/metrics": metrics_page, "/status": status_page, "/healthz": health_page}

    class Handler(BaseHTTPRequestHandler):
        server_version = "m2r"
        sys_version = ""
        timeout = 10  # a client that never finishes its request holds no thread for ever

        def answer(self) -> None:
            begun = time.monotonic()
            page = pages.get(self.path.partition("?")[0])
            if page is None:
                known = " ".join(pages)
                self.reply(HTTPStatus.NOT_FOUND, "text/plain", f"not here; try {known}\n".encode())
            elif self.command not in ("GET", "HEAD"):
                self.reply(HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", b"read only\n")
            else:
                self.reply(HTTPStatus.OK, *page())
                if page is metrics_page and self.command == "GET":
                    server.scraped(begun)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        def reply(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            if status is HTTPStatus.METHOD_NOT_ALLOWED:
                self.send_header("Allow", "GET, HEAD")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Silent: a scrape each 15 s would drown the run's own lines."""

    return Handler
