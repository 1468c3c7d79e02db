"""Kopf as it is set up here: it watches, writes nothing and never gives up."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import kopf
import pytest
from aiohttp import ClientSession
from fakeapi import FakeApi
from operator_objects import KEY, sft
from simtime import simulate, until

from m2r_operator import handlers, names
from m2r_operator.client import Client
from m2r_operator.controller import Controller
from m2r_operator.health import Probes
from m2r_operator.metrics import Metrics
from m2r_operator.resync import DELIVERY_SECONDS, Resync
from m2r_operator.state import Decision, Defaults

pytestmark = pytest.mark.global_rng("Kopf draws the jitter of its watches from it")


class World:
    """A server with a controller that decides nothing."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.client = Client(api.credentials)
        self.controller = Controller(
            self.client, Defaults(), Metrics(), identity="me", poll_seconds=5,
            decide=lambda seen, now: Decision(status=None),
        )  # fmt: skip
        self.resync = Resync(self.client, self.controller, [], 300.0)
        self.stop = asyncio.Event()
        self.counted: list[tuple[str, str, str]] = []

    async def kopf(self) -> None:
        await kopf.operator(
            registry=handlers.registry(
                self.controller, self.resync, self.api.credentials,
                count=lambda *what: self.counted.append(what),
            ),
            settings=kopf.OperatorSettings(), standalone=True, clusterwide=True,
            stop_flag=self.stop,
        )  # fmt: skip

    @property
    def names(self) -> list[str]:
        return sorted(run.key.name for run in self.controller.runs)


def play(test: Any) -> None:
    async def main() -> None:
        async with FakeApi().serve() as api:
            world = World(api)
            task = asyncio.create_task(world.kopf())
            try:
                await test(world)
                assert not task.done()
            finally:
                world.stop.set()
                await asyncio.wait_for(task, 20)
                await world.client.close()

    simulate(main)


def test_kopf_tells_of_what_is_there_what_comes_and_what_goes_and_writes_nothing() -> None:
    async def test(world: World) -> None:
        world.api.put("sftjobs", sft("there"))
        await until(lambda: world.names == ["there"])
        world.api.put("sftjobs", sft("comes"))
        await until(lambda: world.names == ["comes", "there"])
        world.api.change("sftjobs", "there", status={"attempt": 1})
        await until(lambda: any(r.status.attempt == 1 for r in world.controller.runs))
        world.api.remove("sftjobs", "there")
        await until(lambda: world.names == ["comes"])
        await asyncio.sleep(30)
        assert [r for r in world.api.requests if r.method != "GET"] == []
        body = world.api.get("sftjobs", "comes")
        assert body is not None
        assert "annotations" not in body["metadata"]
        assert "finalizers" not in body["metadata"]
        assert not any("customresourcedefinitions" in r.path for r in world.api.requests)
        assert ("watch", "sftjobs", "2xx") in world.counted
        assert all(r.headers["User-Agent"].startswith("m2r-operator/") for r in world.api.requests)
        assert all(r.headers["Authorization"] == "Bearer t0ken" for r in world.api.requests)

    play(test)


def test_kopf_leaves_our_finalizer_alone() -> None:
    async def test(world: World) -> None:
        purged = sft("purged")
        purged["metadata"]["finalizers"] = [names.FINALIZER]
        world.api.put("sftjobs", purged)
        await until(lambda: world.names == ["purged"])
        world.api.change("sftjobs", "purged", status={"attempt": 1})
        await asyncio.sleep(30)
        assert [r for r in world.api.requests if r.method != "GET"] == []

    play(test)


@pytest.mark.parametrize("status", [500, 503, 429, 403, 401])
def test_kopf_survives_an_outage_that_is_longer_than_its_own_patience(status: int) -> None:
    async def test(world: World) -> None:
        await until(lambda: any(r.query.get("watch") for r in world.api.requests))
        outage = world.api.fail("GET", status=status, times=1_000_000)
        world.api.cut_watches()
        asked = len(world.api.requests)
        await asyncio.sleep(180)
        assert len(world.api.requests) - asked < 4 * 180, "nor is the server hammered"
        outage.times = 0
        world.api.put("sftjobs", sft("after"))
        await until(lambda: world.names == ["after"], seconds=20)

    play(test)


def test_the_patience_has_no_end_and_pauses_are_short() -> None:
    pauses = list(itertools.islice(handlers.Patience(), 1000))
    assert len(pauses) == 1000
    assert max(pauses) <= 5.0
    assert list(itertools.islice(handlers.Patience(), 3)) != pauses[:3]


def test_what_kopf_misses_between_two_watches_the_resync_brings() -> None:
    async def test(world: World) -> None:
        world.api.put("sftjobs", sft("lost"))
        await until(lambda: world.names == ["lost"])
        task = asyncio.create_task(world.resync.run())
        await asyncio.sleep(1)
        world.api.remove("sftjobs", "lost", quietly=True)
        world.api.put("sftjobs", sft("new"), quietly=True)
        await asyncio.sleep(250)
        assert world.names == ["lost"], "Kopf has been told of nothing"
        await until(lambda: world.names == ["new"], seconds=60)
        assert not world.resync.deaf
        await until(lambda: world.resync.deaf, seconds=DELIVERY_SECONDS + 1)
        assert "Kopf has not told of SFTJob ns/new" in world.resync.deaf
        task.cancel()

    play(test)


def test_a_healthy_kopf_is_not_called_deaf() -> None:
    async def test(world: World) -> None:
        task = asyncio.create_task(world.resync.run())
        for n in range(200):
            world.api.put("sftjobs", sft(f"r{n % 20}", status={"attempt": n}))
            await asyncio.sleep(10)
            assert world.resync.deaf == ""
        task.cancel()

    play(test)


def test_the_first_list_waits_for_the_definitions_and_the_server() -> None:
    async def main() -> None:
        async with FakeApi().serve() as api:
            world = World(api)
            api.put("sftjobs", sft())
            api.kueue = True
            api.missing = {"evaljobs"}
            task = asyncio.create_task(world.resync.first())
            await asyncio.sleep(30)
            assert not task.done()
            api.missing = set()
            await asyncio.wait_for(task, 5)
            assert world.controller.runs.get(KEY) is not None
            assert world.controller.kueue
            await world.client.close()

    simulate(main)


def test_probes_answer_on_a_standby_too_and_say_what_is_wrong() -> None:
    async def main() -> None:
        wrong = ""
        metrics = Metrics()
        async with (
            Probes("127.0.0.1", 0, 0, metrics, lambda: wrong, lambda: "") as probes,
            ClientSession() as session,
        ):
            (health, scrape) = (f"http://{h}:{p}" for h, p in probes.addresses)

            async def get(url: str) -> tuple[int, str]:
                async with session.get(url) as response:
                    return response.status, await response.text()

            assert await get(f"{health}/healthz") == (200, "ok\n")
            assert await get(f"{health}/readyz") == (200, "ok\n")
            wrong = "nothing heard"
            assert await get(f"{health}/healthz") == (503, "nothing heard\n")
            status, text = await get(f"{scrape}/metrics")
            assert status == 200
            assert "m2r_reconcile_seconds" in text
            assert (await get(f"{health}/metrics"))[0] == 404

    simulate(main)
