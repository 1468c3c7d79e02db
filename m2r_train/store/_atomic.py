"""Files that appear whole or not at all, directories that come and go under concurrent writers.

A temporary file is locked (``flock``) for as long as its writer lives, so whoever can lock one may
remove it. A lock file may be removed by its holder only; whoever waited for it looks whether it is
still the file of that name, and starts again if not.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from m2r_train.store.base import RESERVED

LOCK = f"{RESERVED}lock"
TEMPORARY = f"{RESERVED}tmp-"
_ATTEMPTS = 100  # how often a directory may vanish under a writer before that is an error


def replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Makes ``path`` what ``write`` writes, durably: temporary file, fsync, rename, fsync.

    Survives SIGKILL and power loss at any point with either the old content or the new.
    Raises ``OSError``, then with nothing left behind.
    """
    for _ in range(_ATTEMPTS):
        temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
        try:
            make_directories(path.parent)
            with temporary.open("xb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                write(file)
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(path)
        except FileNotFoundError:  # swept before it was locked, or the directory was removed
            continue
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        fsync_directory(path.parent)
        return
    raise OSError(errno.EBUSY, "directory keeps vanishing", str(path.parent))


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Excludes every other process and thread that locks the same directory."""
    for _ in range(_ATTEMPTS):
        try:
            make_directories(folder)
            file = (folder / LOCK).open("ab")
        except FileNotFoundError:  # removed by remove_empty in between
            continue
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, folder / LOCK):
                yield
                return
    raise OSError(errno.EBUSY, "directory keeps vanishing", str(folder))


def sweep(path: Path) -> None:
    """Removes a temporary file whose writer is dead; leaves any other file alone."""
    if not path.name.startswith(TEMPORARY):
        return
    with contextlib.suppress(OSError), path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def remove_empty(folder: Path, root: Path) -> None:
    """Removes directories without objects from ``folder`` upwards, never ``root`` itself."""
    while folder != root and root in folder.parents:
        try:
            if (folder / LOCK).exists():
                with (folder / LOCK).open("ab") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if [path.name for path in folder.iterdir()] != [LOCK]:
                        return
                    (folder / LOCK).unlink()
            folder.rmdir()
        except OSError:  # not empty, in use or gone: all are reasons to leave it
            return
        folder = folder.parent


def make_directories(folder: Path) -> None:
    """Makes ``folder`` and its parents durably. Raises ``NotADirectoryError`` on a file's name."""
    if folder.is_dir():
        return
    make_directories(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            raise NotADirectoryError(
                errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)
            ) from None
        return
    fsync_directory(folder.parent)


def fsync_directory(folder: Path) -> None:
    """Makes the names in ``folder`` durable; one that is gone has nothing to lose."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
