"""The process of a user's reward: what it computes, and one clear line for each fault of a file."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from m2r_train.api.errors import DataError
from m2r_train.ownrewards.process import (
    Limits,
    RewardFile,
    RewardProcess,
    WorkerLostError,
    environment,
)

PROBLEM: dict[str, Any] = {"id": "q7", "answer": "3"}
HARD = Limits(seconds=1.0, memory=1 << 30)


def file(body: str) -> RewardFile:
    """A file whose function has this body."""
    source = f"def reward(completion, problem):\n    {body}\n"
    return RewardFile("units", "file:///rewards/units.py", source.encode())


def value(body: str, completion: str = "three", limits: Limits = HARD) -> float:
    """What the function gives for one completion."""
    with RewardProcess(file(body), limits) as ask:
        return ask(completion, PROBLEM)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return 0.25", 0.25),
        ("return 1", 1.0),
        ("return True", 1.0),
        ("import numpy; return numpy.float32(0.5)", 0.5),
        ("from fractions import Fraction; return Fraction(1, 4)", 0.25),
        ("return float(problem['answer'] == '3' and completion == 'three')", 1.0),
        ("print('0.9'); import sys; sys.stdout.flush(); return 0.1", 0.1),
        ("return float(__import__('sys').stdin.read() == '')", 1.0),
    ],
)
def test_the_value_of_a_completion(body: str, expected: float) -> None:
    assert value(body) == expected


@pytest.mark.parametrize("text", ["", "a\nb\u2028c", "½ 😀 \x00", "\ud800", "x" * 3_000_000])
def test_any_text_arrives_as_it_is(text: str) -> None:
    with RewardProcess(file("return len(completion) / 1e7"), HARD) as ask:
        assert [ask(text, PROBLEM) for _ in range(2)] == [len(text) / 1e7] * 2


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("return 1 / 0", "reward() raised ZeroDivisionError: division by zero (line 2) for"),
        ("raise SystemExit(3)", "reward() raised SystemExit: 3 (line 2) for"),
        ("return None", "reward() returned a NoneType; return a number for"),
        ("return '1'", "reward() returned a str; return a number for"),
        ("return [1.0]", "reward() returned a list; return a number for"),
        ("return float('nan')", "reward() returned nan for"),
        ("return 1.5", "reward() returned 1.5 for"),
        ("return -1e-9", "reward() returned -1e-09 for"),
        ("import os; os._exit(0)", "ended its process (exit status 0) for"),
        ("import os; os.abort()", "ended its process (SIGABRT) for"),
        ("while True: pass", "more than 1 s of CPU time for"),
        ("return len('x' * (4 << 30)) * 0.0", "reward() raised MemoryError (line 2) for"),
    ],
)
def test_a_fault_is_one_line_that_names_file_function_and_sample(body: str, fault: str) -> None:
    with pytest.raises(DataError) as caught:
        value(body)
    line = str(caught.value)
    assert line.startswith(f"own reward units: file:///rewards/units.py: {fault}")
    assert "sample 'q7', completion 'three'" in line
    assert "\n" not in line
    assert caught.value.exit_code == 65


def test_a_function_that_waits_is_ended_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m2r_train.ownrewards.process._CLOCK", 0.3)
    with pytest.raises(DataError, match=r"no value after 0 s for sample 'q7'"):
        value("import time; time.sleep(60)")


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("def reward(:\n", "SyntaxError: invalid syntax (line 1)"),
        ("x = 1\n", "ImportError: has no function reward(completion, problem)"),
        ("reward = 3\n", "ImportError: has no function reward(completion, problem)"),
        ("\n\nimport no_such_module\n", "ModuleNotFoundError: No module named"),
        ("import helper_beside_it\n", "ModuleNotFoundError: No module named"),
    ],
)
def test_a_file_that_cannot_be_imported(tmp_path: Path, source: str, fault: str) -> None:
    (tmp_path / "helper_beside_it.py").touch()
    bad = RewardFile("units", str(tmp_path / "units.py"), source.encode())
    with pytest.raises(DataError) as caught, RewardProcess(bad, HARD):
        pass
    assert f"cannot be imported: {fault}" in str(caught.value)


def test_no_credential_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    assert value("import os; return float('AWS_SECRET_ACCESS_KEY' in os.environ)") == 0.0
    assert environment({"PATH": "/b", "TOKEN": "x"}).keys() >= {"PATH", "PYTHONHASHSEED"}


def test_sets_of_texts_have_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "77")
    body = "return next(iter({str(i) for i in range(1000)})).__len__() / 10 + hash('a') % 97 / 1e3"
    assert value(body) == value(body)


def test_a_process_that_somebody_else_kills_is_no_fault_of_the_file() -> None:
    with (
        pytest.raises(WorkerLostError, match="killed from outside") as caught,
        RewardProcess(file("return 1"), HARD) as ask,
    ):
        os.kill(ask._process.pid, signal.SIGKILL)
        ask("three", PROBLEM)
    assert caught.value.exit_code == 1


def test_nothing_stays_behind(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    body = (
        "import subprocess, pathlib; p = subprocess.Popen(['sleep', '600']); "
        f"pathlib.Path({str(note)!r}).write_text(str(p.pid)); return 1"
    )
    with RewardProcess(file(body), HARD) as ask:
        assert ask("three", PROBLEM) == 1.0
        folder = Path(ask._folder.name)
    assert not folder.exists()
    left = int(note.read_text())
    for _ in range(100):
        if not alive(left):
            break
        time.sleep(0.05)
    assert not alive(left)


def test_the_process_ends_with_its_parent(tmp_path: Path) -> None:
    """A trainer that is killed leaves no process that computes on."""
    ask = RewardProcess(file("import time; time.sleep(600); return 1"), HARD)
    with ask:
        pid = ask._process.pid
        os.write(ask._stdin, b'{"completion": "", "problem": {}}\n')
        os.close(ask._lifeline)  # what the kernel does for a dead parent
        for _ in range(200):
            if not alive(pid):
                break
            time.sleep(0.05)
        ended = not alive(pid)
        ask._lifeline = os.open(os.devnull, os.O_RDONLY)
    assert ended


def alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"
