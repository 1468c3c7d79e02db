"""Waiting for the world, with an end."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(done: Callable[[], bool], seconds: float, *, every: float = 0.1) -> bool:
    """Polls ``done`` each ``every`` seconds; False when the time is over."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(every)
    return True
