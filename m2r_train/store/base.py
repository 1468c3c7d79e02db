"""What every store promises: whole objects, conditional writes, a sorted listing.

A store maps keys to immutable values that are replaced whole. Two implementations exist, files
(:mod:`m2r_train.store.local`) and S3 (:mod:`m2r_train.store.s3`); the tests run one table on both.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from m2r_train.api.errors import ConfigError, DataError, M2RError

MAX_KEY_BYTES = 1024  # the limit of S3
RESERVED = ".m2r-"  # names of lock and temporary files of the local store, never of objects

OnError = Callable[[str, str], None]
"""Called with (operation, error): both from small closed sets, fit for metric labels."""

Watch = Callable[[int], None]
"""Called with the bytes written so far, between two parts; what it raises ends the write."""


class NotFound(LookupError):  # noqa: N818 - an answer of the store rather than a mishap
    """The store holds nothing under this key."""


class PreconditionFailed(Exception):  # noqa: N818 - an answer of the store rather than a mishap
    """A conditional write was refused: somebody else has written in between."""


class StoreUnavailable(M2RError):  # noqa: N818 - says what it is
    """A store that has worked before does not answer now (exit 1: trying again later may help)."""


class CorruptObject(DataError):  # noqa: N818 - a finding that readers act on
    """The store's own checksum says that the object is not what was written (``etag`` as found)."""

    def __init__(self, message: str, etag: str) -> None:
        super().__init__(message)
        self.etag = etag


@dataclass(frozen=True, slots=True)
class Blob:
    """An object's bytes, and the tag to give to :meth:`ObjectStore.put_if`."""

    data: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a listing. ``etag`` is None where the store must read the object to know it."""

    key: str
    size: int
    etag: str | None


class ObjectStore(Protocol):
    """Objects under keys such as ``checkpoints/e3-s40/MANIFEST.json``.

    Every method raises ``ConfigError`` with one line when the store cannot be used as configured,
    ``StoreUnavailable`` when one that has worked stops answering, and ``ValueError`` for a key
    that :func:`check_key` refuses. No method leaves an object half-written.
    """

    @property
    def uri(self) -> str:
        """Where keys are resolved, without a trailing slash."""

    def get(self, key: str) -> Blob:
        """The object's bytes and tag. Raises ``NotFound``, ``CorruptObject``."""

    def put(self, key: str, data: bytes) -> str:
        """Writes or replaces the object; it is durable on return. Returns the new tag."""

    def put_if(self, key: str, data: bytes, *, if_match: str | None) -> str:
        """Writes if the object still has the tag ``if_match`` (None: if there is no object).

        Raises ``PreconditionFailed``, with nothing written. One exception makes a lost reply
        harmless: if the store already holds exactly ``data``, the write counts as done and its
        tag is returned. So **callers put something unique into ``data``** (a writer's uuid with
        the step): then equal bytes can only be their own earlier write.
        """

    def put_parts(self, key: str, data: memoryview, watch: Watch) -> None:
        """As ``put``, in parts, and without a copy of the whole: ``data`` must stay as it is.

        What ``watch`` raises is raised, with the object as it was before.
        """

    def upload(self, key: str, path: Path) -> None:
        """Writes or replaces the object with a file's content, without holding it in memory."""

    def download(self, key: str, path: Path) -> None:
        """Writes the object to a file, which appears only when complete. Raises as ``get``."""

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """All objects whose key starts with the string ``prefix``, sorted by key."""

    def delete(self, key: str) -> None:
        """Removes the object; one that is not there is no error."""

    def tidy(self, prefix: str = "") -> None:
        """Removes what dead writers left below the folder ``prefix`` and what is no object."""

    def exists(self, key: str) -> bool:
        """Whether there is an object under this very key."""

    def under(self, prefix: str) -> ObjectStore:
        """The same store with keys relative to ``prefix``."""


def check_key(key: str) -> str:
    """Returns the key if every store can hold it, else raises ``ValueError``.

    Refused: empty, absolute, over 1024 bytes, empty or dotted segments, control characters, and
    segments that start with ``.m2r-`` (the local store's own files).
    """
    segments = key.split("/")
    if (
        not key.isprintable()
        or any(s in ("", ".", "..") or s.startswith(RESERVED) for s in segments)
        or len(key.encode()) > MAX_KEY_BYTES
    ):
        raise ValueError(
            f"store key {key[:80]!r}: use relative, printable keys of at most {MAX_KEY_BYTES} "
            f"bytes without empty, '.', '..' or '{RESERVED}' segments"
        )
    return key


def check_prefix(prefix: str) -> str:
    """Like :func:`check_key` for the argument of ``list``, which may be empty or end in a slash."""
    if prefix.strip("/") or prefix.startswith("/"):
        check_key(prefix.removesuffix("/"))
    return prefix


_REMEDIES = {
    errno.ENOSPC: "free some space or point storage.uri at a larger volume",
    errno.EDQUOT: "raise the quota or point storage.uri elsewhere",
    errno.EFBIG: "raise the file size limit (ulimit -f) or point storage.uri elsewhere",
    errno.EACCES: "make it accessible for this user or point storage.uri elsewhere",
    errno.EPERM: "make it accessible for this user or point storage.uri elsewhere",
    errno.EROFS: "mount it writable or point storage.uri elsewhere",
    errno.ENOTDIR: "a file stands where a directory is needed: move it or choose another path",
    errno.EISDIR: "a directory stands where an object is to be: move it or choose another path",
    errno.ENOLCK: "mount it with file locks (NFS: with lockd) or point storage.uri elsewhere",
    errno.EOPNOTSUPP: "use a file system with flock and rename or point storage.uri elsewhere",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def config_error(uri: str, doing: str, error: OSError) -> ConfigError | None:
    """The user's line for an operating-system error, or None for one that is no user's mistake."""
    remedy = _REMEDIES.get(error.errno or 0)
    if remedy is None:
        return None
    return ConfigError(f"store {uri}: {(error.strerror or '').lower()} while {doing}: {remedy}")
