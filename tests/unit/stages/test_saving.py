"""Saves that go on while training does: order, errors, stops, and how often."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor
from unit.stages.runs_in_memory import context, status

from m2r_train.api.errors import ConfigError, FencedError, Preempted
from m2r_train.stages.context import Context
from m2r_train.store import LocalStore, Run, read_head
from m2r_train.store.base import Watch
from m2r_train.telemetry.progress import Progress

_AGE = "m2r_checkpoint_last_timestamp_seconds"
KEEP = 1
TOTAL = 100


class HeldStore(LocalStore):
    """Holds what is written in parts until it is let go; ``fails`` is raised then."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.open = threading.Event()
        self.begun = threading.Event()
        self.fails: Exception | None = None

    def put_parts(self, key: str, data: memoryview, watch: Watch) -> None:
        self.begun.set()
        while not self.open.wait(0.01):
            watch(1)
        if self.fails is not None:
            raise self.fails
        super().put_parts(key, data, watch)


@pytest.fixture
def held(tmp_path: Path) -> HeldStore:
    return HeldStore(tmp_path)


class Training:
    """A model of one number that is the number of its steps, saved every two of them."""

    def __init__(self, ctx: Context, every: int = 2) -> None:
        self.ctx, self.every = ctx, every
        self.value = torch.zeros(1000)

    def state(self) -> Mapping[str, Tensor]:
        return {"value": self.value}

    def step(self, step: int) -> None:
        with self.ctx.step(step, self.state, keep=KEEP):
            self.ctx.look()
        self.value += 1
        self.ctx.finish_step(
            step, TOTAL, {"loss": 0.5}, self.state, every=self.every, keep=KEEP, shown=()
        )

    def steps(self, *steps: int) -> None:
        for step in steps:
            self.step(step)


def committed(folder: Path) -> dict[int, float]:
    """The first element of every committed state, by step."""
    head = read_head(LocalStore(folder))
    assert head is not None
    found: dict[int, float] = {}

    def load(state: Mapping[str, Tensor]) -> None:
        found[head.step] = float(state["value"][0])

    context(folder, attempt=head.attempt).restore(load, keep=KEEP)
    return found


def test_training_goes_on_and_only_what_is_committed_is_told(
    tmp_path: Path, held: HeldStore
) -> None:
    ctx = context(tmp_path, store=held)
    with ctx.running(TOTAL):
        training = Training(ctx)
        training.steps(0, 1, 2)
        assert held.begun.wait(60)
        told = status(ctx)
        assert (told["step"], told["lastCheckpoint"], told["phase"]) == (3, None, "Running")
        held.open.set()
    assert status(ctx)["lastCheckpoint"]["step"] == 2
    assert committed(tmp_path) == {2: 2.0}  # as it was then, not as training has left it


def test_the_journal_and_older_checkpoints_go_after_the_commit(
    tmp_path: Path, held: HeldStore
) -> None:
    ctx = context(tmp_path, store=held)
    with ctx.running(TOTAL):
        training = Training(ctx)
        held.open.set()
        training.steps(0, 1)
        ctx.saver.settle()
        held.open.clear()
        for step in (2, 3, 4):
            ctx.run.journal_put(f"s{step}/rollouts", b"drawn")
        training.steps(2, 3)
        assert ctx.run.journal_keys() == {"s2/rollouts", "s3/rollouts", "s4/rollouts"}
        assert (tmp_path / "checkpoints/e1-s2/MANIFEST.json").exists()
        held.open.set()
    assert ctx.run.journal_keys() == {"s4/rollouts"}
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["e1-s4"]


def test_a_second_save_waits_for_the_first_and_the_wait_is_counted(
    tmp_path: Path, held: HeldStore
) -> None:
    ctx = context(tmp_path, store=held)
    heard = io.StringIO()
    ctx.progress = Progress(Console(file=heard, width=200))
    order: list[str] = []
    ctx.probe = order.append
    with ctx.running(TOTAL):
        training = Training(ctx)
        training.steps(0, 1, 2)
        timer = threading.Timer(0.5, held.open.set)
        timer.start()
        training.steps(3)
    timer.join()
    assert order == ["before-save", "after-snapshot", "after-save"] * 2
    assert "m2r_checkpoint_wait_seconds_total 0.0" not in ctx.metrics.exposition().decode()
    assert "for the checkpoint of step 2 to be stored" in heard.getvalue()
    assert committed(tmp_path) == {4: 4.0}


