"""The process: which replica works, what runs while it does, and how it ends.

Exit codes: 0 asked to stop, 1 the lease was lost or something ended that never should (a restart
is the remedy), 64 wrong settings, 78 no way to log in.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Coroutine
from typing import Any, Final

import kopf

from m2r_operator import __version__, handlers, names
from m2r_operator.client import Client
from m2r_operator.controller import Controller
from m2r_operator.credentials import Credentials
from m2r_operator.health import Probes
from m2r_operator.informer import Informer, Sink
from m2r_operator.leader import Leader
from m2r_operator.metrics import Metrics
from m2r_operator.resources import JOBS, PODS
from m2r_operator.resync import Resync
from m2r_operator.settings import Settings

SILENT_SECONDS: Final = 600.0  # without a word from the API server, after which we start anew
DRAIN_SECONDS: Final = 5.0  # for writes in flight, after SIGTERM
KOPF_SECONDS: Final = 3.0

log = logging.getLogger(__name__)


class Process:
    """One replica."""

    def __init__(self, settings: Settings, credentials: Credentials) -> None:
        self._settings, self._credentials = settings, credentials
        self._metrics = Metrics()
        self._stop = asyncio.Event()
        self._free = Client(credentials, count=self._metrics.request)  # for the lease alone
        namespace, name = settings.lease
        self._leader = Leader(self._free, namespace, name, settings.holder)
        self._alone = not settings.leader_election
        self._client = Client(
            credentials,
            count=self._metrics.request,
            may_write=None if self._alone else self._leader.seconds_left,
            rate=settings.api_rate,
            burst=2 * settings.api_rate,
        )
        self._controller = Controller(
            self._client,
            settings.defaults,
            self._metrics,
            identity=settings.holder,
            poll_seconds=settings.poll_seconds,
            workers=settings.workers,
        )
        self._resync = Resync(
            self._client, self._controller, settings.namespaces, settings.resync_seconds
        )
        self._informers = self._make_informers()
        self._working = False
        self._synced = False
        self._kopf_stop = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []
        self._metrics.show(
            lambda: self._controller.runs,
            leads=lambda: self._working and (self._alone or self._leader.leads),
            depth=lambda: self._controller.queue.depth,
        )

    async def run(self) -> int:
        """Work until asked to stop; the exit code."""
        self._on_signals()
        settings = self._settings
        log.info("m2r-operator %s for %s", __version__, ", ".join(settings.namespaces) or "all")
        probes = Probes(
            settings.host, settings.health_port, settings.metrics_port,
            self._metrics, self._health, self._ready,
        )  # fmt: skip
        async with probes:
            log.info("listens on %s", ", ".join(f"{h}:{p}" for h, p in probes.addresses))
            try:
                return await self._campaign()
            finally:
                await self._client.close()
                await self._free.close()

    async def _campaign(self) -> int:
        """Wait for the lead, then work."""
        if not self._alone:
            if not await self._unless_stopped(self._leader.acquire()):
                return 0
            self._spawn(self._lease_lost(), "lease")
        self._working = True
        try:
            if not await self._unless_stopped(self._start()):
                return 0
            return await self._watch_over()
        finally:
            await self._shut_down()

    async def _start(self) -> None:
        """Fill the caches, then begin to decide: half-known children would be made twice."""
        controller = self._controller
        for informer in self._informers:
            self._spawn(informer.run(), str(informer))
        await self._resync.first()
        for informer in self._informers:
            await informer.synced.wait()
        self._synced = True
        log.info(
            "works on %d runs, knows %d Jobs and %d pods",
            len(controller.runs), *controller.children.counts(),
        )  # fmt: skip
        self._spawn(controller.recorder.run(), "events")
        self._spawn(controller.poller.run(), "polling")
        self._spawn(self._resync.run(), "resync")
        controller.queue.start()
        self._spawn(self._kopf(), "kopf")

    async def _kopf(self) -> None:
        """Kopf watches the runs. It must start last: at its end it ends all younger tasks."""
        namespaces = self._settings.namespaces
        older = asyncio.all_tasks()
        tasks = await kopf.spawn_tasks(
            registry=handlers.registry(
                self._controller, self._resync, self._credentials, count=self._metrics.request
            ),
            settings=kopf.OperatorSettings(),
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
            stop_flag=self._kopf_stop,
            identity=self._settings.holder,
        )
        self._on_signals()  # Kopf has just taken them for itself
        await kopf.run_tasks(tasks, ignored=older)

    async def _watch_over(self) -> int:
        """Until SIGTERM; 1 when something ends that has no end."""
        stop = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            await asyncio.wait({stop, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        if self._stop.is_set():
            return 0
        for task in self._tasks:
            if task.done():
                error = None if task.cancelled() else task.exception()
                log.error("%s has ended; the process ends too", task.get_name(), exc_info=error)
        return 1

    async def _lease_lost(self) -> None:
        """Another replica may lead from now on: nothing may be finished, nothing tidied up."""
        await self._leader.hold()
        logging.shutdown()
        os._exit(1)

    async def _shut_down(self) -> None:
        """Finish the writes in flight, let another replica lead, end the rest."""
        await self._controller.queue.stop(DRAIN_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._controller.recorder.flush()
        self._working = False
        for task in self._tasks:
            if task.get_name() != "kopf":
                task.cancel()
        if not self._alone:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2.0):
                    await self._leader.release()
        self._kopf_stop.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=KOPF_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        log.info("ended")

    async def _unless_stopped(self, coroutine: Coroutine[Any, Any, None]) -> bool:
        """Await; whether it finished before the process was asked to stop."""
        work = asyncio.create_task(coroutine)
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                return False
            work.result()
            return True
        finally:
            for task in (work, stop):
                task.cancel()

    def _spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(asyncio.create_task(coroutine, name=name))

    def _on_signals(self) -> None:
        """SIGTERM and Ctrl-C end us in our own order; Kopf would take them for itself."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    def _make_informers(self) -> list[Informer]:
        children = self._controller.children
        sinks = {
            JOBS: Sink(
                children.put_job,
                lambda body: children.remove_job(body["metadata"]["uid"]),
                children.replace_jobs,
            ),
            PODS: Sink(
                children.put_pod,
                lambda body: children.remove_pod(body["metadata"]["uid"], body),
                children.replace_pods,
            ),
        }
        return [
            Informer(
                self._client, resource, sink,
                namespace=namespace, selector=names.CHILDREN, relisted=self._metrics.relisted,
            )
            for resource, sink in sinks.items()
            for namespace in self._settings.namespaces or (None,)
        ]  # fmt: skip

    def _health(self) -> str:
        """What is wrong with this process; empty: nothing."""
        if not self._synced or not self._working:
            return ""
        silent = max(informer.age() for informer in self._informers)
        if silent > SILENT_SECONDS:
            return f"nothing heard from the API server for {silent:.0f} s"
        return self._resync.deaf

    def _ready(self) -> str:
        """A standby is ready to take over; who leads is ready once it knows what there is."""
        return "reads what there is" if self._working and not self._synced else ""
