"""Words that the shell completes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from m2r_train import completing
from m2r_train.completing import Shell, runs, script
from m2r_train.reporting import SPEC

BIN = Path(sys.executable).parent


def a_store(folder: Path) -> Path:
    for run in ("lab/rlvrjob/rooms-0f8fad5b", "lab/sftjob/ci-11111111", "lab/sftjob/unfinished"):
        (folder / run).mkdir(parents=True)
    for run in ("lab/rlvrjob/rooms-0f8fad5b", "lab/sftjob/ci-11111111"):
        (folder / run / SPEC).write_text("{}")
    return folder


def test_runs_are_completed_from_a_store_on_this_machine(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    rooms, ci = f"{store}/lab/rlvrjob/rooms-0f8fad5b", f"{store}/lab/sftjob/ci-11111111"
    assert runs(str(store), "") == runs(store.as_uri(), "") == [rooms, ci]
    assert runs(str(store), f"{store}/lab/r") == [rooms]
    assert runs(str(store), "elsewhere") == []


@pytest.mark.parametrize("store", ["s3://lab/runs", "file:///not/there", "not-there"])
def test_a_store_that_is_not_here_is_not_asked(store: str) -> None:
    assert runs(store, "") == []


def test_the_runs_that_are_offered_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completing, "MOST", 1)
    assert len(runs(str(a_store(tmp_path)), "")) == 1


@pytest.mark.parametrize("shell", Shell)
def test_each_shell_has_a_script_that_asks_m2r(shell: Shell) -> None:
    assert f"_M2R_COMPLETE=complete_{shell}" in script(shell)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("m2r rep", ["report"]),
        ("m2r score mathvi", ["mathvision", "mathvista"]),
        ("m2r report STORE/lab/r", ["STORE/lab/rlvrjob/rooms-0f8fad5b"]),
    ],
)
def test_bash_completes(tmp_path: Path, words: str, offered: list[str]) -> None:
    store = a_store(tmp_path)
    asks = (
        f'eval "$(m2r completion bash)"; COMP_WORDS=({words.replace("STORE", str(store))}); '
        f"COMP_CWORD={len(words.split()) - 1}; _m2r_completion m2r; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    env = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(tmp_path), "M2R_STORE": str(store)}
    done = subprocess.run(
        ["bash", "-c", asks], env=env, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == [word.replace("STORE", str(store)) for word in offered]
