"""One process with a user's reward function: started, asked, held to its limits, ended.

It sees no credential: its environment is made from nothing. That keeps mistakes in, not malice:
the file runs as the trainer's user, and whoever writes it is trusted like the image.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Final, Self

import m2r_train
from m2r_train import lifeline
from m2r_train.api.errors import DataError, M2RError

_PIECE: Final = 65536
_CLOCK: Final = 10.0  # seconds of the clock for each second of CPU time: machines are busy
_START_SECONDS: Final = 120.0  # to start Python and to import what the file imports
_LONGEST_REPLY: Final = 1 << 16
_KEPT: Final = ("PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "LANG", "LC_ALL", "TZ", "HOME")


class WorkerLostError(M2RError):
    """Somebody else ended the process, as the kernel does without memory: a retry may help."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a process may use: CPU seconds of each call, bytes of address space."""

    seconds: float = 10.0
    memory: int = 2 << 30


@dataclass(frozen=True, slots=True)
class RewardFile:
    """A user's file as it was read once; ``shown`` is what people call it."""

    name: str
    shown: str
    source: bytes

    @property
    def sha256(self) -> str:
        """As ``sha256sum`` prints it."""
        return hashlib.sha256(self.source).hexdigest()

    def fault(self, text: str) -> DataError:
        """The one line about a fault of the file."""
        return DataError(f"own reward {self.name}: {self.shown}: {text}")


class _Ended(Exception):  # noqa: N818 - the process's end is an answer
    """The process is gone."""


class RewardProcess:
    """A context; inside, calling it gives the value of one completion, from 0 to 1.

    Raises ``DataError`` for every fault of the file: what it raises, a value that is no number
    from 0 to 1, too much CPU time, memory or waiting, an end of its process. Nothing of that is
    turned into a value, which would be learnt from.
    """

    def __init__(self, file: RewardFile, limits: Limits) -> None:
        self._file, self._limits = file, limits
        self._buffer = b""

    def __enter__(self) -> Self:
        self._folder = TemporaryDirectory(prefix="m2r-reward-")
        try:
            self._start(Path(self._folder.name))
            reply = self._exchange(b"", max(_START_SECONDS, self._clock), "being imported")
            if "error" in reply:
                raise self._file.fault(f"cannot be imported: {reply['error']}")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __call__(self, completion: str, problem: Mapping[str, Any]) -> float:
        """The value of one completion of ``problem``, whose key ``id`` names it in errors."""
        where = f"sample {str(problem.get('id'))[:80]!r}, completion {completion[:60]!r}"
        line = json.dumps({"completion": completion, "problem": dict(problem)}).encode() + b"\n"
        reply = self._exchange(line, self._clock, where)
        if "error" in reply:
            raise self._file.fault(f"{reply['error']} for {where}; correct the file")
        value = float(reply["value"])
        if not 0.0 <= value <= 1.0:  # false for a NaN too
            raise self._file.fault(
                f"reward() returned {value} for {where}; return a number from 0 to 1"
            )
        return value

    def close(self) -> None:
        """End the process and whatever it has started."""
        process: subprocess.Popen[bytes] | None = self.__dict__.pop("_process", None)
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
            process.wait()
            os.close(self._lifeline)
        self._folder.cleanup()

    @property
    def _clock(self) -> float:
        return _CLOCK * self._limits.seconds

    def _start(self, folder: Path) -> None:
        """A copy of the bytes that were read is what runs, whatever becomes of the file."""
        self._path = folder / "reward.py"
        self._path.write_bytes(self._file.source)
        work = folder / "work"
        work.mkdir()
        kept, self._lifeline = os.pipe()
        limits = [str(self._limits.seconds), str(self._limits.memory)]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "m2r_train.ownrewards.worker", str(self._path), *limits],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment(os.environ) | {lifeline.VARIABLE: str(kept)},
                pass_fds=(kept,),
                cwd=work,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for the trainer; one signal ends all of it
            )
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(kept)
        os.set_blocking(self._stdin, False)

    @property
    def _stdin(self) -> int:
        assert self._process.stdin is not None
        return self._process.stdin.fileno()

    def _exchange(self, line: bytes, seconds: float, where: str) -> dict[str, Any]:
        """Send ``line`` and wait for one line; raises as the class says."""
        try:
            reply: dict[str, Any] = json.loads(self._line(line, seconds))
        except TimeoutError:
            raise self._file.fault(
                f"no value after {seconds:.0f} s for {where}; raise timeoutSeconds or make "
                "it faster"
            ) from None
        except _Ended:
            raise self._end(where) from None
        return reply

    def _line(self, line: bytes, seconds: float) -> bytes:
        assert self._process.stdout is not None
        out, until, left = self._process.stdout.fileno(), time.monotonic() + seconds, line
        poll = select.poll()
        poll.register(out, select.POLLIN)
        if left:
            poll.register(self._stdin, select.POLLOUT)
        while b"\n" not in self._buffer:
            ready = dict(poll.poll(max(0.0, until - time.monotonic()) * 1000))
            if not ready:
                raise TimeoutError
            if self._stdin in ready:
                left = self._write(left)
                if not left:
                    poll.unregister(self._stdin)
            if out in ready:
                piece = os.read(out, _PIECE)
                self._buffer += piece
                if not piece or len(self._buffer) > _LONGEST_REPLY:
                    raise _Ended
        reply, _, self._buffer = self._buffer.partition(b"\n")
        return reply

    def _write(self, left: bytes) -> bytes:
        try:
            return left[os.write(self._stdin, left[:_PIECE]) :]
        except BlockingIOError:
            return left
        except BrokenPipeError:
            return b""  # its end is read next

    def _end(self, where: str) -> M2RError:
        code = self._process.wait()
        if code == -signal.SIGPROF:
            return self._file.fault(
                f"more than {self._limits.seconds:g} s of CPU time for {where}; raise "
                "timeoutSeconds or make it faster"
            )
        if code == -signal.SIGKILL:
            return WorkerLostError(
                f"own reward {self._file.name}: {self._file.shown}: its process was killed from "
                f"outside at {where}, as a pod out of memory is; raise resources.memory"
            )
        how = f"exit status {code}" if code >= 0 else signal.Signals(-code).name
        return self._file.fault(f"ended its process ({how}) for {where}; correct the file")


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """What the process sees of ours: where programs are, nothing secret; one thread, fixed hashes.

    Sets and dictionaries of texts have an order that hangs on a seed of the process.
    """
    return {name: ours[name] for name in _KEPT if name in ours} | {
        "PYTHONPATH": str(Path(m2r_train.__file__).parents[1]),  # the worker itself
        "PYTHONHASHSEED": "0",
        "PYTHONSAFEPATH": "1",  # neither the working folder nor the file's: one file is all
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    }
