"""Penalties beside the task's reward, by hand."""

from __future__ import annotations

import pytest

from m2r_train.core.shaping import OFF, Shaping, overlong, repeated_share, shaping_reward


@pytest.mark.parametrize(
    ("length", "punishment"), [(0, 0.0), (80, 0.0), (85, -0.25), (90, -0.5), (100, -1.0), (120, -1)]
)
def test_overlong_completions_lose_evenly_within_the_buffer(length: int, punishment: float) -> None:
    assert overlong(length, 100, 20) == pytest.approx(punishment)
    shaping = Shaping(max_tokens=100, buffer_tokens=20, overlong_penalty=0.5)
    assert shaping_reward(range(length), shaping) == pytest.approx(punishment / 2)


@pytest.mark.parametrize(("length", "lost"), [(0, 0.4), (5, 0.2), (10, 0.0), (50, 0.0)])
def test_short_completions_lose_by_what_they_lack(length: int, lost: float) -> None:
    shaping = Shaping(min_tokens=10, short_penalty=0.4)
    assert shaping_reward(range(length), shaping) == pytest.approx(-lost)


@pytest.mark.parametrize(
    ("tokens", "ngram", "share"),
    [
        ([1, 2, 3, 4], 2, 0.0),
        ([5, 5, 5, 5, 5], 2, 0.75),
        ([1, 2, 1, 2, 1, 2], 2, 0.6),  # 12 21 12 21 12
        ([1, 2], 3, 0.0),
        ([], 1, 0.0),
    ],
)
def test_the_share_of_repeated_ngrams(tokens: list[int], ngram: int, share: float) -> None:
    assert repeated_share(tokens, ngram) == pytest.approx(share)


def test_repetition_costs_what_is_above_the_tolerance() -> None:
    shaping = Shaping(ngram=2, tolerance=0.5, repetition_penalty=2.0)
    assert shaping_reward([5, 5, 5, 5, 5], shaping) == pytest.approx(-2.0 * 0.25 / 0.5)
    assert shaping_reward([1, 2, 1, 2, 3], shaping) == 0.0
    assert shaping_reward([7] * 9, Shaping(ngram=1, tolerance=1.0, repetition_penalty=1.0)) == 0.0


def test_parts_add_up_and_nothing_is_on_by_itself() -> None:
    assert not OFF.is_on
    assert not Shaping(max_tokens=9).is_on
    both = Shaping(max_tokens=10, buffer_tokens=5, ngram=1, tolerance=0.0, repetition_penalty=1.0)
    assert both.is_on
    assert shaping_reward([1] * 10, both) == pytest.approx(-1.0 - 0.9)
