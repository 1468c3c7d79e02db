"""A chat endpoint on this machine that stalls, errs and talks rubbish, on a real socket."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

STALLED = 28  # one failure in so many is silence; the others are quick

S = TypeVar("S", bound="QuietServer")


class QuietHandler(BaseHTTPRequestHandler):
    """Hands on what is posted, sends whole answers, and says nothing on the terminal."""

    def do_POST(self) -> None:
        self.asked(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def asked(self, request: Any) -> None:
        """Answer a request's JSON."""
        raise NotImplementedError

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class QuietServer(ThreadingHTTPServer):
    """On a free port; ``over`` is set at its end, for handlers that wait."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, handler: type[QuietHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.over = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up on a server that stalls."""


class _Handler(QuietHandler):
    """Of so many requests (``fails_every``) one fails, in one of five ways."""

    server: ChatServer

    def asked(self, request: Any) -> None:
        server = self.server
        with server.lock:
            number = server.requests
            server.requests += 1
            if server.notes:
                server.seen.append((self.headers.get("Authorization"), request))
        if server.fails_every and number % server.fails_every == 1:
            return self._fail(number // server.fails_every)
        reply = server.reply(request)
        if server.notes:
            with server.lock:
                server.answered.append(request)
        return self._text(reply)

    def _fail(self, number: int) -> None:
        way = "stall" if number % STALLED == 2 else ("down", "later", "rubbish", "cut")[number % 4]
        with self.server.lock:
            self.server.failed[way] += 1
        if way == "stall":
            self.server.over.wait(5.0)
        elif way == "down":
            self.send(500, b"down")
        elif way == "later":
            self.send(429, b"later", Retry_After="0")
        elif way == "rubbish":
            self.send(200, b"rubbish")
        else:
            self.send(200, b'{"choices": [', Content_Length="4096")  # and hangs up

    def _text(self, text: str | None) -> None:
        self.send(200, json.dumps({"choices": [{"message": {"content": text}}]}).encode())


class ChatServer(QuietServer):
    """``seen``: every request with its Authorization; ``answered``: those that got a text.

    Both stay empty without ``notes``.
    """

    def __init__(self, *, faults: bool, fails_every: int = 3, notes: bool = True) -> None:
        super().__init__(_Handler)
        self.fails_every, self.notes = fails_every if faults else 0, notes
        self.requests = 0
        self.lock = threading.Lock()
        self.seen: list[tuple[str | None, Any]] = []
        self.answered: list[Any] = []
        self.failed = Counter[str]()

    def reply(self, asked: Any) -> str | None:
        """The completion's text."""
        raise NotImplementedError


@contextmanager
def open_server(server: S) -> Iterator[S]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
