"""What is to be looked at again: a set of dirty keys, worked on by a few workers.

One worker a key at a time; what happens to a key meanwhile makes it dirty again, once. The first
event of a quiet key is worked on at once; after that a key has a least pause, which gathers the
burst of events that every change sets off. Failures are repeated with growing, jittered pauses.
All waiting keys share one heap and one timer.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from m2r_operator.pacing import Backoff

PAUSE: Final = 0.2  # seconds between two looks at one key
LONGEST_BACKOFF: Final = 10.0  # seconds; an API server that is back must not wait long for us

K = TypeVar("K")
Work = Callable[[K], Awaitable[float | None]]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _State:
    """A key that is known to the queue; forgotten once it is at rest."""

    due: float | None = None  # when it is to be looked at; None: not waiting
    ready: bool = False  # handed to the workers
    busy: bool = False
    dirty: bool = False  # something happened while it was busy
    earliest: float = 0.0  # its pause ends
    backoff: Backoff | None = None


class WorkQueue(Generic[K]):
    """Calls ``work(key)`` for each key that was added.

    ``work`` returns seconds after which it wants to be called again though nothing happens, or
    None. When it raises, it is called again after a pause.
    """

    def __init__(
        self,
        work: Work[K],
        *,
        workers: int = 16,
        pause: float = PAUSE,
        failed: Callable[[K, Exception], None] | None = None,
    ) -> None:
        self._work, self._pause, self._failed = work, pause, failed
        self._states: dict[K, _State] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0
        self._ready: deque[K] = deque()
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._workers = workers
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    @property
    def depth(self) -> int:
        """Keys that wait for a worker now."""
        return len(self._ready)

    def add(self, key: K) -> None:
        """Something has happened to a key."""
        state = self._states.setdefault(key, _State())
        if state.busy:
            state.dirty = True
        elif not state.ready and state.backoff is None:  # after a failure the pause stands
            self._schedule(key, state, max(self._now(), state.earliest))

    def start(self) -> None:
        """Begin to work; keys can be added before."""
        self._tasks = [
            asyncio.create_task(self._run(), name=f"worker {n}") for n in range(self._workers)
        ]

    async def stop(self, seconds: float) -> None:
        """Take no more work; wait for what is being worked on, at most ``seconds``."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        self._wake.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._tasks = []

    async def _run(self) -> None:
        while not self._stopping:
            if not self._ready:
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._do(self._ready.popleft())

    async def _do(self, key: K) -> None:
        state = self._states[key]
        state.ready, state.busy, state.dirty = False, True, False
        state.earliest = self._now() + self._pause
        again: float | None
        try:
            again = await self._work(key)
            state.backoff = None
        except Exception as error:  # told and repeated: one bad run must not stop the others
            again = self._failure(key, state, error)
        finally:
            state.busy = False
        if state.dirty and state.backoff is None:
            again = 0.0
        if again is None:
            self._rest(key, state)
        else:
            self._schedule(key, state, max(self._now() + again, state.earliest))

    def _failure(self, key: K, state: _State, error: Exception) -> float:
        if self._failed is not None:
            self._failed(key, error)
        else:
            log.error("%s: %s", key, error)
        state.backoff = state.backoff or Backoff(first=0.5, most=LONGEST_BACKOFF)
        return state.backoff.next()

    def _rest(self, key: K, state: _State) -> None:
        """Nothing is due. Its pause still counts, so it is remembered until that has ended."""
        self._push(state.earliest, key)

    def _schedule(self, key: K, state: _State, due: float) -> None:
        if state.due is not None and state.due <= due:
            return
        state.due = due
        if due <= self._now():
            self._hand_out(key, state)
        else:
            self._push(due, key)

    def _push(self, when: float, key: K) -> None:
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, key))
        if len(self._heap) > 64 + 4 * len(self._states):  # mostly wishes that were overtaken
            self._heap = [
                (s.earliest if s.due is None else s.due, n, k)
                for n, (k, s) in enumerate(self._states.items())
            ]
            heapq.heapify(self._heap)
            self._count = len(self._heap)
        self._set_timer()

    def _hand_out(self, key: K, state: _State) -> None:
        state.due, state.ready = None, True
        self._ready.append(key)
        self._wake.set()

    def _set_timer(self) -> None:
        when = self._heap[0][0] if self._heap else None
        if self._timer is not None:
            if when is not None and self._timer.when() == when:
                return
            self._timer.cancel()
            self._timer = None
        if when is not None and not self._stopping:
            self._timer = asyncio.get_running_loop().call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self._now()
        while self._heap and self._heap[0][0] <= now:
            _, _, key = heapq.heappop(self._heap)
            state = self._states.get(key)
            if state is None or state.busy or state.ready:
                continue
            if state.due is not None and state.due <= now:
                self._hand_out(key, state)
            elif state.due is None and state.backoff is None and state.earliest <= now:
                del self._states[key]  # at rest: nothing about it needs to be remembered
        self._set_timer()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
