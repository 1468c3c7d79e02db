"""Being asked to stop. Free of torch: signals count from before the long imports."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopNow(BaseException):
    """Raised where a stop comes inside ``at_once``. No ``Exception``: libraries catch those."""


class StopRequest:
    """Set by SIGTERM or Ctrl-C; loops look at it between two parts of their work.

    A second Ctrl-C ends the process at once: what was committed is safe anyway.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self.asked: float | None = None  # when, on the monotonic clock
        self._at_once = False

    def __bool__(self) -> bool:
        return self.reason is not None

    @property
    def age(self) -> float | None:
        """Seconds since it was asked for; None while it was not."""
        return None if self.asked is None else time.monotonic() - self.asked

    def told(self, reason: str, age: float) -> None:
        """Another rank was asked to stop ``age`` seconds ago; an own request stays as it is."""
        if self.reason is None:
            self.asked, self.reason = time.monotonic() - age, reason
            self._raise_if_due()

    def listen(self) -> None:
        """Handle the two signals from now on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the two signals inside the block; the former handlers come back after it."""
        former = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
        self.listen()
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A stop raises ``StopNow`` anywhere in the block: what it does may be cut off anywhere.

        A stop that came earlier raises at the beginning.
        """
        with self._mode(at_once=True):
            yield

    @contextmanager
    def when_asked(self) -> Iterator[None]:
        """Inside ``at_once``, a block that must not be cut off: it looks at the request itself."""
        with self._mode(at_once=False):
            yield
        self._raise_if_due()

    @contextmanager
    def _mode(self, *, at_once: bool) -> Iterator[None]:
        former, self._at_once = self._at_once, at_once
        try:
            self._raise_if_due()
            yield
        finally:
            self._at_once = former

    def _raise_if_due(self) -> None:
        if self._at_once and self:
            raise StopNow

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.reason is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.asked is None:
            self.asked = time.monotonic()
        self.reason = signal.Signals(number).name
        self._raise_if_due()