@pytest.mark.parametrize("at", ["look", "finish"])
def test_what_goes_wrong_in_the_thread_ends_the_run_at_the_next_boundary(
    tmp_path: Path, held: HeldStore, at: str
) -> None:
    ctx = context(tmp_path, store=held)
    held.fails = ConfigError("the store is full")
    ctx.run.journal_put("s0/rollouts", b"drawn")
    with pytest.raises(ConfigError, match="the store is full"), ctx.running(TOTAL):
        training = Training(ctx)
        training.steps(0, 1)
        held.open.set()
        flight = ctx.saver._flight
        assert flight is not None and flight.ended(60)
        if at == "look":
            ctx.look()
        else:
            ctx.finish_step(2, TOTAL, {}, training.state, every=1000, keep=KEEP, shown=())
        pytest.fail("went on")
    assert status(ctx)["lastCheckpoint"] is None
    assert ctx.run.journal_keys() == {"s0/rollouts"}


def test_an_attempt_that_is_fenced_while_it_saves_ends_and_commits_nothing(
    tmp_path: Path, held: HeldStore
) -> None:
    ctx = context(tmp_path, store=held)
    with pytest.raises(FencedError), ctx.running(TOTAL):
        training = Training(ctx)
        training.steps(0, 1)
        assert held.begun.wait(60)
        Run.claim(LocalStore(tmp_path), 2)
        held.open.set()
        training.steps(*range(2, TOTAL))
    head = read_head(LocalStore(tmp_path))
    assert head is not None and head.chain == ()


def test_a_mishap_of_training_does_not_undo_the_save_before_it(
    tmp_path: Path, held: HeldStore
) -> None:
    ctx = context(tmp_path, store=held)
    timer = threading.Timer(0.3, held.open.set)
    with pytest.raises(ZeroDivisionError), ctx.running(TOTAL):
        Training(ctx).steps(0, 1)
        timer.start()
        raise ZeroDivisionError
    timer.join()
    assert committed(tmp_path) == {2: 2.0}


def gauge(ctx: Context, name: str) -> float:
    value = ctx.metrics.registry.get_sample_value(name)
    assert value is not None
    return value


def test_the_age_of_what_is_saved_is_that_of_its_copy_and_only_once_it_is_committed(
    tmp_path: Path, held: HeldStore
) -> None:
    ctx = context(tmp_path, store=held)
    assert gauge(ctx, _AGE) == 0
    before = time.time()
    with ctx.running(TOTAL):
        began = gauge(ctx, _AGE)
        assert before <= began <= time.time()
        Training(ctx).steps(0, 1)
        copied = time.time()
        assert held.begun.wait(60)
        assert gauge(ctx, _AGE) == began
        held.open.set()
    assert began < gauge(ctx, _AGE) <= copied


