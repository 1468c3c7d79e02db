"""A list and a watch of one kind of children, kept up for ever.

Kopf could watch these too, but after a relist it does not tell what has disappeared meanwhile, and
a missed deletion is a run that waits for ever. Here a relist *replaces* what is known. An informer
never ends by itself: whatever goes wrong is logged, counted, and tried again after a jittered
pause; `age` tells the liveness probe how long nothing has been heard.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from m2r_operator.client import Client
from m2r_operator.errors import ApiError, ClientError, Unreachable, status_error
from m2r_operator.pacing import Backoff
from m2r_operator.resources import Resource

SERVER_SECONDS: Final = 300  # after which the server ends a watch; it is then simply resumed
SILENCE_SECONDS: Final = 90.0  # bookmarks come every minute; less would be a dead connection
SHORT: Final = 1.0  # a watch that ends sooner without a word is not resumed at once

Object = Mapping[str, Any]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sink:
    """Where an informer puts what it sees."""

    put: Callable[[Object], None]
    gone: Callable[[Object], None]
    replace: Callable[[str | None, Iterable[Object], int], None]


class Informer:
    """Follows one kind of objects in one namespace (None: in all)."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        sink: Sink,
        *,
        namespace: str | None = None,
        selector: str = "",
        silence_seconds: float = SILENCE_SECONDS,
        relisted: Callable[[str], None] = lambda plural: None,
    ) -> None:
        self._client, self._resource, self._sink = client, resource, sink
        self._namespace, self._selector = namespace, selector
        self._silence, self._relisted = silence_seconds, relisted
        self._version = ""  # where to resume; empty: list anew
        self._heard_at: float | None = None
        self.synced = asyncio.Event()

    def age(self) -> float:
        """Seconds since the API server was last heard; infinite before the first list."""
        if self._heard_at is None:
            return float("inf")
        return asyncio.get_running_loop().time() - self._heard_at

    async def run(self) -> None:
        """List and watch until cancelled."""
        backoff = Backoff(first=0.2, most=5.0)
        while True:
            try:
                if not self._version:
                    await self._list()
                if await self._watch():
                    backoff.reset()
                    continue
            except ApiError as error:
                if error.status == 410:  # too old to be resumed
                    self._version = ""
                    log.info("%s: lists anew: %s", self, error)
                else:
                    log.warning("%s: %s", self, error)
            except ClientError as error:
                log.warning("%s: %s", self, error)
            except Exception:  # a bug: told in full; the list is taken anew to be sure
                log.exception("%s: failed; lists anew", self)
                self._version = ""
            await asyncio.sleep(backoff.next())

    def __str__(self) -> str:
        where = self._namespace or "all namespaces"
        return f"informer of {self._resource.plural} in {where}"

    async def _list(self) -> None:
        """Everything there is, replacing what was known; pages are parsed as they come."""
        listed: list[Object] = []
        version = ""
        async for page, page_version in self._client.list(
            self._resource, self._namespace, selector=self._selector
        ):
            version = version or page_version
            listed += (slim(item) for item in page)
        if not version:
            raise Unreachable(f"list {self._resource.plural}: no resource version")
        self._sink.replace(self._namespace, listed, int(version) if version.isdecimal() else 0)
        self._version = version
        self._relisted(self._resource.plural)
        self._heard()
        self.synced.set()

    async def _watch(self) -> bool:
        """One watch from where we are to its end; whether it was a healthy one."""
        started = asyncio.get_running_loop().time()
        events = 0
        async for event in self._client.watch(
            self._resource,
            self._namespace,
            since=self._version,
            selector=self._selector,
            server_seconds=SERVER_SECONDS,
            silence_seconds=self._silence,
        ):
            self._take(event)
            events += 1
        return events > 0 or asyncio.get_running_loop().time() - started >= SHORT

    def _take(self, event: Object) -> None:
        kind, item = event.get("type"), event.get("object")
        if kind == "ERROR":
            code = item.get("code") if isinstance(item, dict) else None
            raise status_error(f"watch {self._resource.plural}", int(code or 500), item)
        if not isinstance(item, dict):
            raise Unreachable(f"watch {self._resource.plural}: an event without an object")
        if kind in ("ADDED", "MODIFIED"):
            self._sink.put(item)
        elif kind == "DELETED":
            self._sink.gone(item)
        version = (item.get("metadata") or {}).get("resourceVersion")
        if version:
            self._version = str(version)
        self._heard()

    def _heard(self) -> None:
        self._heard_at = asyncio.get_running_loop().time()


def slim(item: Object) -> Object:
    """An object without its bulk, so that a long list fits into memory while it is read."""
    metadata = {
        k: v for k, v in item["metadata"].items() if k not in ("managedFields", "annotations")
    }
    index = (item["metadata"].get("annotations") or {}).get(
        "batch.kubernetes.io/job-completion-index"
    )
    if index is not None:
        metadata["annotations"] = {"batch.kubernetes.io/job-completion-index": index}
    spec = item.get("spec") or {}
    kept = {k: spec[k] for k in ("nodeName", "suspend") if k in spec}
    return {"metadata": metadata, "spec": kept, "status": item.get("status") or {}}


def slim_run(item: Object) -> Object:
    """A custom resource without what no decision is made from."""
    metadata = {
        k: v for k, v in item["metadata"].items() if k not in ("managedFields", "annotations")
    }
    return {"metadata": metadata, "spec": item.get("spec"), "status": item.get("status")}
