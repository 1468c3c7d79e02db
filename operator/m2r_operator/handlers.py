"""The only file with Kopf's decorators: watching the four kinds, logging in, starting.

Kopf is good at a process's life and at watching custom resources. It decides nothing here: a
handler stores what it is shown and marks the run dirty. Kopf writes nothing either: no
annotations, no finalizers, no events; the status has one writer, `apply`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import kopf

from m2r_operator import names
from m2r_operator.client import CONNECT_SECONDS, REQUEST_SECONDS, session
from m2r_operator.controller import Controller
from m2r_operator.credentials import Credentials
from m2r_operator.informer import SERVER_SECONDS, slim_run
from m2r_operator.pacing import Backoff
from m2r_operator.resync import Resync
from m2r_train.api import GROUP, VERSION


class Patience(Iterable[float]):
    """Pauses between tries, without end: a watch that gives up is an operator that is deaf."""

    def __iter__(self) -> Iterator[float]:
        return iter(Backoff(first=0.5, most=5.0))


class NoMemory(kopf.DiffBaseStorage):  # type: ignore[misc]
    """Kopf remembers the last state it handled to find differences; nothing here asks for them."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        """Nothing to remember."""
        return {}

    def fetch(self, *, body: Any) -> Any:
        """Nothing remembered."""
        return None

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Writes nothing."""


def registry(
    controller: Controller,
    resync: Resync,
    credentials: Credentials,
    *,
    count: Callable[[str, str, str], None],
) -> kopf.OperatorRegistry:
    """Our handlers; ``count`` is told of each request that Kopf makes."""
    handlers = kopf.OperatorRegistry()

    @kopf.on.startup(id="start", registry=handlers)  # type: ignore[untyped-decorator]
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        configure(settings)

    @kopf.on.login(id="log-in", registry=handlers)  # type: ignore[untyped-decorator]
    async def log_in(**_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(
            server=credentials.server,
            aiohttp_session=session(credentials, limit=0, count=count, patient=True),
        )

    for kind, plural in names.PLURALS.items():
        kopf.on.event(GROUP, VERSION, plural, id=kind, param=kind, registry=handlers)(
            watcher(controller, resync)
        )
    return handlers


def watcher(controller: Controller, resync: Resync) -> Callable[..., Any]:
    """The handler of a kind's events."""

    async def on_event(event: dict[str, Any], param: str, **_: Any) -> None:
        if event["type"] == "DELETED":
            controller.runs.remove(param, event["object"])
        else:
            controller.runs.put(param, slim_run(event["object"]))
        resync.delivered(event["type"], event["object"])

    return on_event


def configure(settings: kopf.OperatorSettings) -> None:
    """Kopf as a watcher that writes nothing and never gives up."""
    settings.posting.enabled = False
    # Not ours: Kopf takes a finalizer of its name away again, where no handler needs it.
    settings.persistence.finalizer = f"{GROUP}/kopf"
    settings.persistence.diffbase_storage = NoMemory()
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.scanning.disabled = True  # our definitions are there before Kopf starts (`Resync`)
    settings.networking.request_timeout = REQUEST_SECONDS
    settings.networking.connect_timeout = CONNECT_SECONDS
    settings.networking.error_backoffs = Patience()
    settings.watching.server_timeout = SERVER_SECONDS
    settings.watching.client_timeout = SERVER_SECONDS + 30
    settings.watching.chunk_size = 500
    settings.queueing.idle_timeout = 1.0
    settings.queueing.exit_timeout = 1.0
    settings.execution.max_workers = 1
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # a line for every event else
