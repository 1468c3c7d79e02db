"""Whole folders: results that M2R writes, and models and datasets that users bring.

A folder of ours has a ``MANIFEST.json`` (every file's size and SHA-256), removed before a change
and written last. Its digest is the SHA-256 of what ``sha256sum`` prints for the other files, in
order of their names: anybody can check it with standard tools. Folders of users need no manifest;
their hidden files (version control, download caches) do not count.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from m2r_train.api.errors import DataError
from m2r_train.store import hub
from m2r_train.store._head import MANIFEST, sha256
from m2r_train.store.base import Entry, NotFound, ObjectStore, check_key, config_error
from m2r_train.store.local import LocalStore, local_path
from m2r_train.store.opening import open_store

_CHUNK = 1 << 20


def publish_folder(
    store: ObjectStore,
    prefix: str,
    source: Path | Mapping[str, bytes],
    *,
    probe: Callable[[str], None] = lambda _name: None,
) -> str:
    """Makes ``prefix`` a verified copy of the files of ``source``; returns the digest.

    Until the manifest is there, readers refuse the folder. Files of an earlier publication that
    are not in this one are deleted, others are left alone. Publishing the same again is harmless.
    Not fenced: call :meth:`Run.verify_fence` right before. A mixture of two writers never verifies.
    ``probe`` is called with a name at every point where a kill is worth a test.
    """
    files = _source_files(source)
    if not files:
        raise DataError(f"{store.uri}/{prefix}: there are no files to publish")
    target = store.under(prefix)
    described = {
        name: {"size": _size(file), "sha256": _hash(file)} for name, file in sorted(files.items())
    }
    digest = folder_digest({name: str(entry["sha256"]) for name, entry in described.items()})
    previous = None
    try:
        previous = _manifest(target)
        stale = previous is not None and previous["digest"] != digest
    except DataError:  # damaged: what its readers are told to do is done here
        stale = True
    if stale:
        target.delete(MANIFEST)
    for name, file in files.items():
        probe("before-upload")
        if isinstance(file, Path):
            target.upload(name, file)
        else:
            target.put(name, file)
    for name in previous["files"] if previous else ():
        if name not in files:
            target.delete(name)
    probe("before-result-manifest")
    manifest = {"version": 1, "digest": digest, "files": described}
    target.put(MANIFEST, (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode())
    return digest


def folder_digest(hashes: Mapping[str, str]) -> str:
    """SHA-256 over the lines ``<sha256>  <name>``, sorted by name."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))
    return sha256(lines.encode())


def verify_folder(store: ObjectStore, prefix: str) -> str:
    """Reads every file under ``prefix`` and returns the digest. Raises ``DataError``."""
    folder = store.under(prefix)
    manifest = _manifest(folder)
    names = manifest["files"] if manifest else [entry.key for entry in _plain_files(folder)]
    if not names:
        raise _missing(folder.uri)
    hashes = {}
    for name in names:
        try:
            hashes[name] = _stored_hash(folder, name)
        except NotFound as error:
            raise DataError(
                f"{folder.uri}/{name}: listed in {MANIFEST} but missing: {_AGAIN}"
            ) from error
    return _checked(folder.uri, hashes, manifest)


def fetch_folder(store: ObjectStore, prefix: str, cache_dir: Path) -> Path:
    """A verified folder on this machine: the store's own if it is local, else a cached copy.

    The cache is keyed by content, shared between processes, and verified again on every use.
    Raises ``DataError`` for a missing, incomplete or damaged folder.
    """
    return _fetch(store.under(prefix), cache_dir)[0]


def fetch_uri(
    uri: str, cache_dir: Path, *, endpoint: str | None = None, region: str | None = None
) -> tuple[Path, str]:
    """(path, digest) of a folder or a single file at any URI; see :func:`fetch_folder`.

    ``hf://datasets/OWNER/NAME@COMMIT`` is a dataset of the Hugging Face hub. Raises ``DataError``
    naming the URI if nothing is there, ``ConfigError`` for a bad URI.
    """
    if uri.startswith(hub.SCHEME):
        return _fetch_dataset(uri, cache_dir)
    path = local_path(uri)
    if path is not None and path.is_file():
        return path, folder_digest({path.name: _hash(path)})
    store = open_store(uri.rstrip("/") or uri, endpoint=endpoint, region=region)
    if path is None and not any(True for _ in store.list()):
        return _fetch_file(uri, cache_dir, endpoint, region)
    return _fetch(store, cache_dir)


_AGAIN = "publish it again"


def _fetch(folder: ObjectStore, cache_dir: Path) -> tuple[Path, str]:
    if isinstance(folder, LocalStore):
        return folder.root, _verify_local(folder)
    manifest = _manifest(folder)
    listing = {entry.key: entry for entry in _plain_files(folder)}
    names = list(manifest["files"]) if manifest else list(listing)
    if not names:
        raise _missing(folder.uri)
    key = manifest["digest"] if manifest else _listing_digest(listing)
    target = cache_dir / key
    with _one_at_a_time(cache_dir, key):
        if target.exists():
            with contextlib.suppress(DataError):  # damaged on this disk: fetch it again
                return target, _verify_local(LocalStore(target))
            shutil.rmtree(target)
        fresh = cache_dir / f"{key}.{uuid.uuid4().hex}"
        try:
            for name in names:
                _download(folder, name, fresh / name)
            if manifest:
                _download(folder, MANIFEST, fresh / MANIFEST)
            digest = _verify_local(LocalStore(fresh), shown=folder.uri)
            fresh.rename(target)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return target, digest


