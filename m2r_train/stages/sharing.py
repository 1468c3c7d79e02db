"""Work by numbered parts, by one pod or by several that never talk to each other.

Every part is a function of its key, and whoever makes one keeps it in the journal. Pod ``i`` of
``n`` makes the parts whose number leaves the remainder ``i``. Pod 0 owns the run: it joins the
parts, and makes what a lost helper leaves open, beginning at the end where a slow one comes last.
A part that is made twice costs its time and nothing else: its bytes are the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing

from m2r_train.stages.context import Context

_POLL_SECONDS = (0.2, 2.0)  # pause between two looks at the journal: at first, at most
_PATIENCE_SECONDS = (10.0, 600.0)  # least and most that no part may come before one is taken over
_PATIENCE_PARTS = 3.0  # between them: so many times the longest part that was made here

Make = Callable[[Sequence[int]], Generator[bytes, None, None]]
"""Makes the parts with these numbers, in their order; is closed as soon as no more are wanted."""


def parts(
    ctx: Context,
    keys: Sequence[str],
    make: Make,
    *,
    at_a_time: int = 1,
    all_of_them: bool = True,
) -> Iterator[tuple[int, bytes]]:
    """Every part with its number, in the order in which they are there.

    ``at_a_time`` parts of a lost helper are made together. A helper is given its own share alone
    where ``all_of_them`` is not asked for.
    """
    share = _Share(ctx, keys, make, at_a_time)
    yield from share.own()
    if all_of_them or not ctx.place.helps:
        yield from share.others()


class _Share:
    def __init__(self, ctx: Context, keys: Sequence[str], make: Make, at_a_time: int) -> None:
        self._ctx = ctx
        self._keys = keys
        self._make = make
        self._at_a_time = at_a_time
        self._kept = ctx.run.journal_keys()
        self._left = [n for n in range(len(keys)) if not ctx.place.owns(n)]
        self._longest = 0.0

    def own(self) -> Iterator[tuple[int, bytes]]:
        """This pod's share: from the journal, or made and put there."""
        numbers = [n for n in range(len(self._keys)) if self._ctx.place.owns(n)]
        kept = self._kept
        making = self._made([n for n in numbers if self._keys[n] not in kept])
        for n in numbers:
            entry = self._read(n) if self._keys[n] in kept else next(making)
            yield n, next(self._made([n])) if entry is None else entry  # None: it was torn

    def others(self) -> Iterator[tuple[int, bytes]]:
        """The parts of the other pods, as they come; the owner makes those that do not."""
        pause, waited = _POLL_SECONDS[0], time.monotonic()
        while self._left:
            left = len(self._left)
            yield from self._arrived()
            if len(self._left) < left:
                pause, waited = _POLL_SECONDS[0], time.monotonic()
            elif not self._ctx.place.helps and time.monotonic() - waited > self._patience:
                taken, self._left = self._left[-self._at_a_time :], self._left[: -self._at_a_time]
                yield from zip(taken, self._made(taken), strict=True)
            else:
                time.sleep(pause)
                pause = min(1.5 * pause, _POLL_SECONDS[1])
            if self._left:
                self._ctx.run.verify_fence()
                self._kept = self._ctx.run.journal_keys()

    @property
    def _patience(self) -> float:
        least, most = _PATIENCE_SECONDS
        return min(max(least, _PATIENCE_PARTS * self._longest), most)

    def _arrived(self) -> Iterator[tuple[int, bytes]]:
        """Those that are there now, one in memory at a time."""
        for n in list(self._left):
            if (entry := self._read(n)) is not None:
                self._left.remove(n)
                yield n, entry

    def _read(self, n: int) -> bytes | None:
        key = self._keys[n]
        return self._ctx.run.journal_get(key) if key in self._kept else None

    def _made(self, numbers: Sequence[int]) -> Iterator[bytes]:
        with closing(self._make(numbers)) as making:
            for n in numbers:
                self._ctx.leave_if_asked(n)
                started = time.monotonic()
                entry = next(making)
                self._longest = max(self._longest, time.monotonic() - started)
                self._ctx.probe("before-journal")
                self._ctx.run.journal_put(self._keys[n], entry)
                yield entry
