"""An event loop whose clock jumps: tests of minutes take milliseconds and are not flaky.

Whenever nothing is ready the clock goes to the next timer. Sockets between tasks of one process
work, since what one end has sent is ready at the other before the clock may move.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")
LOOKS = 3  # at the sockets before the clock jumps; what one end sent the other has at once
DEAD = 5.0  # real seconds without timer and event after which a test hangs
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            ready = super().select(DEAD)
            assert ready, "nothing is scheduled and nothing happens: the test hangs"
            return list(ready)
        for _ in range(LOOKS if timeout > 0 else 1):
            ready = super().select(0)
            if ready:
                return list(ready)
        self.now += timeout
        return []


class SimLoop(asyncio.SelectorEventLoop):
    """The loop. ``loop.now()`` is its time as a date."""

    def __init__(self) -> None:
        self._sim = _Selector()
        super().__init__(self._sim)

    def time(self) -> float:
        return self._sim.now

    def now(self) -> datetime:
        """The simulated date."""
        return EPOCH + timedelta(seconds=self.time())


def simulate(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run ``main()`` in simulated time; fails when it leaves tasks behind."""
    loop = SimLoop()
    asyncio.set_event_loop(loop)
    try:
        result = loop.run_until_complete(main())
        left = [t for t in asyncio.all_tasks(loop) if not t.done()]
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        return result
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def sim_now() -> datetime:
    """The date of the running simulated loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    return loop.now()


async def until(probe: Callable[[], T], *, seconds: float = 60.0, every: float = 0.05) -> T:
    """What ``probe`` returns once that is true; AssertionError after simulated ``seconds``."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        found = probe()
        if found:
            return found
        assert loop.time() < end, f"did not happen within {seconds} s"
        await asyncio.sleep(every)


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


__all__ = ["EPOCH", "Awaitable", "SimLoop", "cancelled", "sim_now", "simulate", "until"]
