"""The client of a chat endpoint against a real server that stalls, errs and talks rubbish."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from chatserver import QuietHandler, QuietServer, open_server

from m2r_train.api.errors import ConfigError
from m2r_train.core.backoff import Backoff
from m2r_train.rollout import endpoint
from m2r_train.rollout.endpoint import EndpointChat, EndpointDown

Behaviour = Callable[["Handler"], None]
KEY = "sk-very-secret"


class Handler(QuietHandler):
    """Does what the script's next step says; the last step is for all that follow."""

    server: Teacher

    def asked(self, request: Any) -> None:
        self.server.seen.append((self.path, self.headers.get("Authorization"), request))
        script = self.server.script
        script[min(len(self.server.seen), len(script)) - 1](self)


class Teacher(QuietServer):
    def __init__(self, script: list[Behaviour]) -> None:
        super().__init__(Handler)
        self.script = script
        self.seen: list[tuple[str, str | None, Any]] = []


def teacher(*script: Behaviour) -> AbstractContextManager[Teacher]:
    return open_server(Teacher(list(script)))


def completion(text: str) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


def good(handler: Handler) -> None:
    handler.send(200, completion("fine"))


def status(code: int, **headers: str) -> Behaviour:
    return lambda handler: handler.send(code, b"{}", **headers)


def body(data: bytes) -> Behaviour:
    return lambda handler: handler.send(200, data)


def stall(handler: Handler) -> None:
    handler.server.over.wait(30)


def drip_headers(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not handler.server.over.wait(0.05):
        handler.wfile.write(b"X")
        handler.wfile.flush()


def drip_body(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not handler.server.over.wait(0.05):
        handler.wfile.write(b" ")
        handler.wfile.flush()


def cut(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(completion("fine")[:20])


def no_http(handler: Handler) -> None:
    handler.wfile.write(b"\0\1\2 this is no HTTP \r\n\r\n")


def hang_up(handler: Handler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def chat(server: Teacher, pauses: list[float], **more: Any) -> EndpointChat:
    host, port = server.server_address[:2]
    return EndpointChat(
        url=f"http://{host!s}:{port}/v1",
        model="teacher",
        key=KEY,
        timeout=0.5,
        where="generator.endpoint",
        sleep=pauses.append,
        **{"backoff": Backoff(retries=2), **more},
    )


REQUEST = {"messages": [{"role": "user", "content": "Wie viele Äpfel?"}], "temperature": 0.9}


def test_what_is_sent_and_what_comes_back() -> None:
    with teacher(good) as server:
        assert chat(server, []).answer(REQUEST, 1) == "fine"
    assert server.seen == [
        ("/v1/chat/completions", f"Bearer {KEY}", {"model": "teacher", **REQUEST})
    ]


PASSING: dict[str, Behaviour] = {
    "stalls": stall,
    "drips its header": drip_headers,
    "drips its body": drip_body,
    "cuts its body": cut,
    "speaks no HTTP": no_http,
    "hangs up": hang_up,
    "is busy": status(429, Retry_After="7"),
    "fails": status(500),
    "is away": status(503),
    "says no JSON": body(b"<html>proxy</html>"),
    "says no UTF-8": body(b'{"choices": "\xff"}'),
    "has no choice": body(b'{"choices": []}'),
    "nests deeply": body(b"[" * 100_000),
    "says a number": body(b"7"),
}


@pytest.mark.parametrize("behaviour", PASSING.values(), ids=PASSING.keys())
def test_a_server_that_fails_once_is_asked_again(behaviour: Behaviour) -> None:
    pauses: list[float] = []
    with teacher(behaviour, good) as server:
        assert chat(server, pauses).answer(REQUEST, 1) == "fine"
        assert len(server.seen) == 2
    assert len(pauses) == 1
    assert pauses[0] == 7.0 if behaviour is PASSING["is busy"] else 0.5 <= pauses[0] <= 1.0


@pytest.mark.parametrize("behaviour", [stall, cut, status(503), body(b"?")])
def test_a_server_that_never_gets_well_is_one_line_without_the_key(behaviour: Behaviour) -> None:
    with teacher(behaviour) as server, pytest.raises(EndpointDown) as caught:
        chat(server, []).answer(REQUEST, 1)
    assert len(server.seen) == 3
    line = str(caught.value)
    assert line.startswith("spec.generator.endpoint: http://127.0.0.1:")
    assert "after 3 tries; the run can be started again and goes on from here" in line
    assert "\n" not in line
    assert KEY not in line
    assert KEY not in repr(chat(server, []))


@pytest.mark.parametrize(
    ("code", "remedy"),
    [(401, "secretRef"), (404, "model (teacher)"), (400, "accepts"), (301, "accepts")],
)
def test_what_cannot_get_better_is_not_tried_again(code: int, remedy: str) -> None:
    with teacher(status(code, Location="http://127.0.0.1:1/")) as server:
        with pytest.raises(
            ConfigError, match=f"HTTP {code}; .*{remedy}".replace("(", r"\(").replace(")", r"\)")
        ):
            chat(server, []).answer(REQUEST, 1)
        assert len(server.seen) == 1


def test_an_answer_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "MAX_ANSWER_BYTES", 1000)
    with teacher(body(b" " * 5000), good) as server:
        assert chat(server, []).answer(REQUEST, 1) == "fine"


def test_nobody_listens() -> None:
    with teacher(good) as server:
        gone = chat(server, [])
    with pytest.raises(EndpointDown, match="cannot be reached"):
        gone.answer(REQUEST, 1)