def test_an_attempt_that_goes_on_tells_the_step_it_goes_on_from(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    with ctx.running(TOTAL):
        Training(ctx).steps(0, 1)
    again = context(tmp_path, attempt=2)
    again.restore(lambda _: None, keep=KEEP)
    assert gauge(again, "m2r_checkpoint_last_step") == 2


def test_goodput_counts_what_was_saved_over_all_attempts_and_the_time_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("m2r_train.stages.saving.time.time", lambda: now[0])
    first = context(tmp_path)
    first.started = 1000.0
    with first.running(TOTAL):
        training = Training(first)
        for step in range(3):  # the third is lost: it is in no checkpoint
            first._phases = {"train": 10.0, "checkpoint": 5.0}
            now[0] += 20.0
            training.step(step)
    assert gauge(first, "m2r_goodput_ratio") == pytest.approx(2 * 10 / 40, abs=0.01)
    now[0] += 140.0  # the pod was taken away
    second = context(tmp_path, attempt=2)
    second.started = 1000.0
    second.restore(lambda _: None, keep=KEEP)
    assert gauge(second, "m2r_goodput_ratio") == pytest.approx(2 * 10 / 200, abs=0.01)
    with second.running(TOTAL, 2):
        training = Training(second)
        for step in (2, 3):
            second._phases = {"train": 10.0}
            training.step(step)
    assert gauge(second, "m2r_goodput_ratio") == pytest.approx(4 * 10 / 200, abs=0.01)
    assert [row["step"] for row in second.timings.rows] == [0, 1, 2, 3]


def test_the_last_step_is_committed_before_anything_is_published(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    with ctx.running(TOTAL):
        Training(ctx, every=1000).steps(*range(TOTAL))
        assert read_head(LocalStore(tmp_path)).step == TOTAL  # type: ignore[union-attr]


# stops


def ask_to_stop(ctx: Context, seconds_ago: float = 0.0) -> None:
    ctx.stop.reason, ctx.stop.asked = "SIGTERM", time.monotonic() - seconds_ago


def test_a_stop_waits_for_the_save_on_its_way_and_saves_the_newest_state(
    tmp_path: Path, held: HeldStore
) -> None:
    ctx = context(tmp_path, store=held)
    timer = threading.Timer(0.3, held.open.set)
    with pytest.raises(Preempted, match="after step 3, state saved"), ctx.running(TOTAL):
        training = Training(ctx)
        training.steps(0, 1, 2)
        ask_to_stop(ctx)
        timer.start()
        training.steps(3)
    timer.join()
    assert committed(tmp_path) == {3: 3.0}


def test_a_stop_without_time_for_anything_loses_no_committed_step(
    tmp_path: Path, held: HeldStore
) -> None:
    ctx = context(tmp_path, store=held)
    told = "after step 5, state of step 2 saved: the grace period was too short"
    with pytest.raises(Preempted, match=told), ctx.running(TOTAL):
        training = Training(ctx)
        held.open.set()
        training.steps(0, 1)
        ctx.saver.settle()
        held.open.clear()
        training.steps(2, 3, 4)  # 4 steps are on their way, and never come
        ask_to_stop(ctx, seconds_ago=1000.0)
        training.steps(5)
    assert committed(tmp_path) == {2: 2.0}


def test_a_stop_in_the_first_save_leaves_when_time_is_up(tmp_path: Path, held: HeldStore) -> None:
    ctx = context(tmp_path, store=held, disruption={"terminationGracePeriodSeconds": 100})
    told = "after step 1, nothing saved: the grace period was too short"
    with pytest.raises(Preempted, match=told), ctx.running(TOTAL):
        training = Training(ctx)
        ask_to_stop(ctx, seconds_ago=94.5)
        ctx.finish_step(0, TOTAL, {}, training.state, every=2, keep=KEEP, shown=())
    assert read_head(LocalStore(tmp_path)).chain == ()  # type: ignore[union-attr]


def test_a_save_on_its_way_makes_room_where_the_grace_period_has_no_time_for_both(
    tmp_path: Path, held: HeldStore
) -> None:
    ctx = context(tmp_path, store=held, disruption={"terminationGracePeriodSeconds": 100})
    with pytest.raises(Preempted, match="after step 3, state saved"), ctx.running(TOTAL):
        training = Training(ctx)
        training.steps(0, 1, 2)
        flight = ctx.saver._flight
        assert flight is not None and held.begun.wait(60)
        ctx.saver._rate = flight.size / 50  # 50 s each, in 95
        held.begun.clear()
        threading.Thread(target=let_go_after_the_first, args=(held,), daemon=True).start()
        ask_to_stop(ctx)
        training.steps(3)
    assert flight.error is not None
    assert committed(tmp_path) == {3: 3.0}
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["e1-s3"]


def let_go_after_the_first(held: HeldStore) -> None:
    """Opens the store when the second save comes, which is only after the first has gone."""
    held.begun.wait(60)
    held.open.set()


def test_ctrl_c_has_no_grace_period(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    assert ctx.seconds_left() is None
    ask_to_stop(ctx)
    left = ctx.seconds_left()
    assert left is not None and 110 < left <= 115  # of 120, less what leaving takes
    ctx.stop.reason = "SIGINT"
    assert ctx.seconds_left() is None


# how often


def test_auto_saves_after_the_first_step_and_then_as_often_as_is_worth_it(tmp_path: Path) -> None:
    heard = io.StringIO()
    ctx = context(tmp_path, checkpoint={"interval": "Auto"})
    ctx.progress = Progress(Console(file=heard, width=300))
    saved: list[int] = []
    with ctx.running(TOTAL):
        training, pace = Training(ctx, every=8), ctx.saver.pace
        pace.end_step = lambda: None  # type: ignore[method-assign]
        for step in range(30):
            before = ctx.saver.newest
            training.step(step)
            ctx.saver.settle()
            pace.step, pace.blocking, pace.upload = 10.0, 0.125, 50.0  # 30 s by Daly
            if ctx.saver.newest != before:
                saved.append(step + 1)
    assert saved == [1, 6, 11, 16, 21, 26]
    assert heard.getvalue().count("a checkpoint every 5 steps: a step takes 10 s") == 1
    assert "m2r_checkpoint_interval_steps 5.0" in ctx.metrics.exposition().decode()


def test_auto_measures_steps_and_saves(tmp_path: Path) -> None:
    ctx = context(tmp_path, checkpoint={"interval": "Auto"})
    with ctx.running(TOTAL):
        training = Training(ctx)
        training.steps(0)
        ctx.saver.settle()
        pace = ctx.saver.pace
        assert pace.blocking is not None and pace.upload is not None and pace.step is not None
        assert 0 < pace.blocking < 60 and 0 < pace.upload < 60 and 0 < pace.step < 60
