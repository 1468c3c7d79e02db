"""What is known of the watched runs, and how it is shown."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from m2r_train.clusterwatch.board import Board, RunKey, row_of
from m2r_train.clusterwatch.showing import Screen, age, line_of

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ROOMS = RunKey("lab", "RLVRJob", "rooms")


def run(
    name: str = "rooms", kind: str = "RLVRJob", uid: str = "u", **status: Any
) -> dict[str, Any]:
    return {
        "kind": kind,
        "metadata": {"namespace": "lab", "name": name, "uid": uid,
                     "creationTimestamp": "2026-01-01T22:00:00Z"},
        "status": status,
    }  # fmt: skip


def event(reason: str, at: str, uid: str = "u", note: str = "n") -> dict[str, Any]:
    return {
        "regarding": {"kind": "RLVRJob", "uid": uid},
        "reason": reason,
        "note": note,
        "eventTime": f"2026-01-01T{at}Z",
    }


RUNNING = {
    "phase": "Running",
    "progress": {"step": 40, "totalSteps": 200, "percent": 20},
    "metrics": {"rewardMean": 0.512345, "loss": 1.5, "score": 40.0},
    "outputs": {"counts": {"kept": 7}},
    "attempt": 2,
    "lastCheckpoint": {"uri": "s3://x", "step": 39},
}


@pytest.mark.parametrize(
    ("kind", "figure"),
    [
        ("RLVRJob", "reward 0.5123"),
        ("SFTJob", "loss 1.5"),
        ("EvalJob", "score 40"),
        ("DataSynthesisJob", "kept 7"),
    ],
)
def test_a_row_has_what_kubectl_shows(kind: str, figure: str) -> None:
    row = row_of(run(kind=kind, **RUNNING))
    line = line_of(row)
    assert line == f"lab/rooms {kind} Running step 40/200 (20 %) {figure} attempt 2 saved 39"


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"progress": 7, "metrics": [], "conditions": {"a": 1}, "attempt": "x", "phase": None},
        {"progress": {"step": True}, "metrics": {"rewardMean": "high"}, "conditions": [1, None]},
    ],
)
def test_an_object_of_any_shape_makes_a_row(status: dict[str, Any]) -> None:
    assert line_of(row_of(run(**status))) == "lab/rooms RLVRJob Pending"


def test_words_of_others_cannot_move_the_cursor_or_colour_the_table() -> None:
    board = Board()
    board.put(run(phase="Running"))
    board.tell(event("Crash", "23:00:00", note="a\x1b[2Jb\rc\n[red]d[/red]\u202ee"))
    (row,) = board.rows()
    assert row.told == "Crash: a [2Jb c [red]d[/red] e"
    assert "[red]d[/red]" in drawn(board)
    assert "\x1b[2J" not in drawn(board)


def drawn(board: Board, width: int = 160) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, color_system=None)
    screen = Screen("Runs", namespaces=True, console=console)
    with screen.open():
        screen.show(board.rows(), "", NOW)
    return out.getvalue()


def test_the_newest_event_of_a_run_is_shown_and_no_other_runs() -> None:
    board = Board()
    board.put(run(phase="Running"))
    board.tell(event("Running", "23:00:05"))
    board.tell(event("Started", "23:00:00"))
    board.tell(event("Failed", "23:59:00", uid="former run of this name"))
    board.tell({"regarding": {"kind": "Pod", "uid": "u"}, "reason": "Pulled"})
    assert [row.told for row in board.rows()] == ["Running: n"]
    board.tell(event("Evicted", "23:00:05"))  # of the same moment: the one that came later
    assert [row.told for row in board.rows()] == ["Evicted: n"]


def test_why_a_run_has_failed_is_shown_when_its_events_are_gone() -> None:
    failed = {"type": "Failed", "status": "True", "reason": "MaxRestarts", "message": "crashed"}
    assert row_of(run(phase="Failed", conditions=[failed])).told == "MaxRestarts: crashed"


def test_a_run_that_is_deleted_goes_and_one_that_a_new_list_lacks_too() -> None:
    board = Board()
    board.replace("RLVRJob", [run("a"), run("b"), run("c")])
    board.replace("SFTJob", [run("s", kind="SFTJob")])
    board.remove(run("a"))
    board.remove(run("b", uid="of an older one"))
    assert [row.key.name for row in board.rows()] == ["b", "c", "s"]
    board.replace("RLVRJob", [run("b")])
    assert [row.key.name for row in board.rows()] == ["b", "s"]


def test_a_wanted_run_is_shown_before_it_is_there_and_after_it_is_gone() -> None:
    board = Board(wanted=(ROOMS,))
    board.put(run("other"))
    assert [(r.key, r.phase) for r in board.rows()] == [(ROOMS, "Missing")]
    assert not board.all_done()
    board.put(run(phase="Running"))
    board.remove(run())
    assert [(r.key, r.phase) for r in board.rows()] == [(ROOMS, "Deleted")]
    assert (board.all_done(), board.all_succeeded()) == (True, False)


@pytest.mark.parametrize(
    ("phases", "done", "succeeded"),
    [
        ([], False, False),
        (["Succeeded", "Running"], False, False),
        (["Succeeded", "Suspended"], False, False),
        (["Succeeded", "Succeeded"], True, True),
        (["Succeeded", "Failed"], True, False),
    ],
)
def test_all_are_done_when_each_has_ended(phases: list[str], done: bool, succeeded: bool) -> None:
    board = Board()
    for n, phase in enumerate(phases):
        board.put(run(f"r{n}", phase=phase))
    assert (board.all_done(), board.all_succeeded()) == (done, succeeded)


def test_a_run_that_has_succeeded_and_whose_time_to_live_is_over_has_succeeded() -> None:
    board = Board()
    board.put(run(phase="Succeeded"))
    board.remove(run())
    assert (board.all_done(), board.all_succeeded()) == (True, True)


@pytest.mark.parametrize(
    ("created", "said"),
    [
        ("2026-01-01T23:59:55", "5s"),
        ("2026-01-01T23:57:30", "2m"),
        ("2026-01-01T22:00:00", "2h"),
        ("2025-12-30T00:00:00", "3d"),
        ("2026-01-02T00:00:05", "0s"),  # a clock that is ahead
    ],
)
def test_ages_are_said_as_kubectl_does(created: str, said: str) -> None:
    assert age(datetime.fromisoformat(created).replace(tzinfo=UTC), NOW) == said
    assert age(None, NOW) == ""


def test_a_table_shows_every_column_and_fits_a_narrow_terminal() -> None:
    board = Board()
    board.put(run(**RUNNING))
    board.tell(event("Running", "23:00:00", note="x" * 500))
    wide = drawn(board)
    for word in ("lab", "RLVRJob", "rooms", "Running", "40/200", "20", "reward 0.5123", "39", "2h"):
        assert word in wide
    assert max(map(len, drawn(board, 80).splitlines())) <= 80


def test_without_a_terminal_each_change_is_one_line() -> None:
    out = io.StringIO()
    screen = Screen("Runs", namespaces=False, console=Console(file=out, force_terminal=False))
    board = Board()
    for status in ({"phase": "Pending"}, {"phase": "Pending"}, {"phase": "Running"}):
        board.put(run(**status))
        screen.show(board.rows(), "", NOW)
    board.remove(run())
    screen.show(board.rows(), "", NOW)
    said = ["lab/rooms RLVRJob Pending", "lab/rooms RLVRJob Running", "lab/rooms RLVRJob Deleted"]
    assert out.getvalue().splitlines() == said


def test_trouble_is_told_once_and_its_end_too(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen("Runs", namespaces=False, console=Console(file=io.StringIO()))
    for trouble in ("", "gone", "gone", ""):
        screen.show([], trouble, NOW)
    assert capsys.readouterr().err.splitlines() == [
        "m2r: gone",
        "m2r: the API server answers again",
    ]
