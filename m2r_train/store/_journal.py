"""Work in flight, kept so that a killed step is not paid twice: a cache, never the truth.

Entries lie under ``journal/e<epoch>/<key>``: each writer has its own, so a fenced writer cannot
replace what its successor has used. Reading prefers the newest epoch. An entry that is torn,
flipped or under another key reads as absent.

Epoch 0 belongs to the helpers: pods beside the owner, which claim nothing. Several of them, of
several attempts, write there, so it is only for work whose bytes are a function of its key; then
it does not matter who wrote last.
"""

from __future__ import annotations

import hashlib
import re
import threading

from m2r_train.store.base import CorruptObject, NotFound, ObjectStore, check_key

_MAGIC = b"m2r-journal-1\n"
_EPOCH = re.compile(r"journal/e(\d{1,12})/(.+)")
_STEP = re.compile(r"[a-z_-]*(\d{1,12})")

HELPERS = 0  # their epoch; the first claim makes epoch 1


class Journal:
    """The journal of one run as the writer of ``epoch`` sees it: without newer writers' entries.

    A helper sees the entries of every writer. One thread may clear what another adds to.
    """

    def __init__(self, store: ObjectStore, epoch: int) -> None:
        self._store = store
        self._epoch = epoch
        self._epochs: dict[str, list[int]] | None = None  # key -> epochs that have it, newest first
        self._turn = threading.RLock()  # of the index, never held while an entry is on its way

    def put(self, key: str, data: bytes) -> None:
        """Writes or replaces this epoch's entry."""
        step_of(key)
        self._store.put(_path(self._epoch, key), _MAGIC + _digest(key, data) + data)
        with self._turn:
            epochs = self._index().setdefault(key, [])
            if self._epoch not in epochs:
                epochs.insert(0, self._epoch)

    def get(self, key: str) -> bytes | None:
        """The newest intact entry."""
        step_of(key)
        with self._turn:
            epochs = tuple(self._index().get(key, ()))
        for epoch in epochs:
            try:
                framed = self._store.get(_path(epoch, key)).data
            except (NotFound, CorruptObject):
                continue
            head, data = framed[: len(_MAGIC) + 32], framed[len(_MAGIC) + 32 :]
            if head == _MAGIC + _digest(key, data):
                return data
        return None

    def keys(self) -> set[str]:
        """Keys that have an entry, intact or not, as far as this journal knows."""
        return set(self._entries())

    def newest(self) -> int | None:
        """The highest step with an entry."""
        return max(map(step_of, self._entries()), default=None)

    def refresh(self) -> None:
        """Forgets what it knows of the store: helpers may have written since."""
        with self._turn:
            self._epochs = None

    def delete(self, key: str) -> None:
        """Deletes this epoch's entry."""
        self._store.delete(_path(self._epoch, key))
        self.refresh()

    def clear(self, before_step: int) -> None:
        """Deletes the entries of earlier steps, of this epoch and those before it."""
        for key, epochs in self._entries().items():
            if step_of(key) < before_step:
                for epoch in epochs:
                    self._store.delete(_path(epoch, key))
                with self._turn:
                    self._index().pop(key, None)

    def _entries(self) -> dict[str, tuple[int, ...]]:
        with self._turn:
            return {key: tuple(epochs) for key, epochs in self._index().items()}

    def _index(self) -> dict[str, list[int]]:
        if self._epochs is None:  # after the claim: older owners can add nothing that counts
            found: dict[str, list[int]] = {}
            for entry in self._store.list("journal/"):
                match = _EPOCH.fullmatch(entry.key)
                if match and self._sees(int(match[1])) and _STEP.match(match[2]):
                    found.setdefault(match[2], []).append(int(match[1]))
            self._epochs = {key: sorted(epochs, reverse=True) for key, epochs in found.items()}
        return self._epochs

    def _sees(self, epoch: int) -> bool:
        return self._epoch == HELPERS or epoch <= self._epoch


def step_of(key: str) -> int:
    """The step in a journal key such as ``s12/rollouts-3``. Raises ``ValueError`` without one."""
    match = _STEP.fullmatch(check_key(key).split("/")[0])
    if match is None:
        raise ValueError(f"journal key {key!r}: the first segment must end in the step, as in s12/")
    return int(match[1])


def _path(epoch: int, key: str) -> str:
    return f"journal/e{epoch}/{key}"


def _digest(key: str, data: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\0" + data).digest()
