"""The work queue: when a key is worked on, how often, and what failures do."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest
from simtime import simulate

from m2r_operator.queue import LONGEST_BACKOFF, WorkQueue

Work = Callable[[str], Awaitable[float | None]]


class Log:
    """When each key was worked on."""

    def __init__(self, seconds: float = 0.0, again: float | None = None) -> None:
        self.starts: list[tuple[float, str]] = []
        self.busy: set[str] = set()
        self.most = 0
        self.seconds, self.again = seconds, again

    async def work(self, key: str) -> float | None:
        assert key not in self.busy, "two workers have the same key"
        self.busy.add(key)
        self.most = max(self.most, len(self.busy))
        self.starts.append((round(asyncio.get_running_loop().time(), 3), key))
        await asyncio.sleep(self.seconds)
        self.busy.discard(key)
        return self.again

    def times(self, key: str) -> list[float]:
        return [time for time, name in self.starts if name == key]


def test_the_first_event_of_a_key_is_worked_on_at_once() -> None:
    async def main() -> None:
        log = Log()
        queue = WorkQueue(log.work, pause=0.2)
        queue.start()
        await asyncio.sleep(5)
        queue.add("a")
        await asyncio.sleep(1)
        assert log.times("a") == [5.0]
        await queue.stop(1)

    simulate(main)


def test_a_burst_of_events_is_worked_on_twice_at_most_within_the_pause() -> None:
    async def main() -> None:
        log = Log()
        queue = WorkQueue(log.work, pause=0.2)
        queue.start()
        for _ in range(20):
            queue.add("a")
            await asyncio.sleep(0.01)
        await asyncio.sleep(1)
        assert log.times("a") == [0.0, 0.2]
        await queue.stop(1)

    simulate(main)


def test_an_event_during_the_work_is_not_lost_and_one_key_has_one_worker() -> None:
    async def main() -> None:
        log = Log(seconds=1.0)
        queue = WorkQueue(log.work, pause=0.2)
        queue.start()
        queue.add("a")
        await asyncio.sleep(0.5)
        queue.add("a")
        queue.add("a")
        await asyncio.sleep(5)
        assert log.times("a") == [0.0, 1.0]
        await queue.stop(1)

    simulate(main)


def test_no_more_keys_are_worked_on_at_once_than_there_are_workers() -> None:
    async def main() -> None:
        log = Log(seconds=1.0)
        queue = WorkQueue(log.work, workers=3)
        for n in range(9):
            queue.add(f"k{n}")
        queue.start()
        await asyncio.sleep(0.5)
        assert queue.depth == 6
        await asyncio.sleep(5)
        assert (log.most, len(log.starts), queue.depth) == (3, 9, 0)
        await queue.stop(1)

    simulate(main)


def test_a_key_comes_again_when_its_work_has_asked_for_it() -> None:
    async def main() -> None:
        log = Log(again=10.0)
        queue = WorkQueue(log.work)
        queue.start()
        queue.add("a")
        await asyncio.sleep(35)
        assert log.times("a") == [0.0, 10.0, 20.0, 30.0]
        await queue.stop(1)

    simulate(main)


def test_an_event_comes_before_the_time_that_was_asked_for() -> None:
    async def main() -> None:
        log = Log(again=100.0)
        queue = WorkQueue(log.work)
        queue.start()
        queue.add("a")
        await asyncio.sleep(7)
        queue.add("a")
        await asyncio.sleep(110)
        assert log.times("a") == [0.0, 7.0, 107.0]
        await queue.stop(1)

    simulate(main)


def test_failures_are_repeated_with_growing_pauses_and_events_do_not_shorten_them() -> None:
    async def main() -> None:
        times: list[float] = []
        told: list[str] = []

        async def work(key: str) -> float | None:
            times.append(asyncio.get_running_loop().time())
            raise RuntimeError("no")

        queue = WorkQueue(work, failed=lambda key, error: told.append(f"{key}: {error}"))
        queue.start()
        queue.add("a")
        for _ in range(1000):
            queue.add("a")
            await asyncio.sleep(0.1)
        pauses = [b - a for a, b in itertools.pairwise(times)]
        for n, pause in enumerate(pauses):
            limit = min(LONGEST_BACKOFF, 0.5 * 2**n)
            assert limit / 2 <= pause <= limit + 0.001
        assert len(pauses) > 8
        assert told == ["a: no"] * len(times)
        await queue.stop(1)

    simulate(main)


def test_after_a_success_the_pauses_begin_anew_and_others_are_not_held_up() -> None:
    async def main() -> None:
        left = {"bad": 5, "good": 0}
        log = Log()

        async def work(key: str) -> float | None:
            await log.work(key)
            if left[key]:
                left[key] -= 1
                raise RuntimeError("no")
            return None

        queue = WorkQueue(work, failed=lambda key, error: None, workers=1)
        queue.start()
        queue.add("bad")
        await asyncio.sleep(0.1)
        queue.add("good")
        await asyncio.sleep(30)
        assert log.times("good") == [0.1]
        assert len(log.times("bad")) == 6
        left["bad"] = 1
        queue.add("bad")
        await asyncio.sleep(1)
        first, second = log.times("bad")[6:]
        assert second - first <= 0.5
        await queue.stop(1)

    simulate(main)


def test_keys_at_rest_leave_nothing_behind() -> None:
    async def main() -> None:
        log = Log()
        queue = WorkQueue(log.work, workers=4)
        queue.start()
        before = len(asyncio.all_tasks())
        for n in range(500):
            queue.add(f"k{n}")
        await asyncio.sleep(5)
        assert len(log.starts) == 500
        assert len(asyncio.all_tasks()) == before
        assert (queue._states, queue._heap, queue._timer) == ({}, [], None)
        await queue.stop(1)

    simulate(main)


def test_overtaken_wishes_do_not_pile_up() -> None:
    async def main() -> None:
        log = Log(again=1800.0)
        queue = WorkQueue(log.work)
        queue.start()
        for _ in range(2000):
            queue.add("a")
            await asyncio.sleep(0.5)
        assert len(log.starts) == 2000
        assert len(queue._heap) < 100
        await asyncio.sleep(1801)
        assert len(log.starts) == 2001
        await queue.stop(1)

    simulate(main)


@pytest.mark.parametrize(("seconds", "finished"), [(2.0, True), (10.0, False)])
def test_stopping_waits_for_the_work_in_flight_but_not_for_ever(
    seconds: float, finished: bool
) -> None:
    async def main() -> None:
        done: list[str] = []

        async def work(key: str) -> float | None:
            await asyncio.sleep(seconds)
            done.append(key)
            return None

        queue = WorkQueue(work, workers=1)
        queue.add("a")
        queue.add("b")
        queue.start()
        await asyncio.sleep(0.1)
        await queue.stop(5.0)
        assert done == (["a"] if finished else [])
        assert asyncio.get_running_loop().time() <= 5.2

    simulate(main)
