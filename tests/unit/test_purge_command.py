"""``m2r purge``: light, tolerant of specs it cannot read, and told to stop like any pod."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unit.test_imports import CLUSTER, HEAVY, m2r

from m2r_train import cli, purging
from m2r_train.api.errors import Preempted
from m2r_train.store import Run, open_store

FOLDER = "team/rlvrjob/x-0f8fad5b"


def spec_file(folder: Path, store_uri: str, **fields: Any) -> Path:
    """What the operator mounts for a purge; ``spec`` is empty or from another version."""
    document = {
        "apiVersion": "m2r.dev/v1alpha1",
        "kind": "RLVRJob",
        "metadata": {
            "namespace": "team",
            "name": "x",
            "uid": "0f8fad5b-d9cb-469f-a165-70867728950e",
        },
        "attempt": 3,
        "storage": {"uri": store_uri, "endpoint": None, "region": None},
        "seed": 0,
        "spec": {},
        "inputs": {},
        **fields,
    }
    path = folder / "run.json"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("spec", [{}, {"field": "of a later version"}])
def test_a_run_is_deleted_by_its_place_alone_and_without_heavy_libraries(
    tmp_path: Path, store_uri: str, spec: dict[str, Any]
) -> None:
    store = open_store(store_uri)
    Run.claim(store.under(FOLDER), 1).commit(1, {"a": b"12345"})
    store.put("team/rlvrjob/y-0f8fad5b/HEAD", b"another run")
    path = spec_file(tmp_path, store_uri, spec=spec)
    first = m2r("purge", "--spec", str(path), blocked=(*HEAVY, *CLUSTER))
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith(f"purged {store_uri}/{FOLDER}: 3 objects, ")
    assert first.stdout.count("\n") == 1
    again = m2r("purge", "--spec", str(path), blocked=(*HEAVY, *CLUSTER))
    assert (again.returncode, again.stdout) == (
        0,
        f"purged {store_uri}/{FOLDER}: 0 objects, 0 bytes\n",
    )
    assert [entry.key for entry in store.list()] == ["team/rlvrjob/y-0f8fad5b/HEAD"]


def run_main(monkeypatch: pytest.MonkeyPatch, path: Path) -> int:
    """The exit code of ``m2r purge`` in this process."""
    monkeypatch.setattr(sys, "argv", ["m2r", "purge", "--spec", str(path)])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    return int(exited.value.code or 0)


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        ({"metadata": {"name": "x"}}, 64, "metadata.uid"),
        ({"metadata": {"name": "..", "uid": "0f8fad5b"}}, 64, "metadata.name"),
        ({"metadata": {"name": "x", "uid": "../../../"}}, 64, "metadata.uid"),
        ({"metadata": {"name": "x", "namespace": "a/b", "uid": "0f8fad5b"}}, 64, "namespace"),
        ({"storage": {"uri": "ftp://host"}}, 64, "storage.uri"),
        ({"storage": {"uri": "file:///dev/null/store"}}, 78, "/dev/null"),
    ],
)
def test_a_wrong_run_spec_is_one_line_an_exit_code_and_a_termination_message(
    tmp_path: Path, store_uri: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], change: dict[str, Any], code: int, named: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("M2R_TERMINATION_LOG", str(tmp_path / "last-words"))
    assert run_main(monkeypatch, spec_file(tmp_path, store_uri, **change)) == code
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert named in line
    words = json.loads((tmp_path / "last-words").read_text())
    assert words["exitCode"] == code
    assert named in words["message"]


def test_a_missing_file_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("M2R_TERMINATION_LOG", str(tmp_path / "last-words"))
    assert run_main(monkeypatch, tmp_path / "none.json") == 64
    assert "none.json: cannot be read" in capsys.readouterr().err


def test_sigterm_ends_a_purge_with_the_code_of_a_stop(
    tmp_path: Path, store_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As process 1 of a container it would not die of the signal by itself."""

    def slow(_store: object, _prefix: str, *, stopped: Callable[[], bool]) -> None:
        assert not stopped()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopped()
        raise Preempted("stopped half-way")

    monkeypatch.setenv("M2R_TERMINATION_LOG", str(tmp_path / "last-words"))
    monkeypatch.setattr(purging, "purge", slow)
    assert run_main(monkeypatch, spec_file(tmp_path, store_uri)) == 75
    assert json.loads((tmp_path / "last-words").read_text())["reason"] == "Preempted"
