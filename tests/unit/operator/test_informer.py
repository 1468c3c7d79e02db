"""The informer: it never ends, never forgets a deletion, and never trusts a silent connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import pytest
from fakeapi import FakeApi
from operator_objects import labels
from simtime import cancelled, simulate, until

from m2r_operator import names
from m2r_operator.client import Client
from m2r_operator.informer import SERVER_SECONDS, SILENCE_SECONDS, Informer, Sink, slim
from m2r_operator.resources import PODS

Object = Mapping[str, Any]


class Seen:
    """A sink that keeps names."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.told: list[str] = []
        self.replaced: list[int] = []

    @property
    def sink(self) -> Sink:
        return Sink(self.put, self.gone, self.replace)

    def put(self, body: Object) -> None:
        self.names.add(body["metadata"]["name"])
        self.told.append(f"+{body['metadata']['name']}")

    def gone(self, body: Object) -> None:
        self.names.discard(body["metadata"]["name"])
        self.told.append(f"-{body['metadata']['name']}")

    def replace(self, namespace: str | None, bodies: Iterable[Object], version: int) -> None:
        self.names = {b["metadata"]["name"] for b in bodies}
        self.replaced.append(version)


def pod(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels(), **more}, "status": {}}


def follow(
    test: Callable[[FakeApi, Seen, Informer], Awaitable[None]], namespace: str | None = None
) -> None:
    """Run a test beside an informer of pods, in simulated time."""

    async def main() -> None:
        async with FakeApi().serve() as api:
            api.put("pods", pod("old"))
            api.put("pods", {"metadata": {"name": "foreign"}})
            client, seen = Client(api.credentials), Seen()
            informer = Informer(
                client, PODS, seen.sink, selector=names.CHILDREN, namespace=namespace
            )
            task = asyncio.create_task(informer.run())
            try:
                await test(api, seen, informer)
                assert not task.done()
            finally:
                await cancelled(task)
                await client.close()

    simulate(main)


def test_it_lists_then_follows_what_carries_the_label() -> None:
    async def test(api: FakeApi, seen: Seen, informer: Informer) -> None:
        await informer.synced.wait()
        assert seen.names == {"old"}
        api.put("pods", pod("new"))
        api.put("pods", {"metadata": {"name": "foreign-too"}})
        await until(lambda: "new" in seen.names)
        api.remove("pods", "old")
        await until(lambda: seen.names == {"new"})
        assert seen.told == ["+new", "-old"]

    follow(test)


def test_it_is_synced_only_after_the_whole_list() -> None:
    async def test(api: FakeApi, seen: Seen, informer: Informer) -> None:
        api.page = 1
        for n in range(3):
            api.put("pods", pod(f"p{n}"))
        api.fail(lambda r: "continue" in r.query, status=500, times=8)
        await asyncio.sleep(0.5)
        assert not informer.synced.is_set()
        assert seen.replaced == []
        await informer.synced.wait()
        assert seen.names == {"old", "p0", "p1", "p2"}

    follow(test)


def test_what_disappears_between_two_lists_is_gone() -> None:
    async def test(api: FakeApi, seen: Seen, informer: Informer) -> None:
        await informer.synced.wait()
        await asyncio.sleep(1)
        api.remove("pods", "old", quietly=True)
        api.put("pods", pod("new"), quietly=True)
        api.compact()
        api.put("services", {"metadata": {"name": "wakes-the-watch"}})
        await until(lambda: seen.names == {"new"})
        assert len(seen.replaced) == 2

    follow(test)


@pytest.mark.parametrize("status", [410, 500, 503, 429, 403])
def test_a_watch_that_is_refused_is_tried_again(status: int) -> None:
    async def test(api: FakeApi, seen: Seen, informer: Informer) -> None:
        await informer.synced.wait()
        await asyncio.sleep(1)
        api.fail(lambda r: r.query.get("watch") == "true", status=status, times=3)
        api.cut_watches()
        api.put("pods", pod("new"))
        await until(lambda: "new" in seen.names, seconds=15)

    follow(test)


def test_streams_that_are_cut_lose_nothing() -> None:
    async def test(api: FakeApi, seen: Seen, informer: Informer) -> None:
        await informer.synced.wait()
        for n in range(20):
            await asyncio.sleep(0.3)
            api.cut_watches()
            api.put("pods", pod(f"p{n}"))
        await until(lambda: len(seen.names) == 21, seconds=20)
        assert len(seen.replaced) == 1, "a cut stream is resumed, not listed anew"

    follow(test)


