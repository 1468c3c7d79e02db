"""Who speaks for the ranks of a node when they have ended."""

from __future__ import annotations

import signal

import pytest

from m2r_train.launching import End, weightiest


@pytest.mark.parametrize(
    ("codes", "speaks"),
    [
        ([0, 0], 0),
        ([1, 0], 0),  # rank 1, seen first, fell over a run that is done
        ([75, 75], 75),
        ([1, 75], 75),  # the state is saved, whatever befell the others then
        ([75, 76], 76),
        ([1, 65], 65),
        ([65, 64], 64),
        ([1, 78], 78),
        ([1, 79], 79),
        ([-signal.SIGKILL, 1], -signal.SIGKILL),  # the first crash is the cause of the second
        ([1, -signal.SIGKILL], 1),
        ([74, 1], 1),  # who has lost the others is no cause
        ([74, -signal.SIGKILL], -signal.SIGKILL),
        ([74, 74], 74),
    ],
)
def test_an_exit_code_with_a_meaning_wins_over_a_crash_that_it_has_caused(
    codes: list[int], speaks: int
) -> None:
    """Told in the order in which the ranks ended, the last of which is rank 0."""
    ranks = range(len(codes) - 1, -1, -1)
    ends = [End(r, code, float(at)) for at, (r, code) in enumerate(zip(ranks, codes, strict=True))]
    assert weightiest(ends).code == speaks


def test_without_rank_0_all_of_a_node_have_to_end_well() -> None:
    assert weightiest([End(2, 0, 1.0), End(3, 1, 2.0)]).code == 1
    assert weightiest([End(2, 0, 1.0), End(3, 0, 2.0)]).code == 0


@pytest.mark.parametrize(("code", "status"), [(0, 0), (75, 75), (-signal.SIGKILL, 137)])
def test_a_signal_is_reported_as_a_shell_does(code: int, status: int) -> None:
    assert End(0, code).status == status
