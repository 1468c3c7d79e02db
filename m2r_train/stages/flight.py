"""A commit on its way to the store, in a thread of its own, which may be called back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class GivenUp(Exception):  # noqa: N818 - no error: the thread's way out
    """Raised in a commit that makes room for a newer one."""


class Flight:
    """One commit on its way. ``error`` is what it ended with, None while it is on its way."""

    def __init__(self, step: int, size: int, work: Callable[[Flight], None]) -> None:
        self.step, self.size = step, size
        self.error: BaseException | None = None
        self._work = work
        self._given_up = False
        self._written = 0
        self._begun = time.monotonic()
        self._thread = threading.Thread(target=self._carry, name="m2r-save", daemon=True)
        self._thread.start()

    def _carry(self) -> None:
        try:
            self._work(self)
        except BaseException as error:
            self.error = error

    def watch(self, written: int) -> None:
        """Told by the store; the commit's way out where it was given up."""
        self._written = written
        if self._given_up:
            raise GivenUp

    def give_up(self) -> None:
        """Ask it to end uncommitted, which takes as long as the part that is being written."""
        self._given_up = True

    def ended(self, seconds: float = 0.0) -> bool:
        """Whether it has ended, after waiting for at most ``seconds``."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def rate(self) -> float | None:
        """Bytes a second so far, None while there are none."""
        seconds = time.monotonic() - self._begun
        return self._written / seconds if self._written and seconds > 0 else None

    @property
    def left(self) -> int:
        """Bytes that are still to be written."""
        return self.size - self._written
