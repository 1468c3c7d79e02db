"""Being asked to stop. Free of torch: signals count from before the long imports."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Set by SIGTERM or Ctrl-C; loops look at it between two steps.

    A second Ctrl-C ends the process at once: what was committed is safe anyway.
    """

    def __init__(self) -> None:
        self.reason: str | None = None

    def __bool__(self) -> bool:
        return self.reason is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the two signals inside the block; the former handlers come back after it."""
        former = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
        for number in former:
            signal.signal(number, self._on_signal)
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.reason is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason = signal.Signals(number).name
