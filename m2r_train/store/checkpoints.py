"""Checkpoints of one run: fenced by epochs, committed by one compare-and-swap.

    claim   HEAD: epoch + 1, by compare-and-swap; only then is anything read to resume from
    commit  files -> MANIFEST.json -> HEAD; a checkpoint counts when HEAD names it, not before
    latest  the newest committed checkpoint whose digests hold; a bad one is reported and stays
    prune   drops old ones from HEAD first and deletes them then

A writer that was claimed over, be it cut off or only slow, finds another epoch in HEAD and can
commit nothing; no clock is part of the argument. See docs/adr/0002-store.md.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from m2r_train.api.errors import FencedError, M2RError
from m2r_train.store._head import (
    CHAIN,
    CHECKPOINTS,
    HEAD,
    MANIFEST,
    Damaged,
    Head,
    Ref,
    find_head,
    folder_of,
    parse_folder,
    read_head,
    seal,
    sha256,
)
from m2r_train.store._journal import Journal
from m2r_train.store._loading import Checkpoint, describe, load
from m2r_train.store.base import (
    CorruptObject,
    NotFound,
    ObjectStore,
    PreconditionFailed,
    Watch,
    check_key,
)

__all__ = ["Checkpoint", "Damaged", "Head", "Ref", "Run", "read_head"]

_CLAIMS = 1000  # lost races before a claim gives up
_RESULT_BYTES = 64 << 10

Probe = Callable[[str], None]


class Run:
    """The run whose keys lie in ``store``, owned from the claim until somebody claims after it.

    Methods may be called from several threads; commit, prune and finish take turns.
    """

    def __init__(
        self,
        store: ObjectStore,
        head: Head,
        etag: str,
        *,
        probe: Probe | None = None,
        on_corrupt: Callable[[str], None] | None = None,
    ) -> None:
        self.store = store
        self._head = head
        self._etag = etag
        self._chain = head.chain  # what the next commit builds on: without what proved bad
        self._bad = set(head.bad)
        self._probe = probe or _nothing
        self._on_corrupt = on_corrupt or _nothing
        self._journal = Journal(store, head.epoch)
        self._turn = threading.RLock()

    @staticmethod
    def claim(
        store: ObjectStore,
        attempt: int,
        writer: str | None = None,
        *,
        probe: Probe | None = None,
        on_corrupt: Callable[[str], None] | None = None,
    ) -> Run:
        """Takes the run over; from here on no earlier writer can commit.

        ``store`` holds this run alone. ``writer`` must be unique to this call (default: a uuid).
        ``probe`` is called with a name at every point where a kill is worth a test;
        ``on_corrupt`` with one line for every damaged document or checkpoint.
        A lost or damaged HEAD is rebuilt from the manifests that verify.
        Raises ``FencedError`` if a newer attempt owns the run.
        """
        writer = writer or str(uuid.uuid4())
        point = probe or _nothing
        for _ in range(_CLAIMS):
            old, etag = find_head(store, attempt, on_corrupt or _nothing)
            if old.attempt > attempt:
                raise FencedError(
                    f"{store.uri}: attempt {attempt} is fenced: attempt {old.attempt} owns the run"
                )
            head = replace(old, attempt=attempt, epoch=old.epoch + 1, writer=writer)
            point("before-claim")
            try:
                etag = store.put_if(HEAD, head.encode(), if_match=etag)
            except PreconditionFailed:
                continue
            point("after-claim")
            return Run(store, head, etag, probe=probe, on_corrupt=on_corrupt)
        raise M2RError(f"{store.uri}: {_CLAIMS} claims lost to others: is a restart loop running?")

    @property
    def epoch(self) -> int:
        """The number that no other writer of this run has."""
        return self._head.epoch

    @property
    def head(self) -> Head:
        """HEAD as last written or read by this writer."""
        return self._head

    def verify_fence(self) -> None:
        """Raises ``FencedError`` if somebody has claimed the run since. One small read."""
        with self._turn:
            try:
                blob = self.store.get(HEAD)
                head = Head.decode(blob.data)
            except (NotFound, CorruptObject, Damaged) as error:
                state = "is gone" if isinstance(error, NotFound) else "is damaged"
                raise M2RError(
                    f"{self.store.uri}/{HEAD} {state}: restart the run, the next claim recovers it"
                ) from error
            if (head.epoch, head.writer) != (self._head.epoch, self._head.writer):
                raise FencedError(
                    f"{self.store.uri}: epoch {self._head.epoch} is fenced: attempt {head.attempt} "
                    f"owns the run with epoch {head.epoch}"
                )
            self._head, self._etag = head, blob.etag

    def latest(self) -> Checkpoint | None:
        """The newest committed checkpoint that verifies, file by file; None to start afresh."""
        with self._turn:
            for index, ref in enumerate(self._chain):
                try:
                    found = load(self.store, ref)
                except Damaged as damage:
                    self._bad.add(ref.folder)
                    self._on_corrupt(f"{self.store.uri}/{ref.folder}: {damage}: using its parent")
                else:
                    self._chain = self._chain[index:]
                    return found
            self._chain = ()
            return None

    def commit(
        self,
        step: int,
        files: Mapping[str, bytes | memoryview],
        meta: Mapping[str, Any] | None = None,
        *,
        watch: Watch | None = None,
    ) -> Checkpoint:
        """Writes a checkpoint and makes it the newest. Durable and visible on return.

        A ``memoryview`` is written in parts, without a copy. ``watch`` is called with the bytes
        written so far; what it raises ends the commit, and then nothing has been committed.
        ``meta`` is JSON. Committing a step again in the same epoch writes nothing and returns what
        is there. Raises ``FencedError``; ``ValueError`` for a step below this epoch's last, a name
        that no store holds, or a finished run.
        """
        with self._turn:
            self.verify_fence()
            newest = self._head.chain[0] if self._head.chain else None
            if newest and newest.epoch == self.epoch and newest.step >= step:
                if newest.step == step:
                    return describe(self.store, newest)
                raise ValueError(f"step {step} after step {newest.step} in one epoch")
            if self._head.done:
                raise ValueError(f"{self.store.uri}: the run is finished, step {step} is too late")
            ref, manifest = self._write(step, files, meta or {}, watch or _no_watch)

            def publish(head: Head) -> Head:
                if ref in head.chain:  # our own earlier try, whose reply was lost
                    return head
                return self._building_on(head, (ref, *self._chain))

            self._swap("head", publish)
            self._chain = self._head.chain
            return describe(self.store, ref, manifest)

    def prune(self, keep: int) -> list[str]:
        """Keeps the newest ``keep`` commits, deletes what is provably stale, returns its folders.

        Stale is: dropped from HEAD, or never committed by a writer that can no longer commit.
        Never touched: newer epochs, damaged checkpoints, names that are not ours.
        """
        if keep < 1:
            raise ValueError(f"keep={keep}: at least 1")
        with self._turn:
            self.verify_fence()
            self._chain = self._chain[:keep]  # counted without those that proved bad
            self._swap("prune-head", lambda head: self._building_on(head, self._chain))
            stale: dict[str, list[str]] = {}
            for entry in self.store.list(CHECKPOINTS):
                folder = self._stale_folder(entry.key)
                if folder is not None:
                    stale.setdefault(folder, []).append(entry.key)
            for folder, keys in stale.items():
                for key in sorted(keys, key=lambda key: key != folder + MANIFEST):
                    self._probe("before-delete")
                    self.store.delete(key)
            self.store.tidy(CHECKPOINTS)
            return list(stale)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Marks the run as done, with its outcome (JSON, at most 64 KiB; put digests into it)."""
        size = len(seal(result))
        if size > _RESULT_BYTES:
            raise ValueError(f"a result of {size} bytes: at most {_RESULT_BYTES}; store the rest")
        with self._turn:
            self.verify_fence()
            self._swap("finish", lambda head: replace(head, done=True, result=dict(result)))

    def result(self) -> Mapping[str, Any] | None:
        """What :meth:`finish` was given by whoever finished the run; None while it is not done."""
        return self._head.result if self._head.done else None

    def journal_put(self, key: str, data: bytes) -> None:
        """Keeps work of a step in flight; ``key`` begins with the step, as in ``s12/part-3``."""
        self._journal.put(key, data)

    def journal_get(self, key: str) -> bytes | None:
        """What any attempt has kept under ``key``; None if nothing intact is there."""
        return self._journal.get(key)

    def journal_keys(self) -> set[str]:
        """Keys that have an entry, read afresh: helpers may have written since."""
        self._journal.refresh()
        return self._journal.keys()

    def journal_newest(self) -> int | None:
        """The highest step with an entry."""
        return self._journal.newest()

    def journal_clear(self, before_step: int) -> None:
        """Deletes entries of steps before ``before_step``; only committed ones until the end."""
        with self._turn:
            self.verify_fence()
            if self._head.done:
                self._journal.refresh()  # what helpers have written counts too
            committed = before_step if self._head.done else self._head.step
            self._journal.clear(min(before_step, committed))

    def _write(
        self,
        step: int,
        files: Mapping[str, bytes | memoryview],
        meta: Mapping[str, Any],
        watch: Watch,
    ) -> tuple[Ref, Mapping[str, Any]]:
        folder = folder_of(self.epoch, step)
        if MANIFEST in files:
            raise ValueError(f"{MANIFEST} is written by commit")
        for name in files:
            check_key(folder + name)
        parent = self._chain[0] if self._chain else None
        manifest = {
            "version": 1,
            "step": step,
            "epoch": self.epoch,
            "attempt": self._head.attempt,
            "writer": self._head.writer,
            "parent": {"manifest": parent.manifest, "digest": parent.digest} if parent else None,
            "files": {n: {"size": len(d), "sha256": sha256(d)} for n, d in sorted(files.items())},
            "meta": dict(meta),
        }
        sealed = seal(manifest)  # before anything is written: meta may not be JSON
        written = 0
        for name, data in files.items():
            watch(written)
            self._probe("before-file")
            if isinstance(data, memoryview):
                self.store.put_parts(folder + name, data, _from(watch, written))
            else:
                self.store.put(folder + name, data)
            written += len(data)
        watch(written)
        self._probe("before-manifest")
        self.store.put(folder + MANIFEST, sealed)
        self._probe("after-manifest")
        return Ref(self.epoch, step, folder + MANIFEST, sha256(sealed)), manifest

    def _swap(self, point: str, change: Callable[[Head], Head]) -> None:
        self._probe(f"before-{point}")
        for _ in range(_CLAIMS):
            new = change(self._head)
            if new == self._head:
                break
            try:
                self._etag = self.store.put_if(HEAD, new.encode(), if_match=self._etag)
            except PreconditionFailed:
                self.verify_fence()  # raises, unless the other writer was ourselves
                continue
            self._head = new
            break
        else:
            raise M2RError(f"{self.store.uri}/{HEAD} refuses its own tag: run `m2r store check`")
        self._probe(f"after-{point}")

    def _building_on(self, head: Head, chain: tuple[Ref, ...]) -> Head:
        return replace(head, chain=chain[:CHAIN], bad=tuple(sorted(self._bad)))

    def _stale_folder(self, key: str) -> str | None:
        where = parse_folder(key)
        if where is None or where > (self.epoch, self._head.step):  # not ours, or not yet old
            return None
        kept = {ref.folder for ref in self._head.chain} | self._bad
        folder = folder_of(*where)
        return None if folder in kept else folder


def _nothing(_: str) -> None:
    return None


def _no_watch(_: int) -> None:
    return None


def _from(watch: Watch, before: int) -> Watch:
    """``watch`` for one file of several: ``before`` bytes came in those before it."""
    return lambda written: watch(before + written)
