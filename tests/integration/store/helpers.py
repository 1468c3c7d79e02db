"""A place that several processes open, children that can be killed, bits that can be flipped."""

from __future__ import annotations

import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from m2r_train.store import ObjectStore, open_store

KILLED = -signal.SIGKILL


@dataclass(frozen=True)
class Place:
    """Where a store is, and (``files``) where its objects lie on this machine's disk."""

    uri: str
    endpoint: str | None
    files: Path

    def open(self) -> ObjectStore:
        return _open(self.uri, self.endpoint, os.getpid())

    def under(self, prefix: str) -> Place:
        return Place(f"{self.uri}/{prefix}", self.endpoint, self.files / prefix)

    def flip(self, key: str, position: int = 0) -> None:
        """Flips one bit on the disk, behind the store's back."""
        path = self.files / key
        raw = bytearray(path.read_bytes())
        raw[position] ^= 1
        path.write_bytes(raw)

    def objects(self) -> dict[str, bytes]:
        store = self.open()
        return {entry.key: store.get(entry.key).data for entry in store.list()}


@functools.lru_cache(maxsize=256)
def _open(uri: str, endpoint: str | None, _pid: int) -> ObjectStore:
    """One client for a bucket and process: making one costs more than a hundred requests."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    if endpoint is None or not prefix:
        return open_store(uri, endpoint=endpoint)
    return _open(f"s3://{bucket}", endpoint, _pid).under(prefix)


def start(work: Callable[[], object]) -> int:
    """Runs ``work`` in a forked child, which exits with 0, or 1 after a traceback."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def wait(pid: int) -> int:
    """The child's exit status; -9 if it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run_child(work: Callable[[], object]) -> int:
    return wait(start(work))


def die() -> None:
    """kill -9 of this very process, here and now."""
    os.kill(os.getpid(), signal.SIGKILL)