def test_a_half_open_connection_is_noticed_by_its_silence() -> None:
    async def test(api: FakeApi, seen: Seen, informer: Informer) -> None:
        await informer.synced.wait()
        api.silent = True
        await asyncio.sleep(1)
        api.put("pods", pod("new"))
        await asyncio.sleep(SILENCE_SECONDS - 10)
        assert informer.age() > SILENCE_SECONDS - 10
        api.silent = False
        await until(lambda: "new" in seen.names, seconds=30)

    follow(test)


def test_a_quiet_watch_is_renewed_without_a_list_and_stays_young() -> None:
    async def test(api: FakeApi, seen: Seen, informer: Informer) -> None:
        await informer.synced.wait()
        for _ in range(30):
            await asyncio.sleep(SERVER_SECONDS / 10)
            assert informer.age() < SILENCE_SECONDS
        watches = [r for r in api.requests if r.query.get("watch")]
        assert 3 <= len(watches) <= 5
        assert len(seen.replaced) == 1

    follow(test)


def test_a_server_that_ends_every_watch_at_once_is_not_hammered() -> None:
    async def test(api: FakeApi, seen: Seen, informer: Informer) -> None:
        await informer.synced.wait()
        api.fail(lambda r: r.query.get("watch") == "true", status=200, times=10_000)
        api.cut_watches()
        before = len(api.requests)
        await asyncio.sleep(60)
        assert 5 < len(api.requests) - before < 60

    follow(test)


def test_an_object_that_cannot_be_taken_in_is_not_the_end() -> None:
    async def main() -> None:
        async with FakeApi().serve() as api:
            client, taken = Client(api.credentials), []

            def put(body: Object) -> None:
                if body["metadata"]["name"] == "bad":
                    raise KeyError("poison")
                taken.append(body["metadata"]["name"])

            sink = Sink(put, lambda body: None, lambda namespace, bodies, version: None)
            informer = Informer(client, PODS, sink, selector=names.CHILDREN)
            task = asyncio.create_task(informer.run())
            await informer.synced.wait()
            await asyncio.sleep(1)
            api.put("pods", pod("bad"))
            await asyncio.sleep(10)
            api.put("pods", pod("good"))
            await until(lambda: taken == ["good"], seconds=10)
            await cancelled(task)
            await client.close()

    simulate(main)


def test_an_outage_of_a_minute_is_survived_and_over_within_seconds() -> None:
    async def test(api: FakeApi, seen: Seen, informer: Informer) -> None:
        await informer.synced.wait()
        await asyncio.sleep(1)
        outage = api.fail("GET", status=503, times=100_000)
        api.cut_watches()
        await asyncio.sleep(60)
        api.put("pods", pod("new"))
        outage.times = 0
        await until(lambda: "new" in seen.names, seconds=6)

    follow(test)


def test_only_the_namespace_in_scope_is_listed() -> None:
    async def test(api: FakeApi, seen: Seen, informer: Informer) -> None:
        await informer.synced.wait()
        api.put("pods", pod("elsewhere", namespace="other"))
        api.put("pods", pod("here"))
        await until(lambda: "here" in seen.names)
        assert seen.names == {"old", "here"}
        assert all("/namespaces/ns/" in r.path for r in api.requests)

    follow(test, namespace="ns")


def test_bulk_is_dropped_before_a_list_is_kept() -> None:
    body = {
        "metadata": {
            "name": "p",
            "labels": {"a": "b"},
            "managedFields": ["long"],
            "annotations": {
                names.RUN_SPEC: "x" * 10_000,
                "batch.kubernetes.io/job-completion-index": "3",
            },
        },
        "spec": {"nodeName": "n", "suspend": True, "containers": ["long"], "template": {}},
        "status": {"phase": "Running"},
    }
    assert slim(body) == {
        "metadata": {
            "name": "p",
            "labels": {"a": "b"},
            "annotations": {"batch.kubernetes.io/job-completion-index": "3"},
        },
        "spec": {"nodeName": "n", "suspend": True},
        "status": {"phase": "Running"},
    }
