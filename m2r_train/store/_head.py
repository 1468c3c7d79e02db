"""HEAD of a run: the one object that decides who owns it and which checkpoints count.

Every JSON document here carries ``check``, a SHA-256 over the rest of itself, so a flipped bit is
told from a decision. ``chain`` lists the committed checkpoints, newest first: the parents can be
walked even if a manifest in between is unreadable.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from m2r_train.store.base import CorruptObject, NotFound, ObjectStore

HEAD = "HEAD"
CHECKPOINTS = "checkpoints/"
MANIFEST = "MANIFEST.json"
CHAIN = 256  # committed checkpoints that HEAD remembers without pruning: some 50 kB
_RECOVERY_GAP = 1000  # epochs skipped when HEAD was lost: claims that left no trace had fewer
_FOLDER = re.compile(r"e(\d{1,12})-s(\d{1,12})")


class Damaged(Exception):  # noqa: N818 - a finding that the reader acts on
    """A document or file does not have the content it was written with."""


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """A committed checkpoint: ordered by (epoch, step); ``digest`` is that of the manifest."""

    epoch: int
    step: int
    manifest: str
    digest: str

    @property
    def folder(self) -> str:
        """``checkpoints/e<epoch>-s<step>/``."""
        return self.manifest.removesuffix(MANIFEST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Who owns the run (``attempt``, ``epoch``, ``writer``) and what is committed (``chain``).

    ``bad`` names checkpoints that failed their digests: evidence, which pruning leaves alone.
    ``result`` is the outcome of a run that is ``done``.
    """

    attempt: int
    epoch: int
    writer: str
    chain: tuple[Ref, ...] = ()
    bad: tuple[str, ...] = ()
    done: bool = False
    result: Mapping[str, Any] | None = None

    @property
    def step(self) -> int:
        """The step of the newest commit, 0 before the first."""
        return self.chain[0].step if self.chain else 0

    def encode(self) -> bytes:
        """The object under ``HEAD``; unlike any other writer's, because of ``writer``."""
        return seal(
            {
                "attempt": self.attempt,
                "epoch": self.epoch,
                "step": self.step,
                "manifest": self.chain[0].manifest if self.chain else None,
                "digest": self.chain[0].digest if self.chain else None,
                "writer": self.writer,
                "done": self.done,
                "result": self.result,
                "chain": [asdict(ref) for ref in self.chain],
                "bad": list(self.bad),
            }
        )

    @staticmethod
    def decode(data: bytes) -> Head:
        """The inverse of :meth:`encode`. Raises ``Damaged``."""
        fields = unseal(data)
        try:
            return Head(
                attempt=fields["attempt"],
                epoch=fields["epoch"],
                writer=fields["writer"],
                chain=tuple(Ref(**ref) for ref in fields["chain"]),
                bad=tuple(fields["bad"]),
                done=fields["done"],
                result=fields["result"],
            )
        except (KeyError, TypeError) as error:
            raise Damaged(f"no HEAD of this version: {error}") from error


def read_head(store: ObjectStore) -> Head | None:
    """The HEAD of the run in ``store``, None before its first claim. Claims nothing.

    Raises ``Damaged`` if it cannot be read; the next claim recovers it.
    """
    try:
        return Head.decode(store.get(HEAD).data)
    except NotFound:
        return None
    except CorruptObject as error:
        raise Damaged(str(error)) from error


def find_head(
    store: ObjectStore, attempt: int, on_corrupt: Callable[[str], None]
) -> tuple[Head, str | None]:
    """HEAD and its tag; rebuilt from the manifests (tag as found) where it is lost or damaged."""
    etag = None
    try:
        blob = store.get(HEAD)
        etag = blob.etag
        return Head.decode(blob.data), etag
    except NotFound:
        pass
    except CorruptObject as error:
        etag = error.etag
        on_corrupt(f"{error}: rebuilding it from the manifests")
    except Damaged as damage:
        on_corrupt(f"{store.uri}/{HEAD} {damage}: rebuilding it from the manifests")
    epochs, chain = {0}, []
    for entry in store.list(CHECKPOINTS):
        where = parse_folder(entry.key)
        if where is None:
            continue
        epochs.add(where[0])
        if entry.key == folder_of(*where) + MANIFEST:
            try:
                data = store.get(entry.key).data
                unseal(data)
            except (Damaged, CorruptObject) as damage:
                on_corrupt(f"{store.uri}/{entry.key} {damage}: ignoring it")
            else:
                chain.append(Ref(*where, entry.key, sha256(data)))
    lost = etag is not None or len(epochs) > 1
    epoch = max(epochs) + (_RECOVERY_GAP if lost else 0)
    chain.sort(reverse=True)
    return Head(attempt=attempt, epoch=epoch, writer="", chain=tuple(chain[:CHAIN])), etag


def seal(fields: Mapping[str, Any]) -> bytes:
    """Canonical JSON with a digest of itself under ``check``."""
    return (_canonical({**fields, "check": _check(fields)}) + "\n").encode()


def unseal(data: bytes) -> dict[str, Any]:
    """The fields that were sealed. Raises ``Damaged``."""
    try:
        fields = json.loads(data)
        check = fields.pop("check")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise Damaged("is no sealed JSON document") from error
    if check != _check(fields):
        raise Damaged("has a wrong checksum")
    return dict(fields)


def folder_of(epoch: int, step: int) -> str:
    """``checkpoints/e<epoch>-s<step>/``: no two writers share an epoch, so none share a key."""
    return f"{CHECKPOINTS}e{epoch}-s{step}/"


def parse_folder(key: str) -> tuple[int, int] | None:
    """(epoch, step) of a key below a checkpoint's folder, None for any other key."""
    name, slash, _ = key.removeprefix(CHECKPOINTS).partition("/")
    match = _FOLDER.fullmatch(name)
    if not key.startswith(CHECKPOINTS) or not slash or match is None:
        return None
    return int(match[1]), int(match[2])


def sha256(data: bytes | memoryview) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(data).hexdigest()


def _check(fields: Mapping[str, Any]) -> str:
    return sha256(_canonical(fields).encode())


def _canonical(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
