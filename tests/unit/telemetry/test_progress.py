"""Progress: golden plain lines, and a terminal that shows each thing once."""

import io
import re

import pytest
from rich.console import Console

from m2r_train.api.errors import Preempted
from m2r_train.telemetry.progress import Progress, duration, results_table
from m2r_train.telemetry.results import Score, models_of, result_rows


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def plain(width: int = 80) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=False)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_plain_lines_without_a_terminal() -> None:
    clock, console = Clock(), plain()
    progress = Progress(console, interval_seconds=10, clock=clock)
    assert not progress.is_live
    with progress.stage("RLVRJob", "rlvr", 1000) as stage:
        for step in range(1, 31):
            clock.now += 1.5
            stage.update(step, reward=step / 100, tokens_per_second=1834.6, lr=1e-6)
            if step == 20:
                stage.note("checkpoint e1-s20 saved")
        stage.finish("30 steps in this test", reward=0.3)
    with progress.stage("EvalJob", "eval", None, start_step=4):
        clock.now += 7300
    assert text(console) == (
        "RLVRJob/rlvr  started  1,000 steps\n"
        "RLVRJob/rlvr  step 7/1,000  0%  eta 24m50s  reward 0.070  tokens/s 1,835  lr 1.0e-06\n"
        "RLVRJob/rlvr  step 14/1,000  1%  eta 24m39s  reward 0.140  tokens/s 1,835  lr 1.0e-06\n"
        "RLVRJob/rlvr: checkpoint e1-s20 saved\n"
        "RLVRJob/rlvr  step 21/1,000  2%  eta 24m28s  reward 0.210  tokens/s 1,835  lr 1.0e-06\n"
        "RLVRJob/rlvr  step 28/1,000  2%  eta 24m18s  reward 0.280  tokens/s 1,835  lr 1.0e-06\n"
        "RLVRJob/rlvr  done in 45s  30 steps  30 steps in this test  reward 0.300\n"
        "EvalJob/eval  started  from step 4\n"
        "EvalJob/eval  done in 2h01m  4 steps\n"
    )


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (Preempted("asked to stop, state saved"), "stopped in 0s  0 steps  asked to stop, state"),
        (ValueError("no such file"), "failed in 0s  0 steps  no such file"),
        (KeyboardInterrupt(), "stopped in 0s  0 steps  KeyboardInterrupt"),
    ],
)
def test_a_stage_that_raises_says_how_it_ended(error: BaseException, line: str) -> None:
    console = plain()
    progress = Progress(console, clock=Clock())
    with pytest.raises(type(error)), progress.stage("SFTJob", "sft", 5):
        raise error
    assert f"SFTJob/sft  {line}" in text(console)
    with progress.stage("SFTJob", "again", 5):
        pass


def test_a_very_long_line_is_never_broken_in_a_log() -> None:
    console = plain(width=20)
    with Progress(console, clock=Clock()).stage("SFTJob", "sft", 5) as stage:
        stage.note("x" * 300)
    assert f"SFTJob/sft: {'x' * 300}\n" in text(console)


def test_markup_in_a_note_is_text() -> None:
    console = plain()
    with Progress(console, clock=Clock()).stage("SFTJob", "sft", 5) as stage:
        stage.note("[bold]s3://x[/bold]")
    assert "[bold]s3://x[/bold]" in text(console)


def test_the_first_step_does_not_count_for_the_eta() -> None:
    clock, console = Clock(), plain()
    with Progress(console, interval_seconds=0, clock=clock).stage("SFTJob", "sft", 10) as stage:
        clock.now += 500  # loading the model
        stage.update(1)
        clock.now += 2
        stage.update(2)
    assert "step 1/10  10%\n" in text(console)
    assert "step 2/10  20%  eta 16s\n" in text(console)


def test_updates_need_a_stage_and_stages_do_not_nest() -> None:
    progress = Progress(plain(), clock=Clock())
    with pytest.raises(RuntimeError, match="no stage is running"):
        progress.update(1)
    with (
        progress.stage("SFTJob", "a", 1),
        pytest.raises(RuntimeError, match="started inside"),
        progress.stage("SFTJob", "b", 1),
    ):
        pass


def terminal(monkeypatch: pytest.MonkeyPatch) -> Console:
    monkeypatch.setenv("TERM", "xterm-256color")
    return Console(file=io.StringIO(), width=80, force_terminal=True, _environ={"COLUMNS": "80"})


def test_a_terminal_gets_a_bar_and_one_line_per_finished_stage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, console = Clock(), terminal(monkeypatch)
    with Progress(console, interval_seconds=0, clock=clock) as progress:
        assert progress.is_live
        with progress.stage("RLVRJob", "rlvr", 1000) as stage:
            for step in (500, 501):
                clock.now += 1
                stage.update(step, reward=0.61)
            drawn = console.render_lines(progress._render(), pad=False)
            stage.finish("reward 0.61")
    bar = ["".join(segment.text for segment in line) for line in drawn]
    assert all(len(line) <= 80 for line in bar)
    assert "RLVRJob/rlvr" in bar[0]
    assert "501/1,000 eta 8m19s" in bar[0]
    assert bar[1].strip() == "reward 0.610"
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text(console))
    assert shown.count("✓") == 1
    assert "started" not in shown  # no plain line beside the bar
    assert "done in" not in shown


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    console = terminal(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    assert not Progress(console).is_live


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (61, "1m01s"), (3600, "1h00m"), (7380, "2h03m"),
     (86400, "1d00h"), (93600, "1d02h")],
)  # fmt: skip
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def score(value: float | None, stderr: float | None = 1.0, n: int = 500) -> dict[str, object]:
    return {"value": value, "stderr": stderr, "n": n}


RESULTS = {
    "base": {"benchmarks": {"synthetic": {"count": score(4.0), "overall": score(1.2)}}},
    "sft": {"benchmarks": {"synthetic": {"overall": score(50.15), "count": score(45.0),
                                         "greedy/count": score(9), "greedy/overall": score(55)},
                           "maths": {"overall": score(30.0, None)}}},
    "rlvr": {"benchmarks": {"synthetic": {"overall": score(63.7), "count": score(None)}}},
}  # fmt: skip


def test_rows_lead_with_overall_and_keep_views_apart() -> None:
    rows = result_rows(RESULTS)
    assert [(row.benchmark, row.task) for row in rows] == [
        ("synthetic", "overall"), ("synthetic", "count"), ("synthetic", "greedy/overall"),
        ("synthetic", "greedy/count"), ("maths", "overall"),
    ]  # fmt: skip
    assert rows[1].scores == {"base": Score(4.0, 1.0, 500), "sft": Score(45.0, 1.0, 500)}
    assert models_of(rows) == ["base", "sft", "rlvr"]
    assert result_rows({}) == []


def test_the_final_table_shows_error_bars_and_fits_80_columns() -> None:
    console = plain()
    console.print(results_table(result_rows(RESULTS)))
    lines = [line.rstrip() for line in text(console).splitlines()]
    assert max(map(len, lines)) <= 80
    table = "\n".join(lines)
    assert re.search(r"synthetic +1\.2 ± 1\.0 +50\.1 ± 1\.0 +63\.7 ± 1\.0 +500", table)
    assert re.search(r"count +4\.0 ± 1\.0 +45\.0 ± 1\.0 +- +500", table)
    assert re.search(r"maths +- +30\.0 +- +500", table)
    assert "greedy/overall" in table
    assert "greedy/count" not in table
