"""Chat with an OpenAI-compatible endpoint: the thin edge between pure decisions and a network.

Every request has a deadline for the whole of it, also against a server that sends a byte now and
then; an answer has a size limit and must be the JSON that is expected. Redirects are not followed:
the key would go along. The key comes from the environment and stands in no message.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from m2r_train.api.errors import ConfigError, M2RError
from m2r_train.core.backoff import Backoff, Failure

MAX_ANSWER_BYTES = 8 * 2**20


class Chat(Protocol):
    """Whatever answers one chat: an endpoint, an engine in this process, a test's stand-in."""

    def answer(self, request: Mapping[str, Any], *path: int | str) -> str:
        """The text of the one completion of a request; ``path`` names it (for its delays)."""
        ...


class RequestFailed(Exception):  # noqa: N818 - carries a Failure
    """One try that came to nothing."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class EndpointDown(M2RError):  # noqa: N818 - named for what it is
    """The endpoint failed on every try, and may not the next time: the run can be started again.

    ``failure`` is that of the last try.
    """

    def __init__(self, message: str, failure: Failure) -> None:
        super().__init__(message)
        self.failure = failure


@dataclass(frozen=True)
class EndpointChat:
    """``POST <url>/chat/completions``, again and again as `Backoff` says.

    ``where`` is the field that set the endpoint, for messages. ``timeout`` in seconds is for one
    whole try.
    """

    url: str
    model: str
    key: str | None = field(repr=False, default=None)
    timeout: float = 300.0
    backoff: Backoff = field(default_factory=Backoff)
    where: str = "endpoint"
    sleep: Callable[[float], None] = time.sleep

    def answer(self, request: Mapping[str, Any], *path: int | str) -> str:
        """The completion's text.

        Raises:
            ConfigError: the endpoint refuses the request for good.
            EndpointDown: it failed on every try.
        """
        body = json.dumps({"model": self.model, **request}, ensure_ascii=False).encode()
        failed = 0
        while True:
            try:
                return text_of(self._post(body))
            except RequestFailed as error:
                failed += 1
                pause = self.backoff.delay(error.failure, failed, *path)
                if pause is None:
                    told = self._told(error.failure, failed)
                    if error.failure.permanent:
                        raise ConfigError(told) from None
                    raise EndpointDown(told, error.failure) from None
            self.sleep(pause)

    def _told(self, failure: Failure, failed: int) -> str:
        if failure.status in (401, 403):
            remedy = "set the key of the Secret that secretRef names"
        elif failure.status == 404:
            remedy = f"check url and model ({self.model})"
        elif failure.permanent:
            remedy = "check what the endpoint accepts"
        else:
            remedy = "the run can be started again and goes on from here"
        tries = "" if failed == 1 else f" after {failed} tries"
        return f"spec.{self.where}: {self.url}: {failure.message}{tries}; {remedy}"

    def _post(self, body: bytes) -> bytes:
        address = urlsplit(self.url)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        connection = _connection(address.scheme, address.netloc, self.timeout)
        path = f"{address.path.rstrip('/')}/chat/completions"
        expired = threading.Event()
        try:
            connection.connect()
            with _deadline(connection.sock, self.timeout, expired):
                connection.request("POST", path, body, headers)
                response = connection.getresponse()
                data = _read(response)
            if expired.is_set():  # a cut in the header looks like the end of an empty answer
                raise TimeoutError
        except (OSError, http.client.HTTPException) as error:
            late = expired.is_set() or isinstance(error, TimeoutError)
            raise RequestFailed(_trouble(error, self.timeout if late else None)) from error
        finally:
            connection.close()
        if response.status != 200:
            raise RequestFailed(_refusal(response))
        return data


def text_of(data: bytes) -> str:
    """The text of ``choices[0].message.content`` of an answer; empty where it is null.

    Null is what a server's filter leaves of a completion: an answer, and no better the next time.

    Raises:
        RequestFailed: the bytes are no such answer.
    """
    try:
        value = json.loads(data)
        content = value["choices"][0]["message"]["content"]
    except (ValueError, RecursionError, LookupError, TypeError) as error:
        raise RequestFailed(Failure("rubbish", "an answer that is no completion")) from error
    if content is None:
        return ""
    if not isinstance(content, str):
        raise RequestFailed(Failure("rubbish", "an answer without text"))
    return content


def _connection(scheme: str, netloc: str, timeout: float) -> http.client.HTTPConnection:
    if scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(netloc, timeout=timeout, context=context)
    return http.client.HTTPConnection(netloc, timeout=timeout)


@contextmanager
def _deadline(sock: socket.socket, seconds: float, expired: threading.Event) -> Iterator[None]:
    """Cut a connection that is not done in so many seconds, and set ``expired``.

    A socket's own timeout starts anew with every byte, which a server may send one at a time.
    """

    def cut() -> None:
        expired.set()
        with suppress(OSError):  # the block has ended in this moment
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # below TLS, which would wait

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _read(response: http.client.HTTPResponse) -> bytes:
    """The whole body, within the size limit; one that is cut short is an HTTPException."""
    data = response.read(MAX_ANSWER_BYTES + 1)
    if len(data) > MAX_ANSWER_BYTES:
        raise RequestFailed(Failure("rubbish", f"an answer over {MAX_ANSWER_BYTES >> 20} MiB"))
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    return data


def _trouble(error: Exception, late: float | None) -> Failure:
    if late is not None:
        return Failure("stalled", f"no whole answer within {late:g} s")
    if isinstance(error, OSError):
        why = error.strerror or type(error).__name__
        return Failure("unreachable", f"cannot be reached ({why})")
    return Failure("rubbish", f"no HTTP answer ({type(error).__name__})")


def _refusal(response: http.client.HTTPResponse) -> Failure:
    asked = response.getheader("Retry-After", "")
    seconds = float(asked) if asked.isascii() and asked.isdigit() and len(asked) < 7 else None
    return Failure("status", f"HTTP {response.status}", response.status, seconds)
