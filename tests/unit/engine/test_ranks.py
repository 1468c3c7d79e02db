"""Which rank a process is, and how work is shared among ranks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2r_train.api.errors import ConfigError
from m2r_train.engine.ranks import ALONE, Ranks, Seat, seat_here, shares

TOLD = {"WORLD_SIZE": "4", "MASTER_ADDR": "first", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("environment", "seat"),
    [
        ({}, None),
        ({"RANK": ""}, None),
        ({**TOLD, "RANK": "0", "LOCAL_RANK": "0"}, Seat(0, 4, 0)),
        ({**TOLD, "RANK": "3", "LOCAL_RANK": "1"}, Seat(3, 4, 1)),
    ],
)
def test_a_seat_is_as_torchrun_tells_it(environment: dict[str, str], seat: Seat | None) -> None:
    assert seat_here(environment) == seat


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({"RANK": "1"}, "without WORLD_SIZE, MASTER_ADDR, MASTER_PORT"),
        ({**TOLD, "RANK": "4"}, "below WORLD_SIZE"),
        ({**TOLD, "RANK": "-1"}, "below WORLD_SIZE"),
        ({**TOLD, "RANK": "one"}, "must be numbers"),
    ],
)
def test_half_a_seat_is_refused(environment: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        seat_here(environment)


def test_one_process_agrees_with_itself() -> None:
    assert ALONE.leads and ALONE.owns(7)
    assert ALONE.share([1.5, None]) == [1.5, None]
    assert ALONE.gather("x") == ["x"]
    assert ALONE.share_bytes(b"y") == b"y"
    assert not Ranks(Seat(1, 2, 1)).leads


@given(st.lists(st.integers(1, 1000), max_size=60), st.integers(1, 9))
def test_every_item_is_one_ranks_share_and_the_shares_are_close(
    weights: list[int], size: int
) -> None:
    """No rank has more than the mean and one item."""
    given = shares(weights, size)
    assert len(given) == size
    assert sorted(i for own in given for i in own) == list(range(len(weights)))
    assert all(own == sorted(own) for own in given)
    loads = [sum(weights[i] for i in own) for own in given]
    heaviest = max(weights, default=0)
    assert max(loads) - min(loads) <= heaviest
    assert max(loads) <= sum(weights) / size + heaviest
