"""Dynamic sampling: which groups are replaced, by whom, and how a resumed run knows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from unit.model.tinies import request, sample, small_policy

from m2r_train.core.advantages import GroupAdvantages
from m2r_train.core.records import Sample
from m2r_train.core.rewards import Reward
from m2r_train.core.schedules import Curriculum
from m2r_train.rollout.base import Completion
from m2r_train.stages.grpo import Scored
from m2r_train.stages.redraw import Draw, redraw, spares, taken_before

POLICY = small_policy()
ASKED = request(POLICY, "how many?")


def draw_of(samples: Sequence[Sample], signals: Sequence[bool]) -> Draw:
    """A draw in which some groups have a signal."""
    n = len(samples)
    return Draw(
        [ASKED] * n,
        Scored(
            samples,
            [[Completion((1,), (-0.5,), truncated=False)]] * n,
            [[s.id] for s in samples],
            [[Reward(0.0, 0.0, 0.0, None, 0.0)]] * n,
            [GroupAdvantages([1.0 if signal else 0.0], 1.0, 0.5) for signal in signals],
        ),
    )


def named(*ids: str) -> list[Sample]:
    return [sample(id=i, task="Size" if i[0] == "s" else "Count") for i in ids]


class Source:
    """Hands out further samples, and draws groups with the signals that it was given."""

    def __init__(self, *signals: Sequence[bool]) -> None:
        self.signals = signals
        self.asked: list[tuple[str, int]] = []
        self.rounds: list[tuple[int, list[str]]] = []

    def spare(self, task: str, n: int) -> Sample:
        self.asked.append((task, n))
        return named(f"{task[0].lower()}+{n}")[0]

    def draw(self, number: int, samples: Sequence[Sample], places: Sequence[int]) -> Draw:
        assert len(places) == len(samples)
        self.rounds.append((number, [s.id for s in samples]))
        return draw_of(samples, self.signals[number - 1])


def ids(draw: Draw) -> list[str]:
    return [s.id for s in draw.scored.samples]


def test_groups_without_signal_are_replaced_in_their_places_by_their_own_task() -> None:
    source = Source([True, False, True], [True])
    first = draw_of(named("s0", "c1", "s2", "c3"), [False, False, True, False])
    last = redraw(first, 5, source.spare, source.draw)
    assert ids(last) == ["s+0", "c+2", "s2", "c+1"]
    assert source.rounds == [(1, ["s+0", "c+0", "c+1"]), (2, ["c+2"])]
    assert last.taken == {"Size": 1, "Count": 3}
    assert last.scored.texts == [["s+0"], ["c+2"], ["s2"], ["c+1"]]
    assert last.without_signal == []
    assert last.record() == {
        "redrawn": 4,
        "zero_signal_left": 0.0,
        "redrawn/Size": 1,
        "redrawn/Count": 3,
    }
    assert ids(first) == ["s0", "c1", "s2", "c3"], "the first draw is told of as it was"


def test_the_rounds_are_bounded_and_what_is_left_stays() -> None:
    source = Source([False], [False], [False])
    last = redraw(draw_of(named("s0", "s1"), [True, False]), 2, source.spare, source.draw)
    assert ids(last) == ["s0", "s+1"]
    assert [number for number, _ in source.rounds] == [1, 2]
    assert last.record()["zero_signal_left"] == 0.5


@pytest.mark.parametrize(("rounds", "signals"), [(0, [False]), (3, [True])])
def test_nothing_is_drawn_where_nothing_is_to_be_replaced(rounds: int, signals: list[bool]) -> None:
    source = Source()
    first = draw_of(named("s0"), signals)
    assert redraw(first, rounds, source.spare, source.draw) is first
    assert source.rounds == [] and first.taken == {}


@pytest.mark.parametrize("batch_tasks", ["One", "Mixed"])
def test_every_sample_of_a_pass_comes_once_whoever_takes_it(batch_tasks: str) -> None:
    """Two steps with spares between them: the batch goes on behind the spares, none comes twice."""
    tasks = {"Size": [(f"s{i}", i / 40) for i in range(40)], "Count": [("c0", 0.5), ("c1", 0.6)]}
    curriculum = Curriculum(
        {"Size": tasks["Size"]},
        batch_size=3,
        seed=1,
        batch_tasks=batch_tasks,  # type: ignore[arg-type]
    )
    known = {id_: named(id_)[0] for id_, _ in tasks["Size"]}
    seen: list[str] = []
    history: list[dict[str, float | int | str]] = []
    for step, extra in enumerate((2, 0, 4, 1)):
        taken = taken_before(history)
        seen += curriculum.batch(step, taken)
        spare = spares(curriculum, known, step, taken)
        seen += [spare("Size", n).id for n in range(extra)]
        history.append({"step": step, **({"redrawn/Size": extra} if extra else {})})
    assert seen == [f"s{i}" for i in range(4 * 3 + 7)]
    assert curriculum.current_difficulty("Size", 4, taken_before(history)) == 19 / 40


def test_the_history_tells_how_many_each_task_gave() -> None:
    history = [
        {"step": 0, "redrawn": 3, "redrawn/a": 3},
        {"step": 1},
        {"redrawn/a": 1, "redrawn/b": 2},
    ]
    assert taken_before(history) == {"a": 4, "b": 2}
