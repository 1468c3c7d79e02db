"""Lines for ``kubectl describe``: told once, in the background, and never in the way.

An event's name is made from what it is about (run, reason, attempt, and which happening of those),
so that telling it again, by a restarted operator or another replica, is a conflict and no second
line, and the second eviction of an attempt is not taken for the first.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import deque
from datetime import UTC, datetime
from typing import Any, Final

from m2r_operator import names
from m2r_operator.client import Client
from m2r_operator.errors import ApiError, ClientError
from m2r_operator.resources import EVENTS
from m2r_operator.state import Event, RunSeen
from m2r_train.api import API_VERSION

WAITING: Final = 1000  # events that wait to be sent; older ones give way
_NOTE_BYTES: Final = 1024  # the API server's limit

log = logging.getLogger(__name__)


class Recorder:
    """Sends events one after the other; drops them rather than hold up a run."""

    def __init__(self, client: Client, instance: str) -> None:
        self._client, self._instance = client, instance
        self._queue: deque[dict[str, Any]] = deque(maxlen=WAITING)
        self._more = asyncio.Event()
        self.dropped = 0

    def tell(self, run: RunSeen, event: Event) -> None:
        """Send an event about a run, soon."""
        if len(self._queue) == WAITING:
            self.dropped += 1
        self._queue.append(manifest(run, event, self._instance, datetime.now(UTC)))
        self._more.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._more.wait()
            await self.flush()
            self._more.clear()

    async def flush(self) -> None:
        """Send what waits."""
        while self._queue:
            await self._send(self._queue.popleft())

    async def _send(self, body: dict[str, Any]) -> None:
        try:
            await self._client.create(EVENTS, body)
        except ApiError as error:
            if error.status == 409:  # told before
                return
            self.dropped += 1
            log.debug("event: %s", error)
        except ClientError as error:
            self.dropped += 1
            log.debug("event: %s", error)


def manifest(run: RunSeen, event: Event, instance: str, now: datetime) -> dict[str, Any]:
    """An event as an object."""
    key = run.key
    told = f"{run.uid} {event.reason} {event.attempt} {event.happening}".rstrip()
    digest = hashlib.sha256(told.encode()).hexdigest()[:16]
    note = event.message.encode()[:_NOTE_BYTES].decode(errors="ignore")
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"namespace": key.namespace, "name": f"{key.name}.{digest}"},
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": names.MANAGER,
        "reportingInstance": instance[:128],
        "action": "Reconcile",
        "reason": event.reason,
        "note": note,
        "type": "Warning" if event.warning else "Normal",
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": key.kind,
            "namespace": key.namespace,
            "name": key.name,
            "uid": run.uid,
            "resourceVersion": run.resource_version,
        },
    }
