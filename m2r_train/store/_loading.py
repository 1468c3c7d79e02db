"""Reading checkpoints back: nothing is handed out whose SHA-256 is not the manifest's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from m2r_train.api.errors import DataError
from m2r_train.store._head import MANIFEST, Damaged, Ref, sha256, unseal
from m2r_train.store.base import CorruptObject, NotFound, ObjectStore

_KEEP_BYTES = 256 << 20  # verified files up to this size together are kept rather than read twice


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A committed checkpoint. ``files`` are read from the store, and verified, when asked for."""

    step: int
    epoch: int
    files: Mapping[str, bytes]
    manifest: Mapping[str, Any]
    uri: str

    @property
    def meta(self) -> Mapping[str, Any]:
        """What the writer noted with it."""
        meta: Mapping[str, Any] = self.manifest["meta"]
        return meta

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file["size"] for file in self.manifest["files"].values())


def load(store: ObjectStore, ref: Ref) -> Checkpoint:
    """The checkpoint with every digest verified. Raises ``Damaged``."""
    manifest = _manifest(store, ref)
    keep = sum(file["size"] for file in manifest["files"].values()) <= _KEEP_BYTES
    held = {}
    for name, expected in manifest["files"].items():
        data = _verified(store, ref.folder + name, expected)
        if keep:
            held[name] = data
    return _checkpoint(store, ref, manifest, held)


def describe(store: ObjectStore, ref: Ref, manifest: Mapping[str, Any] | None = None) -> Checkpoint:
    """The checkpoint without reading its files. Raises ``Damaged`` without a valid manifest."""
    return _checkpoint(store, ref, manifest or _manifest(store, ref), {})


def _manifest(store: ObjectStore, ref: Ref) -> dict[str, Any]:
    try:
        data = store.get(ref.manifest).data
    except NotFound as error:
        raise Damaged(f"{MANIFEST} is missing") from error
    except CorruptObject as error:
        raise Damaged(f"{MANIFEST} does not match the store's checksum") from error
    if sha256(data) != ref.digest:
        raise Damaged(f"{MANIFEST} is not the one that was committed")
    return unseal(data)


def _verified(store: ObjectStore, key: str, expected: Mapping[str, Any]) -> bytes:
    name = key.rpartition("/")[2]
    try:
        data = store.get(key).data
    except NotFound as error:
        raise Damaged(f"{name} is missing") from error
    except CorruptObject as error:
        raise Damaged(f"{name} does not match the store's checksum") from error
    if len(data) != expected["size"]:
        raise Damaged(f"{name} has {len(data)} bytes instead of {expected['size']}")
    if sha256(data) != expected["sha256"]:
        raise Damaged(f"{name} does not have the SHA-256 of its manifest")
    return data


def _checkpoint(
    store: ObjectStore, ref: Ref, manifest: Mapping[str, Any], held: Mapping[str, bytes]
) -> Checkpoint:
    files = _Files(store, ref.folder, manifest["files"], held)
    uri = f"{store.uri}/{ref.folder.removesuffix('/')}"
    return Checkpoint(ref.step, ref.epoch, files, manifest, uri)


class _Files(Mapping[str, bytes]):
    """The files of a checkpoint, read and verified on access unless they are in ``held``."""

    def __init__(
        self, store: ObjectStore, folder: str, files: Mapping[str, Any], held: Mapping[str, bytes]
    ) -> None:
        self._store, self._folder, self._files, self._held = store, folder, files, held

    def __getitem__(self, name: str) -> bytes:
        if name in self._held:
            return self._held[name]
        try:
            return _verified(self._store, self._folder + name, self._files[name])
        except Damaged as damage:
            raise DataError(f"{self._store.uri}/{self._folder}: {damage}: resume again") from damage

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)
