"""A full comparison with the API server now and then, and whether Kopf's watches are alive.

Kopf tells of no deletion that falls between two of its watches, so the runs are listed by our own
client at the start and every few minutes, which *replaces* what is known. The same list shows
whether Kopf still hears: what it holds and Kopf has not delivered soon after, Kopf never will.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from m2r_operator.client import Client
from m2r_operator.controller import Controller
from m2r_operator.errors import ApiError, ClientError
from m2r_operator.informer import slim_run
from m2r_operator.observe import uid_of, version_of
from m2r_operator.resources import KUEUE, RUNS

DELIVERY_SECONDS: Final = 60.0  # in which Kopf must have told what a list has shown
RETRY_SECONDS: Final = 2.0

log = logging.getLogger(__name__)


class Resync:
    """Lists every run, at the start and then every ``seconds``."""

    def __init__(
        self,
        client: Client,
        controller: Controller,
        namespaces: Sequence[str],
        seconds: float,
        *,
        delivery_seconds: float = DELIVERY_SECONDS,
    ) -> None:
        self._client, self._controller = client, controller
        self._scopes: Sequence[str | None] = namespaces or [None]
        self._seconds, self._patience = seconds, delivery_seconds
        self._delivered: dict[str, int] = {}  # uid -> newest version that Kopf has told of
        self.deaf = ""  # what Kopf should have told and has not

    def delivered(self, event: str | None, body: Mapping[str, Any]) -> None:
        """Kopf has told of an object."""
        if event == "DELETED":
            self._delivered.pop(uid_of(body), None)
        else:
            self._delivered[uid_of(body)] = version_of(body)

    async def first(self) -> None:
        """The first list; waits for the API server and for our resource definitions."""
        told = ""
        while True:
            try:
                await self._list()
                return
            except ApiError as error:
                missing = error.status == 404
                text = "the CustomResourceDefinitions are not installed" if missing else str(error)
            except ClientError as error:
                text = str(error)
            if text != told:
                log.warning("waits: %s", text)
                told = text
            await asyncio.sleep(RETRY_SECONDS)

    async def run(self) -> None:
        """List until cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            try:
                listed = await self._list()
            except ClientError as error:
                log.warning("resync: %s", error)
                continue
            await asyncio.sleep(min(self._patience, self._seconds))
            self._check(listed)

    async def _list(self) -> dict[str, int]:
        """Versions of all runs by uid."""
        self._controller.set_kueue(await self._has_kueue())
        listed: dict[str, int] = {}
        runs = self._controller.runs
        for kind, resource in RUNS.items():
            for scope in self._scopes:
                bodies, version = [], ""
                async for page, page_version in self._client.list(resource, scope):
                    version = version or page_version
                    bodies += [slim_run(item) for item in page]
                listed |= {uid_of(b): version_of(b) for b in bodies}
                runs.replace(kind, scope, bodies, int(version) if version.isdecimal() else 0)
        self._controller.children.sweep(runs)
        return listed

    def _check(self, listed: Mapping[str, int]) -> None:
        """What Kopf has not told of, although it is there and was there a while ago."""
        known = {run.uid: run for run in self._controller.runs}
        missed = [
            known[uid].key
            for uid, version in listed.items()
            if uid in known and self._delivered.get(uid, 0) < version
        ]
        self._delivered = {u: v for u, v in self._delivered.items() if u in known}
        self.deaf = f"Kopf has not told of {missed[0]} (of {len(missed)} in all)" if missed else ""
        if missed:
            log.error("a watch is dead: %s", self.deaf)

    async def _has_kueue(self) -> bool:
        try:
            await self._client.get(KUEUE)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True
