"""Asking pods: who is asked, how often, and what of the answers is believed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from operator_objects import KEY, pod, seen, sft
from simtime import cancelled, sim_now, simulate, until

from m2r_operator.observe import pod_seen
from m2r_operator.polling import (
    LONGEST,
    TIMEOUT_SECONDS,
    Poller,
    Target,
    is_pod_address,
    target_of,
)
from m2r_operator.state import Key, Observed, PodSeen

HERE = Target(attempt=1, uid="pod-1", ip="127.0.0.1")


class World:
    """A pod that answers, and a poller."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] | bytes | int = {"step": 1, "totalSteps": 10}
        self.asked: list[float] = []
        self.delay = 0.0
        self.dirty: list[Key] = []
        self.counted: list[bool] = []
        self.headers: dict[str, str] = {}
        self.poller: Poller

    async def status(self, request: web.Request) -> web.Response:
        self.asked.append(asyncio.get_running_loop().time())
        if self.delay:
            await asyncio.sleep(self.delay)
        if isinstance(self.answer, int):
            return web.Response(status=self.answer, headers=self.headers)
        body = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
        return web.Response(body=body)

    @property
    def poll(self) -> Any:
        return self.poller.poll_of(KEY)


def play(test: Callable[[World], Awaitable[None]], seconds: float = 5.0) -> None:
    async def main() -> None:
        world = World()
        app = web.Application()
        app.router.add_get("/status", world.status)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        world.poller = Poller(
            world.dirty.append, seconds=seconds, port=runner.addresses[0][1],
            count=world.counted.append, permitted=lambda ip: True, now=sim_now,
        )  # fmt: skip
        task = asyncio.create_task(world.poller.run())
        try:
            await test(world)
            assert not task.done()
        finally:
            await cancelled(task)
            await runner.cleanup()

    simulate(main)


def test_a_pod_is_asked_every_few_seconds_and_told_once_it_has_news() -> None:
    async def test(world: World) -> None:
        world.poller.follow(KEY, HERE)
        await asyncio.sleep(31)
        assert 5 <= len(world.asked) <= 8
        assert world.asked[0] <= 0.5
        assert world.dirty == [KEY]
        assert (world.poll.told.step, world.poll.attempt, world.poll.failing_since) == (1, 1, None)
        world.answer = {"step": 2, "totalSteps": 10, "metrics": {"loss": 1.0}}
        await asyncio.sleep(10)
        assert world.dirty == [KEY, KEY]
        world.answer = {"step": 2, "totalSteps": 10, "metrics": {"loss": 0.5}}
        await asyncio.sleep(10)
        assert world.dirty == [KEY, KEY], "a figure alone is no reason to look at the run"
        assert world.poll.told.metrics == {"loss": 0.5}
        assert all(world.counted)

    play(test)


def test_pods_are_not_asked_in_step() -> None:
    async def test(world: World) -> None:
        for n in range(20):
            world.poller.follow(Key("SFTJob", "ns", f"r{n}"), Target(1, f"pod-{n}", "127.0.0.1"))
        await asyncio.sleep(60)
        last = sorted(world.asked)[-20:]
        assert len({round(t, 1) for t in last}) > 5

    play(test)


@pytest.mark.parametrize(
    "answer",
    [404, 500, b"not json", b"[]", b"\xff", b'{"a":' * 10_000, b"x" * (LONGEST + 1), b""],
)
def test_answers_that_make_no_sense_are_failures(answer: bytes | int) -> None:
    async def test(world: World) -> None:
        world.answer = answer
        world.poller.follow(KEY, HERE)
        await asyncio.sleep(12)
        assert world.poll.told is None
        assert world.poll.failing_since is not None
        assert world.dirty == [KEY], "that it fails is news once"
        assert world.counted
        assert not any(world.counted)
        since = world.poll.failing_since
        world.answer = {"step": 3}
        await until(lambda: world.poll.told)
        assert world.poll.failing_since is None
        assert world.poll.answered > since
        assert world.dirty == [KEY, KEY]

    play(test)


