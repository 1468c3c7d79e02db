"""A thin client of the Kubernetes API on aiohttp: what the operator needs and no more.

The official client costs more memory than everything else here together. This one sends JSON,
keeps connections, paces itself, obeys Retry-After, bounds every wait, and refuses to write while
this replica does not lead.

What is safe to repeat decides what is retried here: reading always, writing only where the server
said that it has not been done (429, 503). A write whose reply is lost is *not* repeated; the
reconcile that wanted it is, from what is then observed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import aiohttp

from m2r_operator import __version__
from m2r_operator.credentials import Credentials
from m2r_operator.errors import ApiError, NotLeading, Unreachable, error_of
from m2r_operator.pacing import Backoff, TokenBucket
from m2r_operator.resources import Resource

USER_AGENT: Final = f"m2r-operator/{__version__}"
CONNECT_SECONDS: Final = 5.0
REQUEST_SECONDS: Final = 15.0
PAGE: Final = 500
MERGE_PATCH: Final = "application/merge-patch+json"
JSON: Final = "application/json"

_READ_TRIES: Final = 4
_WRITE_TRIES: Final = 3
_LONGEST_PAUSE: Final = 30.0  # whatever Retry-After says, for one retry

Object = dict[str, Any]
Count = Callable[[str, str, str], None]

log = logging.getLogger(__name__)


def _uncounted(verb: str, resource: str, code: str) -> None:
    """Counts nothing."""


def session(
    credentials: Credentials, *, limit: int = 64, count: Count = _uncounted, patient: bool = False
) -> aiohttp.ClientSession:
    """An aiohttp session that logs in, names itself and counts its requests.

    The token is put in at each request, so that a replaced one needs no new session. ``patient``:
    a request that is refused with 401 is sent again, with pauses, until its time is over. (Kopf
    would log in anew and come back at once, for ever, as fast as it can.)
    """

    async def log_in(
        request: aiohttp.ClientRequest,
        send: Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]],
    ) -> aiohttp.ClientResponse:
        pauses = Backoff(first=0.5, most=5.0)
        while True:
            response = await attempt(request, send)
            if response.status != 401:
                return response
            credentials.refused()
            if not patient:
                return response
            response.release()
            await asyncio.sleep(pauses.next())

    async def attempt(
        request: aiohttp.ClientRequest,
        send: Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]],
    ) -> aiohttp.ClientResponse:
        request.headers.update(credentials.headers())
        verb, resource = verb_of(request.method, request.url.path, request.url.query)
        try:
            response = await send(request)
        except Exception:
            count(verb, resource, "error")
            raise
        count(verb, resource, f"{response.status // 100}xx")
        return response

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=limit, ssl=True if credentials.ssl is None else credentials.ssl,
            keepalive_timeout=75.0,
        ),
        headers={"User-Agent": USER_AGENT},
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=(log_in,),
        trust_env=False,
        json_serialize=lambda value: json.dumps(value, separators=(",", ":")),
    )  # fmt: skip


def verb_of(method: str, path: str, query: Mapping[str, str]) -> tuple[str, str]:
    """Kubernetes' name of a request and its resource: ``("patch", "rlvrjobs/status")``."""
    parts = path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    if len(parts) > 2 and parts[0] == "namespaces":
        parts = parts[2:]
    if not parts:
        return "get", "discovery"
    resource = "/".join([parts[0], *parts[2:3]])
    if method == "GET":
        verb = "get" if len(parts) > 1 else "watch" if query.get("watch") else "list"
        return verb, resource
    verbs = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
    return verbs.get(method, method.lower()), resource


