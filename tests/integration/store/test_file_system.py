"""Full disks, forbidden directories, read-only mounts: one line, and nothing half-written."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from integration.store.helpers import run_child

from m2r_train.api.errors import ConfigError
from m2r_train.store import LocalStore, Run, publish_folder
from m2r_train.store._atomic import LOCK, TEMPORARY
from m2r_train.store.purge import purge

MIB = 1 << 20


@contextlib.contextmanager
def tmpfs(options: str) -> Iterator[Path]:
    """A small file system of its own; where mounting is forbidden the test says so and is skipped.

    The limit on file sizes below needs no rights and takes the same way through the code.
    """
    with tempfile.TemporaryDirectory() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"tmpfs cannot be mounted here: {done.stderr.strip()}")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def no_temporary_files(folder: Path) -> bool:
    return not list(folder.rglob(f"{TEMPORARY}*"))


def refused(use: Callable[[], object], *words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        use()
    assert caught.value.exit_code == 78
    assert "\n" not in str(caught.value)
    for word in ("storage.uri", *words):
        assert word in str(caught.value)


def writes(store: LocalStore, data: bytes, source: Path) -> list[Callable[[], object]]:
    """Every way to write."""
    source.write_bytes(data)
    return [
        lambda: store.put("big", data),
        lambda: store.put_if("big", data, if_match=None),
        lambda: store.upload("big", source),
        lambda: publish_folder(store, "model", {"big": data}),
        lambda: Run.claim(store.under("run"), 1).commit(1, {"big": data}),
    ]


def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path: Path) -> None:
    with tmpfs("size=1m") as folder:
        store = LocalStore(folder / "store")
        store.put("small", b"kept")
        for write in writes(store, b"x" * 2 * MIB, tmp_path / "source"):
            refused(write, store.uri, "no space left", "free some space")
        assert store.get("small").data == b"kept"
        keys = [entry.key for entry in store.list()]
        assert keys == ["run/HEAD", "small"]
        assert no_temporary_files(folder)
        run = Run.claim(store.under("run"), 2)
        assert run.latest() is None
        run.commit(1, {"small": b"1"})


def test_a_limit_on_file_sizes_is_one_line_and_leaves_what_was_there(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    store.put("small", b"kept")
    sources = writes(store, b"x" * MIB, tmp_path / "source")

    def child() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB // 2, MIB // 2))
        for write in sources:
            refused(write, store.uri, "file too large", "ulimit -f")

    assert run_child(child) == 0
    assert [entry.key for entry in store.list()] == ["run/HEAD", "small"]
    assert no_temporary_files(tmp_path)


def test_a_read_only_mount_is_one_line_and_still_readable(tmp_path: Path) -> None:
    with tmpfs("size=4m") as folder:
        store = LocalStore(folder / "store")
        store.put("small", b"kept")
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        for write in writes(store, b"x", tmp_path / "source"):
            refused(write, store.uri, "read-only", "mount it writable")
        refused(lambda: store.delete("small"), "read-only")
        assert store.get("small").data == b"kept"
        assert [entry.key for entry in store.list()] == ["small"]


def test_a_directory_that_this_user_may_not_write_is_one_line(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as name:  # not tmp_path: other users cannot enter that
        top, source = Path(name), tmp_path / "source"
        top.chmod(0o755)
        closed, opened = top / "closed", top / "opened"
        closed.mkdir()
        (closed / "x").write_bytes(b"1")
        opened.mkdir()
        closed.chmod(0o555)
        opened.chmod(0o777)
        sources = writes(LocalStore(closed), b"data", source)

        def child() -> None:
            if os.geteuid() == 0:  # permissions do not bind root
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            LocalStore(opened).put("control", b"1")
            for write in [*sources[:2], *sources[3:]]:
                refused(write, "permission denied", "accessible")
            refused(lambda: LocalStore(closed).delete("x"), "permission denied")
            assert LocalStore(closed).get("x").data == b"1"

        assert run_child(child) == 0
        assert [path.name for path in closed.iterdir()] == ["x"]


def test_a_directory_that_this_user_may_not_read_is_one_line(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        store = LocalStore(Path(name) / "store")
        store.put("a/b", b"1")
        (store.root / "a").chmod(0o000)

        def child() -> None:
            if os.geteuid() == 0:
                Path(name).chmod(0o755)
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            for use in (
                lambda: store.get("a/b"),
                lambda: list(store.list()),
                lambda: store.exists("a/b"),
            ):
                refused(use, "permission denied")

        assert run_child(child) == 0
        (store.root / "a").chmod(0o755)


# what a kill leaves that is no object


def littered(folder: Path) -> None:
    """Directories as a SIGKILL between a file and its directory leaves them."""
    for name in ("e1-s2", "e1-s4/nested", "e1-s6", "e1-s8"):
        (folder / name).mkdir(parents=True)
    (folder / "e1-s6" / LOCK).touch()
    (folder / "e1-s8" / f"{TEMPORARY}1").write_bytes(b"half")


def test_pruning_removes_directories_without_objects(tmp_path: Path) -> None:
    run = Run.claim(LocalStore(tmp_path), 1)
    run.commit(10, {"state": b"1"})
    littered(tmp_path / "checkpoints")
    assert run.prune(2) == []
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["e1-s10"]


@pytest.mark.parametrize("run_is_there", [True, False])
def test_a_purge_removes_directories_without_objects(tmp_path: Path, run_is_there: bool) -> None:
    if run_is_there:
        Run.claim(LocalStore(tmp_path / "team/run"), 1).commit(10, {"state": b"1"})
    littered(tmp_path / "team/run/checkpoints")
    purge(LocalStore(tmp_path), "team/run")
    assert list(tmp_path.iterdir()) == []


def test_tidying_leaves_files_and_what_lies_beside_the_folder(tmp_path: Path) -> None:
    littered(tmp_path / "a")
    littered(tmp_path / "b")
    (tmp_path / "a" / "e1-s2" / "mine").touch()
    LocalStore(tmp_path).tidy("a/")
    assert [path.name for path in (tmp_path / "a").rglob("*")] == ["e1-s2", "mine"]
    assert len(list((tmp_path / "b").iterdir())) == 4
