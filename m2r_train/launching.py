"""Ranks of one node: started together, ended together, with one last word for all of them.

The launcher computes nothing. It tells each rank its place as torchrun would, passes SIGTERM on,
and ends all when one has ended badly: without it, nothing that they compute is of use. A rank ends
by itself when its launcher is gone, however that ended.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from m2r_train import lifeline
from m2r_train.api.errors import ConfigError, M2RError
from m2r_train.api.runspec import GANGS, RunSpec
from m2r_train.engine.ranks import LOCAL_RANK, MASTER, RANK, SIZE, RanksLostError
from m2r_train.stages.place import place_in_job
from m2r_train.stages.stop import StopRequest
from m2r_train.telemetry.termination import PATH_VARIABLE

_LOOK_SECONDS: Final = 0.05
_GRACE_SECONDS: Final = 10.0  # for the others, once one rank has ended badly: they learn of it
_GIVE_WAY_SECONDS: Final = 2 * _GRACE_SECONDS  # to the node that the cause is on, so that it ends
# first: a run's failure is what its first pod to end says
_WORDS: Final = (76, 64, 65, 78, 79, 75)  # exit codes that say more than a crash, weightiest first


class RanksEndedError(M2RError):
    """Ranks have ended with an exit code other than 0; the code is this exception's.

    ``told``: the termination message of the rank that says most, None where it left none.
    """

    def __init__(self, message: str, exit_code: int, told: bytes | None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.told = told


@dataclass(frozen=True, slots=True)
class End:
    """How a rank has ended; ``at`` is when the launcher saw it."""

    rank: int
    code: int  # negative: the signal, as subprocess tells it
    at: float = 0.0

    @property
    def status(self) -> int:
        """As a shell reports it."""
        return 128 - self.code if self.code < 0 else self.code


def ranks_of(run_spec: RunSpec) -> int:
    """How many ranks work on a run: 1 where a process needs no launcher."""
    if run_spec.kind not in GANGS:
        return 1
    return run_spec.parsed_spec.resources.nodes * run_spec.processes


def launch(run_spec: RunSpec, *, port: int, stop: StopRequest) -> bytes:
    """Run this node's ranks to their end; returns what rank 0 left as its last words.

    Raises `RanksEndedError` with the exit code and the message of the rank that says most, and
    ``Preempted`` where a stop came before the ranks had begun.
    """
    with TemporaryDirectory(prefix="m2r-ranks-") as folder:
        home = Path(folder)
        spec = home / "run.json"
        spec.write_text(run_spec.to_json())
        ranks = _Ranks(run_spec, spec, port)
        try:
            ends = ranks.ended(stop)
        finally:
            ranks.kill()
        speaks = weightiest(ends)
        words = _words(home / f"rank-{speaks.rank}.json")
    if speaks.code == RanksLostError.exit_code and len(ends) < ranks_of(run_spec):
        _give_way(stop, _GIVE_WAY_SECONDS)
    if stop and speaks.code == -signal.SIGTERM:  # came before the rank could take signals
        from m2r_train.stages.context import preempted  # noqa: PLC0415 - numpy

        raise preempted(run_spec, stop, None)
    if speaks.code != 0:
        raise RanksEndedError(_told(speaks, words, len(ends)), speaks.status, words)
    return words or b""


def _give_way(stop: StopRequest, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not stop and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)


def weightiest(ends: Sequence[End]) -> End:
    """The end that speaks for all: rank 0's success, an exit code with a meaning, the first crash,
    that of a rank which lost the others.

    Rank 0 ends well only when the run is done; what befell another rank after that is no matter.
    """
    done = [end for end in ends if end.rank == 0 and end.code == 0]
    bad = sorted((end for end in ends if end.code != 0), key=lambda end: (end.at, end.rank))
    if done or not bad:
        return (done or list(ends))[0]
    for code in _WORDS:
        for end in bad:
            if end.code == code:
                return end
    return next((end for end in bad if end.code != RanksLostError.exit_code), bad[0])


class _Ranks:
    """The processes."""

    def __init__(self, run_spec: RunSpec, spec: Path, port: int) -> None:
        each, nodes = run_spec.processes, run_spec.parsed_spec.resources.nodes
        node = place_in_job(nodes).index
        common = {
            **os.environ,
            **_meeting(nodes),
            SIZE: str(nodes * each),
            "OMP_NUM_THREADS": str(run_spec.threads),
        }
        kept, self._lifeline = os.pipe()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        command = [sys.executable, "-m", "m2r_train", "stage", "--spec", str(spec)]
        try:
            for local in range(each):
                rank = node * each + local
                own = {
                    RANK: str(rank),
                    LOCAL_RANK: str(local),
                    lifeline.VARIABLE: str(kept),
                    PATH_VARIABLE: str(spec.parent / f"rank-{rank}.json"),
                }
                self._processes[rank] = subprocess.Popen(
                    [*command, "--port", str(port)],
                    env={**common, **own},
                    pass_fds=(kept,),
                    start_new_session=True,  # Ctrl-C comes through the launcher, once
                )
        except BaseException:
            self.kill()
            raise
        finally:
            os.close(kept)

    def ended(self, stop: StopRequest) -> list[End]:
        """Waits for all; the ends in the order in which they came."""
        ends: list[End] = []
        told, patience = False, float("inf")
        while True:
            now = time.monotonic()
            seen = {end.rank for end in ends}
            ends += [
                End(rank, process.returncode, now)
                for rank, process in self._processes.items()
                if rank not in seen and process.poll() is not None
            ]
            if len(ends) == len(self._processes):
                return ends
            if stop and not told:
                told = True
                self._signal(signal.SIGTERM)
            if any(end.code != 0 or end.rank == 0 for end in ends):
                patience = min(patience, now + _GRACE_SECONDS)
            if now > patience:
                self._signal(signal.SIGKILL)
            time.sleep(_LOOK_SECONDS)

    def kill(self) -> None:
        """Nothing is left after this."""
        self._signal(signal.SIGKILL)
        for process in self._processes.values():
            process.wait()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def _signal(self, number: int) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(number)


def _meeting(nodes: int) -> dict[str, str]:
    """Where ranks meet: given by the operator for several nodes, a free port of this one."""
    if nodes > 1:
        missing = [name for name in MASTER if not os.environ.get(name)]
        if missing:
            raise ConfigError(
                f"spec.resources.nodes: {nodes} nodes need {' and '.join(missing)} in the "
                "environment of each, which the operator sets; without a cluster set it to 1"
            )
        return {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if sys.platform == "linux":
        told["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    return told


def _words(path: Path) -> bytes | None:
    """A rank's termination message; None where it left none."""
    return path.read_bytes() if path.is_file() else None


def _told(end: End, words: bytes | None, size: int) -> str:
    message = str(json.loads(words).get("message", "")) if words else ""
    if end.code in _WORDS and message:
        return message
    how = f"was killed by signal {-end.code}" if end.code < 0 else f"ended with code {end.code}"
    return f"rank {end.rank} {how}, and with it all {size} of this node; {message}".rstrip("; ")
