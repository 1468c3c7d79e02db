"""What only the local store has: temporary files, locks, and the errors of a file system."""

from __future__ import annotations

import fcntl
import hashlib
import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from m2r_train.api.errors import ConfigError
from m2r_train.store import LocalStore, NotFound
from m2r_train.store._atomic import LOCK, TEMPORARY, replace


def test_a_tag_is_the_sha256_of_the_content(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assert store.put("a", b"x") == store.get("a").etag == hashlib.sha256(b"x").hexdigest()


def test_a_torn_temporary_file_is_not_listed_and_is_swept(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("dir/a", b"1")
    torn = tmp_path / "dir" / f"{TEMPORARY}dead"
    torn.write_bytes(b"half")
    assert [entry.key for entry in store.list()] == ["dir/a"]
    assert not torn.exists()


def test_the_temporary_file_of_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    alive = tmp_path / f"{TEMPORARY}alive"
    with alive.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert list(LocalStore(tmp_path).list()) == []
        assert alive.exists()


def test_a_writer_whose_temporary_file_was_swept_writes_again(tmp_path: Path) -> None:
    tries = []

    def write(file: object) -> None:
        tries.append(file)
        if len(tries) == 1:
            next(tmp_path.glob(f"{TEMPORARY}*")).unlink()

    replace(tmp_path / "a", write)
    assert len(tries) == 2
    assert (tmp_path / "a").exists()


def test_a_failed_write_leaves_the_old_object_and_nothing_else(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a", b"old")

    def fail(file: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace(tmp_path / "a", fail)
    assert store.get("a").data == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_listing_during_a_write_leaves_its_temporary_file_alone(tmp_path: Path) -> None:
    tries = []

    def write(file: BinaryIO) -> None:
        tries.append([entry.key for entry in LocalStore(tmp_path).list()])
        file.write(b"1")

    replace(tmp_path / "a", write)
    assert tries == [[]]
    assert (tmp_path / "a").read_bytes() == b"1"


def test_whoever_waited_for_a_lock_that_was_removed_waits_for_the_new_one(tmp_path: Path) -> None:
    done = threading.Event()

    def write() -> None:
        LocalStore(tmp_path).put_if("a", b"1", if_match=None)
        done.set()

    thread = threading.Thread(target=write)
    with (tmp_path / LOCK).open("ab") as old:
        fcntl.flock(old, fcntl.LOCK_EX)
        thread.start()
        assert not done.wait(0.3)
        (tmp_path / LOCK).unlink()
        new = (tmp_path / LOCK).open("ab")
        fcntl.flock(new, fcntl.LOCK_EX)
    with new:
        assert not done.wait(0.3)
    thread.join(10)
    assert done.is_set()


def test_the_lock_stays_while_its_directory_has_objects(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put_if("a/b", b"1", if_match=None)
    store.put_if("a/c", b"1", if_match=None)
    before = (tmp_path / "a" / LOCK).stat().st_ino
    store.delete("a/b")
    assert (tmp_path / "a" / LOCK).stat().st_ino == before


def test_two_roots_over_the_same_files_exclude_each_other(tmp_path: Path) -> None:
    outer, inner = LocalStore(tmp_path), LocalStore(tmp_path / "run")
    outer.put("run/HEAD", b"1")
    done = threading.Event()

    def write() -> None:
        inner.put_if("HEAD", b"2", if_match=inner.get("HEAD").etag)
        done.set()

    with (tmp_path / "run" / LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # what outer.put_if("run/HEAD", ..) holds
        thread = threading.Thread(target=write)
        thread.start()
        assert not done.wait(0.2)
    thread.join(10)
    assert outer.get("run/HEAD").data == b"2"


def test_deleting_the_last_object_removes_its_directories_up_to_the_root(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "root")
    store.put_if("a/b/c", b"1", if_match=None)
    store.put("a/d", b"1")
    store.delete("a/b/c")
    assert not (tmp_path / "root/a/b").exists()
    assert store.exists("a/d")
    store.delete("a/d")
    assert list((tmp_path / "root").iterdir()) == []


def test_a_directory_whose_lock_is_held_is_not_removed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put_if("a/b", b"1", if_match=None)
    with (tmp_path / "a" / LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        store.delete("a/b")
        assert (tmp_path / "a" / LOCK).exists()


def test_writers_and_deleters_of_one_directory_do_not_disturb_each_other(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    lost = []

    def work(name: str) -> None:
        for number in range(40):
            body = f"{name}-{number}".encode()
            store.put_if(f"dir/{name}", body, if_match=None)
            if store.get(f"dir/{name}").data != body:
                lost.append(body)
            store.delete(f"dir/{name}")

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not lost
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("operation", ["put", "put_if", "upload", "list", "get"])
def test_a_file_in_place_of_the_root_is_one_line_for_the_user(
    operation: str, tmp_path: Path
) -> None:
    (tmp_path / "root").write_bytes(b"")
    store = LocalStore(tmp_path / "root")
    use = {
        "put": lambda: store.put("a", b""),
        "put_if": lambda: store.put_if("a", b"", if_match=None),
        "upload": lambda: store.upload("a", tmp_path / "root"),
        "list": lambda: list(store.list()),
        "get": lambda: store.get("a"),
    }
    with pytest.raises(ConfigError, match="a file stands where a directory is needed") as caught:
        use[operation]()
    assert "\n" not in str(caught.value)
    assert "root" in str(caught.value)


def test_an_object_over_a_directory_is_one_line_for_the_user(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a/b", b"")
    with pytest.raises(ConfigError, match="directory stands where an object"):
        store.put("a", b"")
    with pytest.raises(NotFound):
        store.get("a")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b"]


def test_an_error_that_is_no_users_mistake_keeps_its_kind(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        LocalStore(tmp_path / "loop").get("a")


def test_the_error_counter_hears_of_a_failed_write(tmp_path: Path) -> None:
    heard = []
    (tmp_path / "root").write_bytes(b"")
    store = LocalStore(tmp_path / "root", on_error=lambda *what: heard.append(what))
    with pytest.raises(ConfigError):
        store.under("x").put("a", b"")
    assert heard == [("put", "other")]
