"""A proxy in front of the S3 server that does to requests what networks do.

Each fault is used up by the first requests that match it. Headers pass unchanged, ``Host`` too, so
that signatures hold.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

from m2r_train.core.rng import derive_seed

Kind = Literal[
    "lose-reply",
    "error-after",
    "error-before",
    "conflict",
    "no-upload",
    "cut-body",
    "flip-body",
]

UNLUCKY: tuple[Kind, ...] = ("error-before", "error-after", "lose-reply", "cut-body")


@dataclass
class Fault:
    """What happens to the next ``times`` requests with this method and end of path."""

    kind: Kind
    method: str
    path_end: str
    times: int = 1
    then: Callable[[], object] = lambda: None


class FaultProxy:
    """``endpoint`` to talk to, ``faults`` to come, ``seen`` requests: (method, path, Range)."""

    def __init__(self, endpoint: str, target: str) -> None:
        self.endpoint = endpoint
        self.target = urlsplit(target).netloc
        self.faults: list[Fault] = []
        self.seen: list[tuple[str, str, str | None]] = []
        self.down = False
        self.rate = 0.0  # share of requests, whichever they are, that meet a fault of some kind
        self.met = 0
        self._lock = threading.Lock()

    def add(self, kind: Kind, method: str, path_end: str, **options: object) -> Fault:
        fault = Fault(kind, method, path_end, **options)  # type: ignore[arg-type]
        self.faults.append(fault)
        return fault

    def take(self, method: str, path: str) -> Fault | None:
        """The fault for this request, used up once."""
        with self._lock:
            for fault in self.faults:
                if fault.times and fault.method == method and path.endswith(fault.path_end):
                    fault.times -= 1
                    return fault
            if derive_seed(0, "fault", len(self.seen)) % 1000 < 1000 * self.rate:
                self.met += 1
                return Fault(UNLUCKY[self.met % len(UNLUCKY)], method, "")
        return None

    @property
    def used_up(self) -> bool:
        """Whether every fault has happened as often as it was to."""
        return all(fault.times == 0 for fault in self.faults)


@contextlib.contextmanager
def fault_proxy(target: str) -> Iterator[FaultProxy]:
    """Runs a proxy on a free port; leaving the block closes the port and open connections."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    proxy = FaultProxy(f"http://127.0.0.1:{server.server_port}", target)
    _Handler.proxies[server.server_port] = proxy
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.down = True
        server.shutdown()
        server.server_close()
        thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    proxies: dict[int, FaultProxy] = {}  # noqa: RUF012 - by port: the handler is made by the server

    def _serve(self) -> None:
        proxy = self.proxies[self.server.server_address[1]]
        path = urlsplit(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        proxy.seen.append((self.command, path, self.headers.get("Range")))
        fault = proxy.take(self.command, path)
        kind = fault.kind if fault else None
        if proxy.down:
            self.close_connection = True
            return
        if kind == "conflict":
            self._answer(409, [], _error("ConditionalRequestConflict"))
            return
        if kind == "no-upload":
            self._answer(404, [], _error("NoSuchUpload"))
            return
        if kind == "error-before":
            self._answer(503, [], _error("SlowDown"))
            return
        status, headers, data = self._forward(proxy.target, body)
        if fault:
            fault.then()
        if kind == "lose-reply":
            self.close_connection = True
        elif kind == "error-after":
            self._answer(500, [], _error("InternalError"))
        elif kind == "cut-body":
            self.close_connection = True
            self._answer(status, headers, data, sent=data[: len(data) // 2])
        elif kind == "flip-body":
            self._answer(status, headers, data, sent=bytes([data[0] ^ 1]) + data[1:])
        else:
            self._answer(status, headers, data)

    def _forward(self, target: str, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        with contextlib.closing(http.client.HTTPConnection(target, timeout=30)) as connection:
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    connection.putheader(name, value)
            connection.endheaders(body)
            reply = connection.getresponse()
            return reply.status, reply.getheaders(), reply.read()

    def _answer(
        self, status: int, headers: list[tuple[str, str]], data: bytes, *, sent: bytes | None = None
    ) -> None:
        self.send_response_only(status)
        length = str(len(data))
        for name, value in headers:
            if name.lower() == "content-length":
                length = value if self.command == "HEAD" else length
            elif name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(data if sent is None else sent)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _serve

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
