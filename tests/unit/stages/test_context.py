"""Where an attempt begins, what it tells, and how it leaves in the middle of a step."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from unit.stages.runs_in_memory import context, status

from m2r_train.api.errors import Preempted
from m2r_train.engine.ranks import Ranks, Seat
from m2r_train.stages.context import Context
from m2r_train.stages.place import Place
from m2r_train.stages.stop import StopRequest

KEEP = 2


class Weights:
    """A model of one number, which counts the steps that it has been through."""

    def __init__(self) -> None:
        self.value = torch.zeros(1)

    def state(self) -> Mapping[str, Tensor]:
        return {"value": self.value}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.value = state["value"].clone()


def train(
    ctx: Context, weights: Weights, start: int, end: int, every: int = 100, stop_in: int = -1
) -> None:
    """Steps from ``start`` to ``end``; a stop comes in the middle of step ``stop_in``."""
    with ctx.running(10, start):
        for step in range(start, end):
            with ctx.step(step, weights.state, keep=KEEP):
                if step == stop_in:
                    ctx.stop.reason = "SIGTERM"
                ctx.look()
            weights.value += 1
            ctx.finish_step(
                step, 10, {"loss": 0.5}, weights.state, every=every, keep=KEEP, shown=("loss",)
            )


def test_a_step_that_is_broken_off_saves_what_came_before_it(tmp_path: Path) -> None:
    ctx, weights = context(tmp_path), Weights()
    with pytest.raises(Preempted, match="stopped by SIGTERM after step 3, state saved"):
        train(ctx, weights, 0, 10, stop_in=3)
    again, restored = context(tmp_path), Weights()
    assert again.restore(restored.load, keep=KEEP) == 3
    assert float(restored.value) == 3
    assert [record["step"] for record in again.history.records] == [0, 1, 2]


def test_a_state_that_is_saved_already_is_not_saved_again(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    with pytest.raises(Preempted, match="after step 2"):
        train(ctx, Weights(), 0, 10, every=2, stop_in=2)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["e1-s2"]


def test_a_first_step_that_is_broken_off_leaves_nothing_to_save(tmp_path: Path) -> None:
    with pytest.raises(Preempted):
        train(context(tmp_path), Weights(), 0, 10, stop_in=0)
    assert not (tmp_path / "checkpoints").exists()


def test_without_a_stop_looking_changes_nothing(tmp_path: Path) -> None:
    weights = Weights()
    train(context(tmp_path), weights, 0, 4)
    assert float(weights.value) == 4


class Peers(Ranks):
    """Two ranks of one mind; rank 0 alone is asked to stop, right after their nth agreement."""

    def __init__(self, stop: StopRequest, after: int) -> None:
        super().__init__(Seat(0, 2))
        self._stop, self._left = stop, after

    def gather(self, value: Any) -> list[Any]:
        self._left -= 1
        if self._left == 0:
            self._stop.reason = "SIGTERM"
        return [value, value]


def test_a_stop_that_comes_after_ranks_have_agreed_is_for_the_step_after(tmp_path: Path) -> None:
    """The others know nothing of it yet: a rank that saves or leaves now does so alone."""
    ctx = context(tmp_path)
    ctx.ranks = Peers(ctx.stop, after=2)
    with pytest.raises(Preempted, match="after step 3, state saved"):
        train(ctx, Weights(), 0, 10)


def test_a_stop_in_the_last_save_leaves_no_rank_alone(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    ctx.ranks = Peers(ctx.stop, after=10)
    train(ctx, Weights(), 0, 10)
    assert ctx.saver.committed == 10


def test_the_first_attempt_has_resumed_from_nowhere(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    assert ctx.restore(Weights().load, keep=KEEP) == 0
    assert status(ctx)["resumedFrom"] is None


@pytest.mark.parametrize(
    ("journal", "lost"),
    [((), None), ((2,), 0), ((2, 3, 4), 2)],
    ids=["nothing is known", "the next step was begun", "two steps were done and a third begun"],
)
def test_a_later_attempt_tells_where_it_begins_and_what_is_known_to_be_lost(
    tmp_path: Path, journal: tuple[int, ...], lost: int | None
) -> None:
    first = context(tmp_path)
    train(first, Weights(), 0, 2, every=2)
    for step in journal:
        first.run.journal_put(f"s{step}/rollouts", b"drawn")
    second = context(tmp_path, attempt=2)
    assert second.restore(Weights().load, keep=KEEP) == 2
    told = status(second)
    assert told["resumedFrom"] == {"step": 2, "lostSteps": lost}
    assert told["step"] == told["lastCheckpoint"]["step"] == 2


def test_an_attempt_after_one_without_a_checkpoint_begins_at_0(tmp_path: Path) -> None:
    context(tmp_path).run.journal_put("s3/rollouts", b"drawn")
    second = context(tmp_path, attempt=2)
    assert second.restore(Weights().load, keep=KEEP) == 0
    assert status(second)["resumedFrom"] == {"step": 0, "lostSteps": 3}


def test_of_work_by_parts_nothing_is_lost(tmp_path: Path) -> None:
    first = context(tmp_path)
    first.restore_parts()
    assert status(first)["resumedFrom"] is None
    for part in range(3):
        first.run.journal_put(f"s{part}/shard", b"made")
    second = context(tmp_path, attempt=2)
    second.restore_parts()
    assert status(second)["resumedFrom"] == {"step": 3, "lostSteps": 0}


def test_a_helper_tells_of_no_resume(tmp_path: Path) -> None:
    context(tmp_path).run.journal_put("s0/shard", b"made")
    helper = context(tmp_path, place=Place(1, 2))
    helper.restore_parts()
    assert status(helper)["resumedFrom"] is None


def test_a_finished_step_carries_its_time_and_saving_is_told(tmp_path: Path) -> None:
    ctx, phases = context(tmp_path), []
    ctx.probe = lambda _point: phases.append(status(ctx)["phase"])
    ctx.run._probe = ctx.probe  # type: ignore[union-attr]
    begun = time.time()
    train(ctx, Weights(), 0, 2, every=2)
    told = status(ctx)
    assert begun <= told["lastStepTime"] <= time.time()
    assert (told["phase"], told["step"], told["totalSteps"]) == ("Running", 2, 10)
    assert phases[0] == "Running" and "Saving" in phases
