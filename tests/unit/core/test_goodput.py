"""Goodput, by hand and by law."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2r_train.core.goodput import goodput

SECONDS = st.floats(0, 1e6)
STEPS = st.lists(
    st.fixed_dictionaries({"train": SECONDS, "generate": SECONDS, "checkpoint": SECONDS}),
    max_size=20,
)


def test_work_is_all_but_waiting_for_the_save() -> None:
    steps = [
        {"step": 0, "generate": 6.0, "train": 3.0, "checkpoint": 4.0},
        {"step": 1, "generate": 5.0, "train": 3.0, "evaluate": 3.0},
    ]
    assert goodput(steps, 100.0, 140.0) == pytest.approx(20 / 40)


@pytest.mark.parametrize("now", [100.0, 99.0])
def test_a_run_that_has_just_begun_has_none(now: float) -> None:
    assert goodput([{"step": 0, "train": 1.0}], 100.0, now) == 0


def test_clocks_that_differ_make_no_more_than_all() -> None:
    assert goodput([{"step": 0, "train": 50.0}], 100.0, 110.0) == 1


@given(STEPS, st.floats(1, 1e7), st.floats(0, 1e7))
def test_it_is_a_share_that_time_without_work_lowers(
    steps: list[dict[str, float]], passed: float, idle: float
) -> None:
    share = goodput(steps, 0.0, passed)
    assert 0 <= share <= 1
    assert goodput(steps, 0.0, passed + idle) <= share


@given(STEPS, STEPS, st.floats(1, 1e7))
def test_lost_steps_cost_what_they_would_have_given(
    kept: list[dict[str, float]], lost: list[dict[str, float]], passed: float
) -> None:
    assert goodput(kept, 0.0, passed) <= goodput([*kept, *lost], 0.0, passed)
