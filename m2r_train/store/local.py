"""A store in a directory: atomic renames, fsync, and one lock per directory for conditions.

The lock stands in the directory of the object rather than at the root of the store, so that two
processes that open the same files under different roots still exclude each other. Listings sweep
the temporary files of dead writers. A tag is the SHA-256 of the content.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn
from urllib.parse import unquote

from m2r_train.api.errors import ConfigError
from m2r_train.store._atomic import fsync_directory, locked, remove_empty, replace, sweep
from m2r_train.store.base import (
    RESERVED,
    Blob,
    Entry,
    NotFound,
    OnError,
    PreconditionFailed,
    Watch,
    check_key,
    check_prefix,
    config_error,
)

_CHUNK = 1 << 20
_PART = 8 << 20
_LABELS = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "full")
_LABELS |= dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "denied")


def local_path(uri: str) -> Path | None:
    """The absolute path of a ``file://`` URI or plain path, None for any other scheme.

    Raises ``ConfigError`` for a ``file://`` URI with a host in it (``file://data`` for ``data``).
    """
    if uri.startswith("file://"):
        path = unquote(uri.removeprefix("file://"))
        if not path.startswith("/"):
            raise ConfigError(f"{uri!r} names a host: write file:///absolute/path or a plain path")
    elif "://" in uri or not uri:
        return None
    else:
        path = uri
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - keeps symbolic links


class LocalStore:
    """Objects as plain files below ``root``, which is made by the first write."""

    def __init__(self, root: Path, *, on_error: OnError | None = None) -> None:
        self.root = root
        self._on_error = on_error

    @property
    def uri(self) -> str:
        return self.root.as_uri()

    def __repr__(self) -> str:
        return f"LocalStore({self.uri})"

    def under(self, prefix: str) -> LocalStore:
        return LocalStore(self.root / check_key(prefix), on_error=self._on_error)

    def path(self, key: str) -> Path:
        """Where the object lies: for libraries that want a path."""
        return self.root / check_key(key)

    def get(self, key: str) -> Blob:
        path = self.path(key)
        with self._errors("get", key):
            try:
                data = path.read_bytes()
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
                self._no_object(key, error)
        return Blob(data, _etag(data))

    def put(self, key: str, data: bytes) -> str:
        path = self.path(key)
        with self._errors("put", key):
            replace(path, lambda file: file.write(data))
        return _etag(data)

    def put_if(self, key: str, data: bytes, *, if_match: str | None) -> str:
        path = self.path(key)
        with self._errors("put_if", key), locked(path.parent):
            try:
                current = path.read_bytes()
            except FileNotFoundError:
                current = None
            if current == data:  # our own earlier write: see the protocol
                return _etag(data)
            if (None if current is None else _etag(current)) != if_match:
                raise PreconditionFailed(f"{self.uri}/{key}: has changed")
            replace(path, lambda file: file.write(data))
        return _etag(data)

    def put_parts(self, key: str, data: memoryview, watch: Watch) -> None:
        def write(file: BinaryIO) -> None:
            for start in range(0, len(data), _PART):
                watch(start)
                file.write(data[start : start + _PART])
            watch(len(data))

        path = self.path(key)
        with self._errors("put", key):
            replace(path, write)

    def upload(self, key: str, path: Path) -> None:
        target = self.path(key)
        with path.open("rb") as source, self._errors("upload", key):
            replace(target, lambda file: _copy(source, file))

    def download(self, key: str, path: Path) -> None:
        with self._errors("download", key):
            try:
                source = self.path(key).open("rb")
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
                self._no_object(key, error)
            with source:
                replace(path, lambda file: _copy(source, file))

    def list(self, prefix: str = "") -> Iterator[Entry]:
        start = self.root / check_prefix(prefix).rpartition("/")[0]
        with self._errors("list", prefix):
            self._check_root()
            found = sorted(self._walk(start, prefix), key=lambda entry: entry.key)
        return iter(found)

    def delete(self, key: str) -> None:
        path = self.path(key)
        with self._errors("delete", key):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return
            fsync_directory(path.parent)
            remove_empty(path.parent, self.root)

    def tidy(self, prefix: str = "") -> None:
        """Directories without objects go, too: a kill may come between a file and its directory."""
        start = self.root / check_prefix(prefix)
        with self._errors("tidy", prefix):
            for folder, _, names in os.walk(start, topdown=False):
                for name in names:
                    sweep(Path(folder, name))
                remove_empty(Path(folder), self.root)

    def exists(self, key: str) -> bool:
        with self._errors("exists", key):
            return self.path(key).is_file()

    def _walk(self, start: Path, prefix: str) -> Iterator[Entry]:
        def fail(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):  # deleted while we walk
                raise error

        for folder, _, names in os.walk(start, onerror=fail):
            for name in names:
                path = Path(folder, name)
                if name.startswith(RESERVED):
                    sweep(path)
                    continue
                key = path.relative_to(self.root).as_posix()
                if not key.startswith(prefix):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    yield Entry(key, path.stat().st_size, None)

    def _no_object(self, key: str, error: OSError) -> NoReturn:
        self._check_root()
        raise NotFound(f"{self.uri}/{key}") from error

    def _check_root(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self.root))

    @contextlib.contextmanager
    def _errors(self, operation: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._on_error is not None:
                self._on_error(operation, _LABELS.get(error.errno or 0, "other"))
            readable = config_error(self.uri, f"{operation} {key or 'the store'}", error)
            if readable is None:
                raise
            raise readable from error


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    source.seek(0)
    shutil.copyfileobj(source, target, _CHUNK)
