"""What can go wrong between the operator and the API server.

ClientError
 +- ApiError       the server said no: status code, reason, message
 +- Unreachable    no (usable) answer; whether a write was done is not known
 +- NotLeading     another replica leads, or may lead: nothing was sent
"""

from __future__ import annotations

import json
from typing import Any

import aiohttp


class ClientError(Exception):
    """Base class; ``str(error)`` is one line."""


class ApiError(ClientError):
    """A refusal: a ``Status`` of the API server."""

    def __init__(
        self,
        request: str,
        status: int,
        *,
        reason: str = "",
        message: str = "",
        causes: tuple[str, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{request}: {status} {reason}: {message}".rstrip(": "))
        self.status = status
        self.reason = reason
        self.message = message or reason or f"status {status}"
        self.causes = causes
        self.retry_after = retry_after

    @property
    def not_done(self) -> bool:
        """Whether the server has done nothing, and another try can do better."""
        return self.status in (401, 429, 503)

    @property
    def terminating(self) -> bool:
        """Whether the namespace is being deleted, so that nothing can be made in it."""
        return self.status == 403 and "NamespaceTerminating" in self.causes

    @property
    def refused(self) -> bool:
        """Whether asking again will not help until somebody changes something."""
        return self.status in (400, 403, 404, 405, 413, 422) or self._webhook_fails

    @property
    def _webhook_fails(self) -> bool:
        """Whether an admission webhook of somebody else, such as Kueue's, gives no answer."""
        return self.status == 500 and "failed calling webhook" in self.message


class Unreachable(ClientError):  # noqa: N818 - says what the server is
    """No answer in time, or none that makes sense."""


class NotLeading(ClientError):  # noqa: N818 - says what this replica is
    """This replica must not write."""


async def error_of(response: aiohttp.ClientResponse, method: str, path: str) -> ApiError:
    """The refusal in a response; tolerates bodies that are no ``Status`` (a proxy's page)."""
    raw = await response.read()
    try:
        body = json.loads(raw)
    except ValueError:
        body = {}
    return status_error(
        f"{method} {path}", response.status, body, response.headers.get("Retry-After")
    )


def status_error(request: str, code: int, body: Any, retry_after: str | None = None) -> ApiError:
    """An ApiError from a decoded ``Status``."""
    status = body if isinstance(body, dict) else {}
    details = status.get("details")
    details = details if isinstance(details, dict) else {}
    causes = details.get("causes")
    seconds = retry_after or details.get("retryAfterSeconds")
    try:
        wait = None if seconds is None else max(0.0, float(seconds))
    except (TypeError, ValueError):  # an HTTP date: the usual pause will do
        wait = None
    return ApiError(
        request,
        code,
        reason=str(status.get("reason") or ""),
        message=str(status.get("message") or ""),
        causes=tuple(
            str(c.get("reason")) for c in (causes if isinstance(causes, list) else ())
            if isinstance(c, dict)
        ),
        retry_after=wait,
    )  # fmt: skip
