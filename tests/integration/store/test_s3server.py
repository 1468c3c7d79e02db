"""The fixture itself: found once built, stopped by its own id, and plain about its usage."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import s3server

SCRIPT = str(Path(s3server.__file__))


@pytest.mark.parametrize("arguments", [[], ["help"], ["run", "a", "b"]])
def test_a_wrong_command_line_prints_the_usage(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")


@pytest.mark.s3
def test_two_servers_run_side_by_side_and_stop_at_the_end() -> None:
    with s3server.s3_server() as one, s3server.s3_server() as two:
        assert one.endpoint != two.endpoint
        assert one.root != two.root
    for server in (one, two):
        with pytest.raises(ProcessLookupError):
            os.kill(server.pid, 0)
        assert not server.root.exists()


def test_a_server_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3server, "build", lambda: Path("/bin/false"))
    with pytest.raises(RuntimeError, match="did not start"), s3server.s3_server():
        pass


def test_builders_wait_for_each_other_and_only_one_builds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds = []

    def install(command: list[str], *, env: dict[str, str]) -> None:
        builds.append(command)
        (Path(env["GOBIN"]) / "versitygw").write_bytes(b"")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(s3server, "_run", install)
    monkeypatch.setattr(s3server, "_go", lambda tools: Path("go"))
    threads = [threading.Thread(target=s3server.build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(builds) == 1
    assert s3server.build().exists()


def test_the_toolchain_of_the_package_is_found_rather_than_its_launcher(tmp_path: Path) -> None:
    for name in ("bin/go", "go/bin/go"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"")
    assert s3server._find_go(tmp_path) == tmp_path / "go/bin/go"
    assert s3server._find_go(tmp_path / "nowhere") is None
