"""The process that runs a user's reward function; started with FILE SECONDS BYTES.

One line of JSON in, ``{"completion": .., "problem": {..}}``, one line out: ``{"value": x}`` or
``{"error": ".."}``. The first line out tells that the file was read. What the file prints goes to
standard error, so that it cannot speak for the worker; its standard input is empty.

The limits are the kernel's: a CPU timer that ends the process, around each call, and an address
space. A call that waits instead of computing is the parent's to end.
"""

from __future__ import annotations

import importlib.util
import json
import numbers
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, TextIO

from m2r_train import lifeline

MODULE = "own_reward"


def main(path: str, seconds: float, memory: int) -> None:
    """Answer until standard input ends."""
    lifeline.hold()
    requests, replies = _own_ends()
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    function, fault = guarded(lambda: load(path), path, seconds)
    _say(replies, {"error": fault} if fault else {"value": 0.0})
    for line in requests:
        request = json.loads(line)
        _say(replies, answer(function, request["completion"], request["problem"], path, seconds))


def _own_ends() -> tuple[TextIO, TextIO]:
    """Where requests come from and replies go; 0 and 1 are the file's, empty and standard error."""
    requests, replies = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return open(requests, encoding="utf-8"), open(replies, "w", encoding="utf-8")  # noqa: PTH123


def load(path: str) -> Callable[[str, dict[str, Any]], object]:
    """The function ``reward`` of the file. Raises ImportError where there is none."""
    spec = importlib.util.spec_from_file_location(MODULE, path)
    if spec is None or spec.loader is None:
        raise ImportError("not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    function = getattr(module, "reward", None)
    if not callable(function):
        raise ImportError("has no function reward(completion, problem)")
    found: Callable[[str, dict[str, Any]], object] = function
    return found


def answer(
    function: Any, completion: str, problem: dict[str, Any], path: str, seconds: float
) -> dict[str, Any]:
    """The reply to one request."""
    value, fault = guarded(lambda: function(completion, problem), path, seconds)
    if fault:
        return {"error": f"reward() raised {fault}"}
    if not isinstance(value, numbers.Real):
        return {"error": f"reward() returned a {type(value).__name__}; return a number"}
    return {"value": float(value)}


def guarded(call: Callable[[], Any], path: str, seconds: float) -> tuple[Any, str]:
    """(what ``call`` returns, "") or (None, what it raised and where), under the CPU timer."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return call(), ""
    except BaseException as error:  # sys.exit() in a user's file is a fault too
        return None, told(error, path)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)


def told(error: BaseException, path: str) -> str:
    """One line: the error, and the deepest line of the user's file that it came through."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    if isinstance(error, SyntaxError) and error.filename == path:
        lines = [error.lineno]
    where = f" (line {lines[-1]})" if lines else ""
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    return f"{type(error).__name__}{': ' if text else ''}{text[:300]}{where}"


def _say(replies: TextIO, reply: dict[str, Any]) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
