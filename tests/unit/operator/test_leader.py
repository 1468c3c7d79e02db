"""The lease: one leader, who stops writing before another can begin."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from fakeapi import FakeApi
from simtime import cancelled, simulate, until

from m2r_operator.client import Client
from m2r_operator.leader import DURATION, EVERY, RENEW_WITHIN, Leader

Make = Callable[[str], Leader]


def with_leaders(test: Callable[[FakeApi, Make], Awaitable[None]]) -> None:
    """Run a test that makes replicas, in simulated time."""

    async def main() -> None:
        async with FakeApi().serve() as api:
            clients: list[Client] = []

            def make(holder: str) -> Leader:
                clients.append(Client(api.credentials))
                return Leader(clients[-1], "ns", "m2r", holder)

            try:
                await test(api, make)
            finally:
                for client in clients:
                    await client.close()

    simulate(main)


def now() -> float:
    return asyncio.get_running_loop().time()


def holder(api: FakeApi) -> str:
    lease = api.get("leases", "m2r")
    assert lease is not None
    return str(lease["spec"]["holderIdentity"])


async def lead(leader: Leader) -> None:
    await leader.acquire()
    await leader.hold()


def test_the_first_replica_leads_and_the_second_waits() -> None:
    async def test(api: FakeApi, make: Make) -> None:
        first, second = make("a"), make("b")
        tasks = [asyncio.create_task(lead(first))]
        await until(lambda: first.leads)
        tasks.append(asyncio.create_task(lead(second)))
        for _ in range(100):
            await asyncio.sleep(1)
            assert (first.leads, second.leads, holder(api)) == (True, False, "a")
        await cancelled(*tasks)

    with_leaders(test)


def test_two_that_start_together_do_not_both_lead() -> None:
    async def test(api: FakeApi, make: Make) -> None:
        leaders = [make(f"r{n}") for n in range(5)]
        tasks = [asyncio.create_task(lead(one)) for one in leaders]
        await asyncio.sleep(5)
        assert sum(one.leads for one in leaders) == 1
        await cancelled(*tasks)

    with_leaders(test)


def test_a_leader_that_dies_is_followed_after_its_lease_and_not_before() -> None:
    async def test(api: FakeApi, make: Make) -> None:
        first, second = make("a"), make("b")
        task = asyncio.create_task(lead(first))
        await until(lambda: first.leads)
        other = asyncio.create_task(lead(second))
        await asyncio.sleep(30)
        await cancelled(task)
        died = now()
        await until(lambda: second.leads, seconds=30)
        assert DURATION - EVERY <= now() - died <= DURATION + 2 * EVERY
        assert first.seconds_left() == 0
        assert (api.get("leases", "m2r") or {})["spec"]["leaseTransitions"] == 2
        await cancelled(other)

    with_leaders(test)


def test_a_released_lease_is_taken_at_once() -> None:
    async def test(api: FakeApi, make: Make) -> None:
        first, second = make("a"), make("b")
        task = asyncio.create_task(lead(first))
        await until(lambda: first.leads)
        other = asyncio.create_task(lead(second))
        await asyncio.sleep(10)
        await cancelled(task)
        await first.release()
        assert first.seconds_left() == 0
        released = now()
        await until(lambda: second.leads)
        assert now() - released <= EVERY + 0.1
        await cancelled(other)

    with_leaders(test)


def test_a_restarted_container_has_its_lease_back_at_once() -> None:
    async def test(api: FakeApi, make: Make) -> None:
        task = asyncio.create_task(lead(make("a")))
        await asyncio.sleep(5)
        await cancelled(task)
        again, started = make("a"), now()
        await again.acquire()
        assert now() - started < 0.5

    with_leaders(test)


@pytest.mark.parametrize(
    "how", [{"status": 503}, {"status": 500}, {"delay": 100.0}, {"lose": True}]
)
def test_who_cannot_renew_stops_before_the_lease_can_be_taken(how: dict[str, float]) -> None:
    async def test(api: FakeApi, make: Make) -> None:
        leader = make("a")
        await leader.acquire()
        held = asyncio.create_task(leader.hold())
        await asyncio.sleep(5)
        assert leader.leads
        began = now()
        api.fail("(GET|PUT) .*/leases", times=10_000, **how)  # type: ignore[arg-type]
        await asyncio.wait_for(held, 60)
        assert RENEW_WITHIN - EVERY - 0.1 <= now() - began <= RENEW_WITHIN + 0.1
        assert leader.seconds_left() == 0

    with_leaders(test)


def test_no_moment_lets_two_replicas_write() -> None:
    """One cannot reach the API server, the other can; both are asked all the time."""

    async def test(api: FakeApi, make: Make) -> None:
        first, second = make("a"), make("b")
        await first.acquire()
        holds = asyncio.create_task(first.hold())
        other = asyncio.create_task(lead(second))
        await asyncio.sleep(5)
        before = first._client
        first._client = Client(  # from here on the first one talks to nobody
            type(api.credentials)(server="http://127.0.0.1:1")
        )
        ends: float | None = None
        for _ in range(2000):
            await asyncio.sleep(0.02)
            left = first.seconds_left()
            if left:
                ends = now() + left  # a write that begins now has ended by then
            assert not second.leads or ends is None or now() >= ends - 0.1
        assert second.leads
        assert holds.done()
        await first._client.close()
        first._client = before
        await cancelled(other)

    with_leaders(test)


def test_a_leader_that_was_paused_past_its_lease_may_not_write_when_it_wakes() -> None:
    async def test(api: FakeApi, make: Make) -> None:
        leader = make("a")
        await leader.acquire()
        assert leader.seconds_left() > RENEW_WITHIN
        await asyncio.sleep(RENEW_WITHIN + 0.1)  # nothing renews: as if the machine hung
        assert leader.seconds_left() == 0

    with_leaders(test)


def test_a_lease_that_somebody_else_took_is_lost_at_the_next_look() -> None:
    async def test(api: FakeApi, make: Make) -> None:
        leader = make("a")
        await leader.acquire()
        held = asyncio.create_task(leader.hold())
        api.change("leases", "m2r", spec={"holderIdentity": "b"})
        await asyncio.wait_for(held, EVERY + 1)
        assert not leader.leads
        await leader.release()
        assert holder(api) == "b"

    with_leaders(test)


def test_a_reply_that_is_lost_on_the_first_claim_does_not_matter() -> None:
    async def test(api: FakeApi, make: Make) -> None:
        api.fail("POST .*/leases", lose=True)
        leader = make("a")
        await leader.acquire()
        assert leader.leads
        assert now() <= EVERY + 1

    with_leaders(test)


def test_clocks_of_other_machines_are_not_compared_with_ours() -> None:
    async def test(api: FakeApi, make: Make) -> None:
        spec = {"holderIdentity": "b", "leaseDurationSeconds": 15,
                "renewTime": "1999-01-01T00:00:00.000000Z"}  # fmt: skip
        api.put("leases", {"metadata": {"name": "m2r"}, "spec": spec})
        leader = make("a")
        await leader.acquire()
        assert now() >= DURATION

    with_leaders(test)