def test_a_pod_that_stops_answering_keeps_its_last_words() -> None:
    async def test(world: World) -> None:
        world.poller.follow(KEY, HERE)
        await until(lambda: world.poll.told)
        world.answer = 500
        await until(lambda: world.poll.failing_since)
        assert world.poll.told.step == 1

    play(test)


def test_a_redirect_is_not_followed() -> None:
    async def test(world: World) -> None:
        world.answer, world.headers = 302, {"Location": "http://169.254.169.254/latest/meta-data"}
        world.poller.follow(KEY, HERE)
        await until(lambda: world.counted)
        assert world.poll.told is None

    play(test)


def test_slow_pods_hold_up_no_others() -> None:
    async def test(world: World) -> None:
        world.delay = 100.0
        for n in range(40):
            world.poller.follow(Key("SFTJob", "ns", f"r{n}"), Target(1, f"pod-{n}", "127.0.0.1"))
        await until(lambda: len(world.counted) >= 32, seconds=10)
        assert asyncio.get_running_loop().time() <= 0.6 + TIMEOUT_SECONDS
        world.delay = 0.0
        await until(lambda: any(world.counted), seconds=10)

    play(test)


def test_another_pod_starts_afresh_and_none_ends_it() -> None:
    async def test(world: World) -> None:
        world.poller.follow(KEY, HERE)
        await until(lambda: world.poll.told)
        world.poller.follow(KEY, HERE)
        assert world.poll.told is not None, "the same pod goes on as before"
        world.poller.follow(KEY, Target(2, "pod-2", "127.0.0.1"))
        assert (world.poll.told, world.poll.attempt, world.poll.pod_uid) == (None, 2, "pod-2")
        world.poller.follow(KEY, None)
        assert (world.poll, len(world.poller)) == (None, 0)
        asked = len(world.asked)
        await asyncio.sleep(30)
        assert len(world.asked) == asked

    play(test)


def test_an_answer_of_a_pod_that_is_no_longer_followed_is_dropped() -> None:
    async def test(world: World) -> None:
        world.delay = 1.0
        world.poller.follow(KEY, HERE)
        await until(lambda: world.asked)
        world.poller.follow(KEY, Target(2, "pod-2", "127.0.0.1"))
        await asyncio.sleep(1.2)
        assert world.poll.told is None

    play(test)


@pytest.mark.parametrize(
    ("ip", "allowed"),
    [
        ("10.0.0.1", True),
        ("192.168.3.4", True),
        ("fd00::7", True),
        ("127.0.0.1", False),
        ("::1", False),
        ("169.254.169.254", False),
        ("fe80::1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("example.com", False),
        ("10.0.0.1/../x", False),
        ("", False),
    ],
)
def test_only_addresses_of_pods_are_asked(ip: str, allowed: bool) -> None:
    assert is_pod_address(ip) is allowed

    async def main() -> None:
        poller = Poller(lambda key: None, seconds=5)
        poller.follow(KEY, Target(1, "p", ip))
        assert len(poller) == int(allowed)

    simulate(main)


def observed(*pods: PodSeen) -> Observed:
    return Observed(run=seen(sft(status={"attempt": 2})), pods=pods)


def ran(attempt: int = 2, index: int = 0, **more: Any) -> PodSeen:
    body = pod(attempt=attempt, index=index)
    for name, value in more.items():
        body["status"][name] = value
    return pod_seen(body)


def test_the_first_pod_of_the_present_attempt_is_asked_while_it_runs() -> None:
    found = target_of(observed(ran(attempt=1), ran(index=1), ran()))
    assert found is not None
    assert (found.attempt, found.ip) == (2, "10.0.0.1")
    assert target_of(observed(ran(attempt=1), ran(index=1))) is None
    assert target_of(observed(ran(phase="Pending"))) is None
    assert target_of(observed(ran(phase="Succeeded"))) is None
    assert target_of(observed(ran(podIP=None))) is None
    assert target_of(observed(pod_seen(pod(attempt=2), gone=True))) is None
