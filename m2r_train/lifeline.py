"""A rank ends with its launcher, however that ended. It counts before the long imports."""

from __future__ import annotations

import os
import signal
import threading
from typing import Final

VARIABLE: Final = "M2R_LIFELINE"  # a file descriptor, at its end when the launcher is gone


def is_held() -> bool:
    """Whether this process was started by a launcher, which speaks for it."""
    return bool(os.environ.get(VARIABLE))


def hold() -> None:
    """From now on this process is killed when its launcher is gone; nothing without one."""
    if not is_held():
        return
    lifeline = int(os.environ[VARIABLE])

    def wait() -> None:
        os.read(lifeline, 1)  # nobody writes: it returns at the other end's end
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, name="m2r-lifeline", daemon=True).start()