class Client:
    """Requests to one API server. ``may_write``: seconds for which writing is allowed now."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        count: Count = _uncounted,
        may_write: Callable[[], float] | None = None,
        rate: float = 500.0,
        burst: int = 1000,
    ) -> None:
        self._server = credentials.server
        self._session: aiohttp.ClientSession = session(credentials, count=count)
        # Watches have no limit: a limit would make them wait for each other for ever.
        self._streams: aiohttp.ClientSession = session(credentials, limit=0, count=count)
        self._bucket = TokenBucket(rate, burst)
        self.may_write = may_write

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()
        await self._streams.close()

    async def get(self, path: str, **params: str) -> Object:
        """An object (or a page of a list)."""
        return await self._request("GET", path, params=params)

    async def list(
        self, resource: Resource, namespace: str | None = None, *, selector: str = ""
    ) -> AsyncIterator[tuple[list[Object], str]]:
        """The pages of a list: objects and the list's resource version.

        The operator may be slow to take the next page; ApiError 410 then says to begin anew.
        """
        params = {"limit": str(PAGE)}
        if selector:
            params["labelSelector"] = selector
        while True:
            page = await self.get(resource.path(namespace), **params)
            metadata = page.get("metadata") or {}
            yield page.get("items") or [], str(metadata.get("resourceVersion") or "")
            if not metadata.get("continue"):
                return
            params["continue"] = metadata["continue"]

    async def watch(
        self,
        resource: Resource,
        namespace: str | None,
        *,
        since: str,
        selector: str = "",
        server_seconds: int,
        silence_seconds: float,
    ) -> AsyncIterator[Object]:
        """Events of a watch, until the server ends it.

        Raises Unreachable when nothing, not even a bookmark, comes for ``silence_seconds``.
        """
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": since,
            "timeoutSeconds": str(server_seconds),
        }
        if selector:
            params["labelSelector"] = selector
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=silence_seconds
        )
        path = resource.path(namespace)
        try:
            async with self._streams.get(
                self._server + path, params=params, timeout=timeout, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise await error_of(response, "GET", path)
                async for line in _lines(response.content):
                    yield json.loads(line)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unreachable(f"watch {path}: {error or type(error).__name__}") from error

    async def create(self, resource: Resource, body: Object) -> Object:
        """Make an object. ApiError 409 when one of its name exists."""
        path = resource.path(body["metadata"]["namespace"])
        return await self._request("POST", path, body=body)

    async def replace(self, resource: Resource, body: Object) -> Object:
        """Put an object in the place of the one it was read from (by its resource version)."""
        meta = body["metadata"]
        return await self._request("PUT", resource.path(meta["namespace"], meta["name"]), body=body)

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Object,
        *,
        resource_version: str,
        subresource: str = "",
    ) -> Object:
        """Merge ``body`` into an object, if it still is the version that was read (else 409)."""
        metadata = {**body.get("metadata", {}), "resourceVersion": resource_version}
        return await self._request(
            "PATCH",
            resource.path(namespace, name, subresource),
            body={**body, "metadata": metadata},
            content_type=MERGE_PATCH,
        )

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str, propagation: str
    ) -> Object:
        """Delete an object, if it still is the one of this uid (else 409)."""
        return await self._request(
            "DELETE",
            resource.path(namespace, name),
            body={
                "kind": "DeleteOptions",
                "apiVersion": "v1",
                "propagationPolicy": propagation,
                "preconditions": {"uid": uid},
            },
        )

    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = JSON,
    ) -> Object:
        reading = method == "GET"
        tries = _READ_TRIES if reading else _WRITE_TRIES
        pauses = Backoff(first=0.2, most=5.0)
        while True:
            tries -= 1
            await self._bucket.take()
            try:
                return await self._once(method, path, params, body, content_type)
            except ApiError as error:
                if not tries or not (error.not_done or (reading and error.status >= 500)):
                    raise
                pause = max(pauses.next(), min(error.retry_after or 0.0, _LONGEST_PAUSE))
            except Unreachable:
                if not tries or not reading:
                    raise
                pause = pauses.next()
            await asyncio.sleep(pause)

    async def _once(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        body: Object | None,
        content_type: str,
    ) -> Object:
        seconds = REQUEST_SECONDS if method == "GET" else self._write_seconds(method, path)
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=min(CONNECT_SECONDS, seconds))
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        headers = {"Content-Type": content_type} if data is not None else None
        try:
            async with self._session.request(
                method,
                self._server + path,
                params=params,
                data=data,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                if response.status >= 300:
                    raise await error_of(response, method, path)
                answer = json.loads(await response.read())
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unreachable(f"{method} {path}: {error or type(error).__name__}") from error
        if not isinstance(answer, dict):
            raise Unreachable(f"{method} {path}: the answer is not an object")
        return answer

    def _write_seconds(self, method: str, path: str) -> float:
        """How long a write may take: it must have ended before another replica can lead."""
        if self.may_write is None:
            return REQUEST_SECONDS
        left = self.may_write()
        if left <= 0:
            raise NotLeading(f"{method} {path}: this replica does not lead")
        return min(REQUEST_SECONDS, left)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The lines of a stream; aiohttp's own iteration refuses long ones, and pods can be long."""
    kept = bytearray()
    async for chunk in content.iter_any():
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            kept += chunk[start:end]
            if kept:
                yield bytes(kept)
            kept.clear()
            start = end + 1
        kept += chunk[start:]
