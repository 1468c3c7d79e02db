"""Probes and metrics over HTTP, on a standby replica as well.

``/healthz``: the process works; when it does not, the kubelet restarts it. ``/readyz``: it has
started; a standby is ready, or a roll-over would wait for ever for it. ``/metrics``: Prometheus.
Kopf has an endpoint of its own, which would listen only while this replica leads.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from m2r_operator.metrics import Metrics


class Probes:
    """Two small servers. Use as a context; ``health`` returns what is wrong, or nothing."""

    def __init__(
        self,
        host: str,
        health_port: int,
        metrics_port: int,
        metrics: Metrics,
        health: Callable[[], str],
        ready: Callable[[], str],
    ) -> None:
        self._host, self._ports = host, (health_port, metrics_port)
        self._metrics, self._health, self._ready = metrics, health, ready
        self._runners: list[web.AppRunner] = []
        self.addresses: list[tuple[str, int]] = []

    async def __aenter__(self) -> Self:
        probes, scrapes = web.Application(), web.Application()
        probes.router.add_get("/healthz", _answer(self._health))
        probes.router.add_get("/readyz", _answer(self._ready))
        scrapes.router.add_get("/metrics", self._exposition)
        for app, port in zip((probes, scrapes), self._ports, strict=True):
            runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=0.5)
            await runner.setup()
            self._runners.append(runner)
            site = web.TCPSite(runner, self._host, port)
            await site.start()
            self.addresses.append(runner.addresses[0][:2])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for runner in self._runners:
            await runner.cleanup()

    async def _exposition(self, request: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )


def _answer(probe: Callable[[], str]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        wrong = probe()
        return web.Response(text=f"{wrong or 'ok'}\n", status=503 if wrong else 200)

    return answer
