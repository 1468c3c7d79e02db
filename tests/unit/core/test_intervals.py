"""How often to save."""

from __future__ import annotations

import math

import pytest

from m2r_train.core.intervals import daly, give_up, steps_between_saves


def expected_loss(interval: float, cost: float, between: float) -> float:
    """Seconds needed for a second of work, disruptions at random (Daly, 2006, equation 20)."""
    return between * (math.exp((interval + cost) / between) - 1) / interval


@pytest.mark.parametrize("cost", [0.1, 1.0, 30.0, 300.0])
@pytest.mark.parametrize("between", [600.0, 3600.0, 86400.0])
def test_no_other_interval_is_better_by_a_hundredth(cost: float, between: float) -> None:
    others = (between * 1.02**k for k in range(-700, 200))
    best = min(expected_loss(interval, cost, between) for interval in others)
    assert expected_loss(daly(cost, between), cost, between) <= 1.01 * best


def test_saves_dearer_than_the_time_between_disruptions_come_once_in_it() -> None:
    assert daly(cost=10.0, between=4.0) == 4.0


@pytest.mark.parametrize(
    ("step", "blocking", "upload", "most", "steps"),
    [
        (10.0, 0.5, 5.0, 1000, 6),  # 59.8 s by Daly
        (10.0, 0.5, 200.0, 1000, 20),  # not before the last one is stored
        (10.0, 0.5, 5.0, 4, 4),
        (1000.0, 0.5, 5.0, 1000, 1),
        (0.0, 0.5, 5.0, 50, 50),
        (10.0, 0.0, 0.0, 50, 1),  # free of cost
    ],
)
def test_steps_between_saves(
    step: float, blocking: float, upload: float, most: int, steps: int
) -> None:
    assert (
        steps_between_saves(step=step, blocking=blocking, upload=upload, between=3600.0, most=most)
        == steps
    )


@pytest.mark.parametrize(
    ("left", "rest", "whole", "verdict"),
    [
        (100.0, 10.0, 50.0, False),  # both fit
        (100.0, 60.0, 60.0, True),  # the newest alone does
        (100.0, 30.0, 80.0, False),  # the newest might not: keep what is nearly there
        (10.0, 30.0, 80.0, False),  # neither does
    ],
)
def test_a_save_on_its_way_makes_room_only_where_the_newest_surely_fits(
    left: float, rest: float, whole: float, verdict: bool
) -> None:
    assert give_up(left, rest, whole) is verdict
