"""Processes that carry one run after another: what ``--lanes`` starts, and what such a one does.

A lane is told run specs on its standard input, a line of JSON each, and answers a line each. It
takes torch in once. It ends with its parent, however that ended, and saves when asked to stop.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from m2r_train import lifeline
from m2r_train.api.errors import M2RError
from m2r_train.api.runspec import RunSpec
from m2r_train.stages.stop import StopRequest
from m2r_train.sweeps.running import LaneStopped


class LaneError(M2RError):
    """A run in a lane failed; the exit code is the run's own."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Lane:
    """A process, started with its first run and anew after one that crashed it."""

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop
        self.process: subprocess.Popen[bytes] | None = None
        self._held = -1
        self._told = False

    @property
    def pid(self) -> int | None:
        """Its process, None before the first run."""
        return None if self.process is None else self.process.pid

    def __call__(self, spec: RunSpec) -> Mapping[str, Any]:
        """The outcome. Raises `LaneError`, or `LaneStopped` where we asked it to stop."""
        if self._stop:
            raise LaneStopped
        process = self.process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(spec.to_json().encode())
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line.endswith(b"\n"):
            code = process.wait()
            self.close()
            if self._stop:
                raise LaneStopped
            raise LaneError(f"its process ended with {code}; the same command tries again", 1)
        answer = json.loads(line)
        if "outcome" in answer:
            return dict(answer["outcome"])
        if self._stop:
            raise LaneStopped
        raise LaneError(str(answer["error"]), int(answer["code"]))

    def ask_to_stop(self) -> None:
        """SIGTERM, once: the run under way saves and ends."""
        if self.process is not None and self.process.poll() is None and not self._told:
            self._told = True
            self.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Ends the process; one that still runs is killed."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout):
                if stream is not None:
                    stream.close()
            self.process = None
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    def _start(self) -> subprocess.Popen[bytes]:
        kept, self._held = os.pipe()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "m2r_train", "lane"],
                env={**os.environ, lifeline.VARIABLE: str(kept), "OMP_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(kept,),
                start_new_session=True,  # Ctrl-C comes through the parent, once
            )
        finally:
            os.close(kept)
        return self.process


def serve(source: IO[str], answers: IO[str], cache_dir: Path, stop: StopRequest) -> None:
    """What a lane does until its input ends or it is asked to stop."""
    from rich.console import Console  # noqa: PLC0415 - only here

    from m2r_train.runner import carried  # noqa: PLC0415 - what a parent has no need of
    from m2r_train.telemetry.progress import Progress  # noqa: PLC0415 - the same

    with Progress(Console(quiet=True)) as progress:
        while not stop and (line := source.readline()):
            answer: dict[str, Any]
            try:
                run = RunSpec.from_json(line)
                answer = {"outcome": dict(carried(run, progress, cache_dir, stop))}
            except M2RError as error:
                answer = {"error": str(error), "code": error.exit_code}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
