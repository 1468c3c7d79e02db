"""One table of promises for both stores."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

import pytest
from integration.store.helpers import KILLED, Place, start, wait

from m2r_train.core.rng import derive_seed
from m2r_train.store import NotFound, ObjectStore, PreconditionFailed, check_store

pytestmark = pytest.mark.global_rng("boto3 draws the names of its temporary files")

KEYS = ["b", "a-b", "a/b", "a0", "a/c/d", "é/x y", "HEAD"]


@pytest.mark.parametrize("size", [0, 1, 100_000, 9_000_000])
def test_an_object_comes_back_as_it_was_put(store: ObjectStore, size: int, tmp_path: Path) -> None:
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    etag = store.put("dir/x", data)
    assert store.get("dir/x").data == data
    assert store.get("dir/x").etag == etag
    store.download("dir/x", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data
    store.upload("dir/y", tmp_path / "copy")
    assert store.get("dir/y").data == data


@pytest.mark.slow
def test_an_object_of_several_parts_comes_back(store: ObjectStore, tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 130
    etag = store.put("big", data)
    blob = store.get("big")
    assert blob.data == data
    assert blob.etag == etag
    store.download("big", tmp_path / "big")
    store.upload("again", tmp_path / "big")
    assert store.get("again").data == data


@pytest.mark.parametrize("size", [0, 5, (16 << 20) + 3, (40 << 20) + 1])
def test_what_is_put_in_parts_comes_back_and_was_watched(store: ObjectStore, size: int) -> None:
    data = (bytes(range(256)) * (1 + size // 256))[:size]
    seen: list[int] = []
    store.put_parts("dir/x", memoryview(data), seen.append)
    assert store.get("dir/x").data == data
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0, size)


def test_a_put_in_parts_that_is_given_up_leaves_the_object_as_it_was(store: ObjectStore) -> None:
    def stop(written: int) -> None:
        if written:
            raise KeyError("given up")

    store.put("x", b"old")
    with pytest.raises(KeyError, match="given up"):
        store.put_parts("x", memoryview(bytes(40 << 20)), stop)
    assert store.get("x").data == b"old"
    assert [entry.key for entry in store.list()] == ["x"]


def test_a_missing_object_is_not_found(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        store.get("no/such")
    with pytest.raises(NotFound):
        store.download("no/such", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    assert not store.exists("no/such")
    assert list(store.list()) == []
    store.delete("no/such")


def test_a_listing_is_sorted_by_key_and_goes_by_string_prefix(store: ObjectStore) -> None:
    for size, key in enumerate(KEYS):
        store.put(key, b"x" * size)
    assert [(e.key, e.size) for e in store.list()] == sorted((k, i) for i, k in enumerate(KEYS))
    for prefix in ("a", "a/", "a/c/", "é/", "é/x", "z", "HEAD"):
        expected = sorted(key for key in KEYS if key.startswith(prefix))
        assert [entry.key for entry in store.list(prefix)] == expected


@pytest.mark.s3
def test_a_listing_of_several_pages_is_whole(s3: object, place: Place) -> None:
    keys = [f"n/{number:04}" for number in range(1003)]
    place.open().put("n/0000", b"")
    for key in keys:  # straight to the disk: a thousand requests would only cost time
        (place.files / key).write_bytes(b"")
    assert [entry.key for entry in place.open().list("n/")] == keys


def test_a_view_under_a_prefix_is_the_same_store(store: ObjectStore) -> None:
    view = store.under("a/b").under("c")
    view.put("x/y", b"1")
    assert view.uri == f"{store.uri}/a/b/c"
    assert store.get("a/b/c/x/y").data == b"1"
    assert [entry.key for entry in view.list()] == ["x/y"]
    store.put("a/b/cd", b"not under a/b/c")
    assert [entry.key for entry in view.list()] == ["x/y"]


def test_a_deleted_object_is_gone(store: ObjectStore) -> None:
    store.put("a/b", b"1")
    store.put("a/c", b"1")
    store.delete("a/b")
    assert not store.exists("a/b")
    assert [entry.key for entry in store.list()] == ["a/c"]


def test_conditions_decide_whether_a_write_happens(store: ObjectStore) -> None:
    first = store.put_if("x", b"w1", if_match=None)
    with pytest.raises(PreconditionFailed):
        store.put_if("x", b"w2", if_match=None)
    second = store.put_if("x", b"w2", if_match=first)
    for stale in (first, None, "nonsense"):
        with pytest.raises(PreconditionFailed):
            store.put_if("x", b"w3", if_match=stale)
    with pytest.raises(PreconditionFailed):
        store.put_if("absent", b"w3", if_match=second)
    assert store.get("x").data == b"w2"
    assert not store.exists("absent")
    store.delete("x")
    store.put_if("x", b"w4", if_match=None)


def test_a_conditional_write_of_what_is_there_already_counts_as_done(store: ObjectStore) -> None:
    etag = store.put_if("x", b"writer-1 step 1", if_match=None)
    assert store.put_if("x", b"writer-1 step 1", if_match=None) == etag


def test_the_store_passes_its_own_check_and_is_left_clean(place: Place) -> None:
    report = check_store(place.open(), operations=40)
    assert report.ok, str(report)
    assert place.objects() == {}


def test_of_many_processes_one_wins_each_first_write(place: Place, tmp_path: Path) -> None:
    keys = [f"race/{number:02}" for number in range(20)]
    go = tmp_path / "go"

    def race(name: str) -> None:
        store, won = place.open(), []
        while not go.exists():
            time.sleep(0.001)
        for key in keys:
            with contextlib.suppress(PreconditionFailed):
                store.put_if(key, name.encode(), if_match=None)
                won.append(key)
        (tmp_path / name).write_text(json.dumps(won))

    names = [f"process-{number}" for number in range(4)]
    children = [start(lambda name=name: race(name)) for name in names]
    go.touch()
    assert [wait(pid) for pid in children] == [0] * len(names)
    won = {name: json.loads((tmp_path / name).read_text()) for name in names}
    assert sorted(key for mine in won.values() for key in mine) == keys
    for name, mine in won.items():
        assert all(place.open().get(key).data == name.encode() for key in mine)


def test_increments_by_many_processes_are_all_counted(place: Place) -> None:
    place.open().put("counter", b"0 start")

    def count() -> None:
        store, done = place.open(), 0
        while done < 15:
            blob = store.get("counter")
            number = int(blob.data.split()[0]) + 1
            body = f"{number} {os.getpid()}".encode()
            with contextlib.suppress(PreconditionFailed):
                store.put_if("counter", body, if_match=blob.etag)
                done += 1

    children = [start(count) for _ in range(4)]
    assert [wait(pid) for pid in children] == [0] * 4
    assert place.open().get("counter").data.split()[0] == b"60"


@pytest.mark.parametrize("trial", range(3))
def test_what_was_acknowledged_before_kill_9_is_there_and_nothing_is_torn(
    place: Place, tmp_path: Path, trial: int
) -> None:
    size = 300_000
    acks = tmp_path / "acks"

    def write() -> None:
        store = place.open()
        with acks.open("wb", buffering=0) as log:
            for number in range(10_000):
                store.put(f"k/{number % 7}", number.to_bytes(4, "big") * (size // 4))
                log.write(number.to_bytes(4, "big"))

    child = start(write)
    while not acks.exists() or acks.stat().st_size < 4 * 8:
        time.sleep(0.005)
    time.sleep(derive_seed(0, place.uri[:5], trial) % 1000 / 20_000)
    os.kill(child, 9)
    assert wait(child) == KILLED
    last = int.from_bytes(acks.read_bytes()[-4:], "big")
    store = place.open()
    for number in range(max(0, last - 6), last + 1):
        data = store.get(f"k/{number % 7}").data
        assert len(data) == size
        assert data == data[:4] * (size // 4)
        assert int.from_bytes(data[:4], "big") in (number, number + 7)  # or the one in flight
    assert len(list(store.list())) == 7
    if place.endpoint is None:
        assert len(list((place.files / "k").iterdir())) == 7  # the torn file was swept


@pytest.mark.slow
def test_a_lock_dies_with_its_holder(place: Place, tmp_path: Path) -> None:
    started = tmp_path / "started"

    def write() -> None:
        store, etag = place.open(), None
        for number in range(10_000):
            etag = store.put_if("HEAD", f"{number} {os.getpid()}".encode(), if_match=etag)
            started.touch()

    for _ in range(5):
        child = start(write)
        while not started.exists():
            time.sleep(0.005)
        os.kill(child, 9)
        wait(child)
        started.unlink()
        store = place.open()
        store.put_if("HEAD", b"mine", if_match=store.get("HEAD").etag)
        store.delete("HEAD")