def _fetch_dataset(uri: str, cache_dir: Path) -> tuple[Path, str]:
    key = sha256(uri.encode())
    target = cache_dir / key
    with _one_at_a_time(cache_dir, key):
        if not target.exists():
            fresh = cache_dir / f"{key}.{uuid.uuid4().hex}"
            try:
                hub.download(uri, fresh)
                digest = _verify_local(LocalStore(fresh), shown=uri)
                fresh.rename(target)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
            return target, digest
    return target, _verify_local(LocalStore(target), shown=uri)


def _fetch_file(
    uri: str, cache_dir: Path, endpoint: str | None, region: str | None
) -> tuple[Path, str]:
    parent, _, name = uri.rpartition("/")
    if parent in ("", "s3:/"):
        raise _missing(uri)
    store = open_store(parent, endpoint=endpoint, region=region)
    entry = next((e for e in store.list(name) if e.key == name), None)
    if entry is None:
        raise _missing(uri)
    target = cache_dir / _listing_digest({name: entry}) / name
    with _one_at_a_time(cache_dir, target.parent.name):
        if not target.exists():
            _download(store, name, target)
    return target, folder_digest({name: _hash(target)})


def _verify_local(folder: LocalStore, *, shown: str | None = None) -> str:
    """Like :func:`verify_folder` for a directory, whose files are hashed without a copy."""
    uri = shown or folder.uri
    manifest = _manifest(folder)
    names = list(manifest["files"]) if manifest else [e.key for e in _plain_files(folder)]
    if not names:
        raise _missing(uri)
    hashes = {}
    for name in names:
        try:
            hashes[name] = _hash(folder.path(name))
        except FileNotFoundError as error:
            raise DataError(f"{uri}/{name}: listed in {MANIFEST} but missing: {_AGAIN}") from error
    return _checked(uri, hashes, manifest)


def _checked(uri: str, hashes: Mapping[str, str], manifest: Mapping[str, Any] | None) -> str:
    if manifest is not None:
        for name, entry in manifest["files"].items():
            if hashes[name] != entry["sha256"]:
                raise DataError(f"{uri}/{name}: does not match {MANIFEST}: {_AGAIN}")
    digest = folder_digest(hashes)
    if manifest is not None and digest != manifest["digest"]:
        raise DataError(f"{uri}/{MANIFEST}: its digest is not that of its files: {_AGAIN}")
    return digest


def _manifest(folder: ObjectStore) -> dict[str, Any] | None:
    try:
        data = folder.get(MANIFEST).data
    except NotFound:
        return None
    try:
        manifest = json.loads(data)
        for name, entry in manifest["files"].items():
            check_key(name)
            if not isinstance(entry["sha256"], str):
                raise TypeError(name)
        if not isinstance(manifest["digest"], str):
            raise TypeError("digest")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder.uri}/{MANIFEST}: is damaged: {_AGAIN}") from error
    return dict(manifest)


def _plain_files(folder: ObjectStore) -> Iterator[Entry]:
    return (
        entry
        for entry in folder.list()
        if entry.key != MANIFEST and not any(s.startswith(".") for s in entry.key.split("/"))
    )


def _source_files(source: Path | Mapping[str, bytes]) -> dict[str, Path | bytes]:
    if isinstance(source, Path):
        store = LocalStore(source)
        return {entry.key: store.path(entry.key) for entry in _plain_files(store)}
    return {check_key(name): data for name, data in sorted(source.items()) if name != MANIFEST}


def _download(folder: ObjectStore, name: str, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        readable = config_error(str(path.parent), "filling the cache", error)
        raise readable or error from error
    try:
        folder.download(name, path)
    except NotFound as error:
        raise DataError(f"{folder.uri}/{name}: listed but missing: {_AGAIN}") from error


@contextlib.contextmanager
def _one_at_a_time(cache_dir: Path, key: str) -> Iterator[None]:
    """Ranks of one run want the same folder at once: the first fetches, the others wait."""
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        lock = (cache_dir / f"{key}.lock").open("ab")
    except OSError as error:
        readable = config_error(str(cache_dir), "opening the cache", error)
        raise readable or error from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _listing_digest(listing: Mapping[str, Entry]) -> str:
    """Identifies a folder without a manifest by names, sizes and tags: no file need be read."""
    lines = [f"{e.key}\0{e.size}\0{e.etag}" for _, e in sorted(listing.items())]
    return "listing-" + sha256("\n".join(lines).encode())


def _stored_hash(folder: ObjectStore, name: str) -> str:
    if isinstance(folder, LocalStore) and folder.exists(name):
        return _hash(folder.path(name))
    return sha256(folder.get(name).data)


def _hash(file: Path | bytes) -> str:
    if isinstance(file, bytes):
        return sha256(file)
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _size(file: Path | bytes) -> int:
    return len(file) if isinstance(file, bytes) else file.stat().st_size


def _missing(uri: str) -> DataError:
    return DataError(
        f"{uri}: there are no files: check the URI, and that its producer has finished"
    )


__all__ = [
    "fetch_folder",
    "fetch_uri",
    "folder_digest",
    "publish_folder",
    "verify_folder",
]
