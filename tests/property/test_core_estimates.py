"""Laws of figures and their errors, and the coverage of intervals on simulated evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2r_train.core.estimates import Figure, difference, mean, mean_of, mean_of_draws
from m2r_train.core.rng import derive_seed

scores = st.lists(st.floats(0, 1), min_size=2, max_size=30)
pairs = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=30)


def plain(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))


def bare(values: list[float], name: str = "") -> Figure:
    return mean(values, [f"{name}{i}" for i in range(len(values))])


@given(scores)
def test_clusters_of_one_give_the_plain_standard_error(values: list[float]) -> None:
    assert bare(values).stderr == pytest.approx(plain(values), abs=1e-12)


@given(scores, st.integers(1, 4))
def test_copies_change_nothing(values: list[float], times: int) -> None:
    copies = mean(values * times, list(range(len(values))) * times)
    assert copies.value == pytest.approx(bare(values).value)
    assert copies.stderr == pytest.approx(plain(values), abs=1e-9)


@given(scores)
def test_the_interval_holds_the_value_inside_of_0_and_1(values: list[float]) -> None:
    got = bare(values)
    low, high = got.interval() or (None, None)
    assert low is not None and high is not None and got.value is not None
    assert 0.0 <= low <= got.value <= high <= 1.0
    assert low < high


@given(st.lists(scores, min_size=1, max_size=5))
def test_a_macro_mean_of_independent_parts_has_the_error_of_the_delta_method(
    parts: list[list[float]],
) -> None:
    got = mean_of([bare(part, f"{i}-") for i, part in enumerate(parts)])
    assert got.value == pytest.approx(sum(map(np.mean, parts)) / len(parts), abs=1e-12)
    expected = math.sqrt(sum(plain(part) ** 2 for part in parts)) / len(parts)
    assert got.stderr == pytest.approx(expected, abs=1e-9)
    smallest = min(len(part) - 1 for part in parts)
    assert smallest * (1 - 1e-9) <= got.freedom <= sum(len(p) - 1 for p in parts) * (1 + 1e-9)


@given(pairs)
def test_a_paired_difference_of_means_is_the_mean_of_differences(
    values: list[tuple[float, float]],
) -> None:
    a, b = bare([x for x, _ in values]), bare([y for _, y in values])
    there, back = difference(a, b), difference(b, a)
    assert there is not None and back is not None
    gaps = [x - y for x, y in values]
    assert there.value == pytest.approx(np.mean(gaps), abs=1e-9)
    assert there.stderr == pytest.approx(plain(gaps), abs=1e-9)
    assert (back.value, back.stderr, back.p) == (-there.value, there.stderr, there.p)
    assert there.p is not None and 0.0 < there.p <= 1.0


@given(pairs)
def test_two_draws_are_one_answer_of_their_mean_score(values: list[tuple[float, float]]) -> None:
    both = mean_of_draws([bare([x for x, _ in values]), bare([y for _, y in values])])
    means = bare([(x + y) / 2 for x, y in values])
    assert both.stderr == pytest.approx(means.stderr, abs=1e-9)
    assert both.freedom == means.freedom


def independent(rng: np.random.Generator, skill: float) -> Figure:
    """120 questions of their own."""
    return bare(list((rng.random(120) < skill).astype(float)))


def of_seeds(rng: np.random.Generator, skill: float) -> Figure:
    """60 seed questions, each with its own difficulty, with 10 variants each."""
    own = rng.beta(2 * skill, 2 * (1 - skill), 60)
    right = rng.random((60, 10)) < own[:, None]
    return mean(list(right.ravel().astype(float)), [i for i in range(60) for _ in range(10)])


def macro(rng: np.random.Generator, skill: float) -> Figure:
    """Parts of 20, 60 and 150 questions of one skill: tenths, as relative accuracy gives them."""
    parts = [list(rng.binomial(10, skill, size) / 10) for size in (20, 60, 150)]
    return mean_of([bare(part, f"{i}-") for i, part in enumerate(parts)])


def of_scenes(rng: np.random.Generator, skill: float) -> Figure:
    """Three tasks over the same 50 scenes, some of which are harder in all of them."""
    own = rng.beta(3 * skill, 3 * (1 - skill), 50)
    tasks = [(rng.random(50) < own).astype(float) for _ in range(3)]
    return mean_of([mean(list(task), range(50)) for task in tasks])


@pytest.mark.parametrize("skill", [0.5, 0.8, 0.93])
@pytest.mark.parametrize("made", [independent, of_seeds, macro, of_scenes])
def test_the_interval_holds_the_truth_as_often_as_it_says(
    made: Callable[[np.random.Generator, float], Figure], skill: float
) -> None:
    rng = np.random.Generator(np.random.Philox(key=derive_seed(1, made.__name__, str(skill))))
    times, held = 1000, 0
    for _ in range(times):
        low, high = made(rng, skill).interval() or (1.0, 0.0)
        held += low <= skill <= high
    # 0.95, but for chance; 0.92 of 60 seeds nearly all of which are always or never right
    assert 0.915 <= held / times <= 0.975


def test_clusters_that_are_ignored_promise_too_much() -> None:
    """The same seeds and variants, but each answer for itself: the guard of the test above."""
    rng = np.random.Generator(np.random.Philox(key=derive_seed(2, "ignored")))
    held = 0
    for _ in range(300):
        right = (rng.random((60, 10)) < rng.beta(1.6, 0.4, 60)[:, None]).astype(float)
        low, high = bare(list(right.ravel())).interval() or (1.0, 0.0)
        held += low <= 0.8 <= high
    assert held / 300 < 0.75


def test_a_paired_comparison_of_equal_models_is_significant_as_rarely_as_it_says() -> None:
    """Two models of one skill on the same seeds: p < 0.05 in about 5 % of the evaluations."""
    rng = np.random.Generator(np.random.Philox(key=derive_seed(3, "equal")))
    clusters = [i for i in range(50) for _ in range(5)]
    held, found = 0, 0
    for _ in range(1000):
        own = rng.beta(2, 1, 50)[:, None]
        sides = [(rng.random((50, 5)) < own).astype(float).ravel().tolist() for _ in range(2)]
        got = difference(*(mean(side, clusters) for side in sides))
        assert got is not None and got.low is not None and got.high is not None
        assert got.p is not None
        held += got.low <= 0.0 <= got.high
        found += got.p < 0.05
        assert (got.p < 0.05) == (not got.low <= 0.0 <= got.high)
    assert 0.93 <= held / 1000 <= 0.97
    assert held + found == 1000


def test_the_error_of_a_composite_is_that_of_resampling_its_clusters() -> None:
    """A bootstrap over scenes knows nothing of pulls, and says the same."""
    rng = np.random.Generator(np.random.Philox(key=derive_seed(4, "resampled")))
    own = rng.beta(2, 2, 80)
    tasks = (rng.random((3, 80)) < own).astype(float)
    formula = mean_of([mean(list(task), range(80)) for task in tasks]).stderr
    drawn = rng.integers(80, size=(4000, 80))
    resampled = tasks[:, drawn].mean(axis=2).mean(axis=0).std()
    assert formula == pytest.approx(resampled, rel=0.05)
