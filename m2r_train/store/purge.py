"""Deletes everything that a run has in the store, and keeps every writer out while doing so.

    tombstone  HEAD: epoch + 1 and an attempt that nobody exceeds, by compare-and-swap
    delete     every object of the run's folder but HEAD
    HEAD       last

A writer that is still alive, cut off with its node perhaps, finds another epoch in HEAD and can
commit nothing; a late start of an attempt is fenced when it claims. So nobody resumes from half a
folder, and a purge that is interrupted anywhere goes on when it is run again. What no store can
refuse is a plain PUT that such a writer has under way: the folder is listed until it is empty.
Parts of multipart uploads that were never finished are not objects; buckets have lifecycle rules
for them.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from m2r_train.api.errors import M2RError, Preempted
from m2r_train.api.schema import MAX_INT
from m2r_train.store._head import HEAD, find_head
from m2r_train.store.base import Entry, ObjectStore, PreconditionFailed, check_key

LAST_ATTEMPT: Final = MAX_INT  # no attempt is newer, so no claim gets past the tombstone
_CLAIMS: Final = 1000  # lost races before a purge gives up
_PASSES: Final = 10  # listings that find new objects before a purge gives up
_THREADS: Final = 8


@dataclass(frozen=True, slots=True)
class Purged:
    """What was deleted: number of objects and their bytes."""

    objects: int = 0
    size: int = 0


def purge(
    store: ObjectStore,
    prefix: str,
    *,
    stopped: Callable[[], bool] = lambda: False,
    probe: Callable[[str], None] = lambda _name: None,
) -> Purged:
    """Deletes every object below the folder ``prefix`` of ``store``; doing it again is harmless.

    ``stopped`` is asked before every deletion; once it says yes, ``Preempted`` is raised and a
    later purge goes on. ``probe`` is called with a name at every point where a kill is worth a
    test. Raises ``M2RError`` when others keep writing, and what the store raises.
    """
    folder = f"{check_key(prefix)}/"
    objects = size = 0
    if not _entries(store, folder):
        store.tidy(folder)
        return Purged()
    _bury(store.under(prefix), probe)
    for _ in range(_PASSES):
        entries = _entries(store, folder)
        rest = [entry for entry in entries if entry.key != folder + HEAD]
        objects, size = objects + len(rest), size + sum(entry.size for entry in rest)
        if not rest:
            break
        _delete(store, folder, rest, stopped, probe)
    else:
        raise M2RError(
            f"{store.uri}/{folder}: new objects keep appearing; stop what writes them, then "
            "delete the run again"
        )
    probe("before-head-goes")
    head = [entry for entry in entries if entry.key == folder + HEAD]
    _delete(store, folder, head, stopped, probe)
    store.tidy(folder)
    return Purged(objects + len(head), size + sum(entry.size for entry in head))


def _entries(store: ObjectStore, folder: str) -> list[Entry]:
    """Objects of the folder. That each lies in it is checked here, whatever a store may list."""
    found = list(store.list(folder))
    for entry in found:
        if not entry.key.startswith(folder):
            raise M2RError(f"{store.uri}: listed {entry.key} under {folder}: nothing is deleted")
    return found


def _bury(run: ObjectStore, probe: Callable[[str], None]) -> None:
    """Makes HEAD a tombstone. A lost or damaged one is replaced as a claim would do."""
    for _ in range(_CLAIMS):
        head, etag = find_head(run, 0, lambda _line: None)
        if head.attempt == LAST_ATTEMPT:
            return  # an earlier purge has come this far
        tombstone = replace(
            head,
            attempt=LAST_ATTEMPT,
            epoch=head.epoch + 1,
            writer=str(uuid.uuid4()),
            chain=(),
            bad=(),
            done=False,
            result=None,
        )
        probe("before-tombstone")
        try:
            run.put_if(HEAD, tombstone.encode(), if_match=etag)
        except PreconditionFailed:
            continue
        probe("after-tombstone")
        return
    raise M2RError(f"{run.uri}/{HEAD}: {_CLAIMS} races lost: stop the run, then delete it again")


def _delete(
    store: ObjectStore,
    folder: str,
    entries: list[Entry],
    stopped: Callable[[], bool],
    probe: Callable[[str], None],
) -> None:
    def one(entry: Entry) -> None:
        if stopped():
            raise Preempted(f"{store.uri}/{folder}: stopped half-way; the same command goes on")
        probe("before-delete")
        store.delete(entry.key)

    with ThreadPoolExecutor(_THREADS) as threads:  # one request at a time would take minutes
        for _ in threads.map(one, entries):  # the first error leaves the rest undone
            pass
