"""From records to lines: averages, smoothing and thinning."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2r_train.report.series import (
    Point,
    curves,
    curves_by_task,
    phase_bars,
    smooth,
    sparse,
    thin,
)

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=250)


def at_steps(values: list[float]) -> list[Point]:
    return [(float(step), value) for step, value in enumerate(values)]


@given(VALUES)
def test_smoothing_stays_inside_the_data_and_keeps_the_steps(values: list[float]) -> None:
    line = smooth(at_steps(values))
    assert [x for x, _ in line] == [float(step) for step in range(len(values))]
    slack = 1e-9 * max(1.0, *(abs(value) for value in values))
    assert all(min(values) - slack <= y <= max(values) + slack for _, y in line)


@given(VALUES)
def test_smoothing_has_no_direction(values: list[float]) -> None:
    there = [y for _, y in smooth(at_steps(values))]
    back = [y for _, y in smooth(at_steps(values[::-1]))][::-1]
    assert there == pytest.approx(back, rel=1e-9, abs=1e-6)


def test_smoothing_removes_noise_and_keeps_a_straight_line() -> None:
    line = smooth([(float(x), 2.0 * x) for x in range(200)], span=5)
    assert all(y == pytest.approx(2 * x, abs=1e-6) for x, y in line[60:140])
    noisy = smooth([(float(x), float(x % 2)) for x in range(200)])
    assert all(abs(y - 0.5) < 0.1 for _, y in noisy)


@given(VALUES, st.integers(8, 100))
def test_thinning_is_bounded_and_keeps_ends_and_extremes(values: list[float], limit: int) -> None:
    points = at_steps(values)
    kept = thin(points, limit)
    assert len(kept) <= limit or len(kept) == len(points)
    assert set(kept) <= set(points)
    assert list(kept) == sorted(kept)
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert max(y for _, y in kept) == max(values)
    assert min(y for _, y in kept) == min(values)


@given(VALUES)
def test_sparse_lines_keep_both_ends(values: list[float]) -> None:
    points = at_steps(values)
    kept = sparse(points, 50)
    assert len(kept) == min(50, len(points))
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert list(kept) == sorted(set(kept))


def test_records_of_one_step_are_averaged_by_their_prompts() -> None:
    found = curves([
        {"step": 1, "task": "a", "reward": 1.0, "prompts": 3},
        {"step": 1, "task": "b", "reward": 0.0, "prompts": 1},
        {"step": 2, "task": "a", "reward": 0.2},
    ])  # fmt: skip
    assert found.columns["reward"] == ((1, 0.75), (2, 0.2))


def test_a_record_of_all_tasks_wins_over_its_parts() -> None:
    records = [{"step": 1, "task": "all", "reward": 0.9}, {"step": 1, "task": "a", "reward": 0.1}]
    assert curves(records).columns["reward"] == ((1, 0.9),)
    assert list(curves_by_task(records)) == ["a"]


def test_steps_that_are_not_finite_are_counted_and_not_drawn() -> None:
    found = curves([{"step": 1, "loss": 1.0}, {"step": 2, "loss": math.nan, "kl": 0.1}])
    assert found.columns == {"loss": ((1, 1.0),), "kl": ((2, 0.1),)}
    assert found.nonfinite_steps == 1


def test_phase_bars_are_means_and_bounded() -> None:
    timings = [{"step": s, "train": 1.0, "data": float(s % 2)} for s in range(1, 101)]
    bars = phase_bars(timings, ("data", "train"), limit=10)
    assert [step for step, _ in bars] == [float(s) for s in range(1, 101, 10)]
    assert all(parts == {"data": 0.5, "train": 1.0} for _, parts in bars)
    assert phase_bars([{"step": 1}], ("train",)) == []
