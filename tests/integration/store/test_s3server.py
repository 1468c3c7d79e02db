"""The fixture itself: found once built, stopped by its own id, and plain about its usage."""

from __future__ import annotations

import os
import subprocess
import sys
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
