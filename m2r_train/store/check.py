"""Proves that a store keeps the promises that commits need; see ``check_store``."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from m2r_train.store.base import NotFound, ObjectStore, PreconditionFailed

_RACES = 12
_SIZES = (0, 1, 65_537, 1_048_576)


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise: ``detail`` says what was seen, in one line."""

    name: str
    ok: bool
    detail: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.ok else 'FAIL'} {self.name}: {self.detail}"


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All findings; the store is safe for concurrent attempts if all are ``ok``."""

    uri: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return all(finding.ok for finding in self.findings)

    def __str__(self) -> str:
        verdict = "safe" if self.ok else "NOT SAFE: two attempts could overwrite each other"
        return "\n".join([*map(str, self.findings), f"{self.uri}: {verdict}"])


def check_store(store: ObjectStore, *, threads: int = 8, operations: int = 100) -> CheckReport:
    """Tries every promise of ``ObjectStore`` under a scratch prefix, and cleans up after itself.

    ``operations`` compare-and-swaps from ``threads`` threads, after Elasticsearch's repository
    analysis. Raises ``ConfigError`` if the store cannot be used at all. A store that fails a
    check is a finding, not an exception.
    """
    name = f"m2r-check-{uuid.uuid4().hex}"
    scratch = store.under(name)
    checks: tuple[tuple[str, Callable[[ObjectStore], str | None]], ...] = (
        ("content", _content),
        ("read after write", _read_after_write),
        ("list after write", _list_after_write),
        ("stale tag refused", _stale_refused),
        ("one winner of a race", lambda s: _one_winner(s, threads)),
        ("no lost update", lambda s: _no_lost_update(s, threads, operations)),
    )
    seen = {
        "content": f"{len(_SIZES)} objects read back with their SHA-256",
        "read after write": "each of 20 overwrites seen at once",
        "list after write": "new and deleted keys seen at once, sorted",
        "stale tag refused": "old tag, wrong absence and missing object all refused",
        "one winner of a race": f"{_RACES} races of {threads} threads, one winner each",
        "no lost update": f"{operations} increments by {threads} threads, all counted",
    }
    with _cleaned(store, f"{name}/"):
        findings = []
        for promise, check in checks:
            problem = check(scratch)
            findings.append(Finding(promise, problem is None, problem or seen[promise]))
    return CheckReport(store.uri, tuple(findings))


@contextlib.contextmanager
def _cleaned(store: ObjectStore, prefix: str) -> Iterator[None]:
    try:
        yield
    finally:
        for entry in list(store.list(prefix)):
            store.delete(entry.key)


def _content(store: ObjectStore) -> str | None:
    for size in _SIZES:
        data = hashlib.shake_256(str(size).encode()).digest(size)
        store.put(f"content/{size}", data)
        if store.get(f"content/{size}").data != data:
            return f"an object of {size} bytes came back changed"
    return None


def _read_after_write(store: ObjectStore) -> str | None:
    for number in range(20):
        written = store.put("read", str(number).encode())
        blob = store.get("read")
        if blob.data != str(number).encode():
            return f"overwrite {number} was not seen by the next read"
        if blob.etag != written:
            return f"overwrite {number} returned another tag than the next read"
    return None


def _list_after_write(store: ObjectStore) -> str | None:
    keys = [f"list/{name}" for name in ("b", "a-b", "a/b", "c")]
    for index, key in enumerate(keys):
        store.put(key, b"x" * index)
        if [entry.key for entry in store.list("list/")] != sorted(keys[: index + 1]):
            return f"after writing {index + 1} keys the listing is not those keys, sorted"
    store.delete(keys[0])
    if store.exists(keys[0]) or keys[0] in [entry.key for entry in store.list("list/")]:
        return "a deleted key is still there"
    return None


def _stale_refused(store: ObjectStore) -> str | None:
    first = store.put_if("stale", _body(1), if_match=None)
    second = store.put_if("stale", _body(2), if_match=first)
    before = store.get("stale").data
    cases = (
        ("stale", first, "a write with an outdated tag was accepted"),
        ("stale", None, "a first write over an existing object was accepted"),
        ("absent", second, "a write with the tag of a missing object was accepted"),
    )
    for key, tag, problem in cases:
        if _swap(store, key, _body(3), tag) is not None:
            return problem
    return None if store.get("stale").data == before else "a refused write changed the object"


def _one_winner(store: ObjectStore, threads: int) -> str | None:
    """Everybody writes at the same moment under the same condition: absence, or the same tag."""
    barrier = threading.Barrier(threads)

    def race(key: str, number: int, tag: str | None) -> bytes | None:
        body = _body(number)
        barrier.wait()
        return None if _swap(store, key, body, tag) is None else body

    with ThreadPoolExecutor(threads) as pool:
        for number in range(_RACES):
            key = f"race/{number}"
            tag = store.put(key, _body(-1)) if number % 2 else None
            bodies = pool.map(race, [key] * threads, range(threads), [tag] * threads)
            winners = [body for body in bodies if body is not None]
            if len(winners) != 1:
                return f"race {number} of {threads} threads had {len(winners)} winners"
            if store.get(key).data != winners[0]:
                return f"race {number}: the object is not the winner's"
    return None


def _no_lost_update(store: ObjectStore, threads: int, operations: int) -> str | None:
    store.put_if("counter", _body(0), if_match=None)
    shares = [operations // threads + (t < operations % threads) for t in range(threads)]

    def count(share: int) -> None:
        for _ in range(share):
            while True:
                blob = store.get("counter")
                number = json.loads(blob.data)["number"]
                if _swap(store, "counter", _body(number + 1), blob.etag) is not None:
                    break

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(count, shares))
    final = json.loads(store.get("counter").data)["number"]
    if final != operations:
        return f"{operations} increments were acknowledged, the counter says {final}"
    return None


def _swap(store: ObjectStore, key: str, body: bytes, tag: str | None) -> str | None:
    try:
        return store.put_if(key, body, if_match=tag)
    except (PreconditionFailed, NotFound):
        return None


def _body(number: int) -> bytes:
    return json.dumps({"number": number, "writer": uuid.uuid4().hex}).encode()
