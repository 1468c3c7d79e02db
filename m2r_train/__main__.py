"""``python -m m2r_train`` is the command ``m2r``: what a process needs around it.

A pod's process is number 1 of its container, which signals without a handler do not reach: they
count from here, before anything else is imported.
"""

from __future__ import annotations

import os
import sys

from m2r_train import lifeline
from m2r_train.stages.stop import StopRequest


def main() -> None:
    """Run the command, and end without taking torch apart: that costs a second of the grace."""
    lifeline.hold()
    stop = StopRequest()
    if sys.argv[1:2] in (["stage"], ["lane"]):
        stop.listen()
    code = 0
    try:
        from m2r_train.cli import main as command  # noqa: PLC0415 - after the handlers

        command(stop)
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        code = end.code or 0
    if "torch" not in sys.modules:
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
