"""Schedules and the curriculum: rewards.md sections 8 and 9."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from m2r_train.api.errors import DataError
from m2r_train.core.schedules import Curriculum, Order, cosine_kl, kl_coefficient, learning_rate

KL_TABLE = [(0, 0.040000), (250, 0.034289), (500, 0.020500), (750, 0.006711), (1000, 0.001000)]


@pytest.mark.parametrize(("t", "beta"), KL_TABLE)
def test_the_worked_kl_coefficients(t: int, beta: float) -> None:
    assert cosine_kl(t, 1000, 0.04, 0.001) == pytest.approx(beta, abs=5e-7)


def test_the_kl_coefficient_is_clamped_outside_of_the_run() -> None:
    assert cosine_kl(-5, 1000, 0.04, 0.001) == 0.04
    assert cosine_kl(1500, 1000, 0.04, 0.001) == pytest.approx(0.001, abs=1e-15)
    assert cosine_kl(0, 0, 0.04, 0.001) == 0.001


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("Constant", {4: 1.0, 54: 1.0, 104: 1.0}),
        ("Linear", {4: 1.0, 54: 0.55, 104: 0.1, 200: 0.1}),
        ("Cosine", {4: 1.0, 29: 0.1 + 0.45 * (1 + math.sqrt(0.5)), 54: 0.55, 104: 0.1, 200: 0.1}),
    ],
)
def test_the_learning_rate_after_the_warm_up(schedule: str, rates: dict[int, float]) -> None:
    for step, rate in rates.items():
        got = learning_rate(step, 104, 2e-6, 4, schedule, 0.1)  # type: ignore[arg-type]
        assert got == pytest.approx(2e-6 * rate, rel=1e-12)


@pytest.mark.parametrize(
    ("decay_ratio", "rates"),
    [
        (20 / 104, {3: 0.8, 4: 1.0, 83: 1.0, 84: 1.0, 94: 0.55, 104: 0.1, 200: 0.1}),
        (0.0, {4: 1.0, 103: 1.0}),
        (1.0, {4: 1.0, 54: 0.55, 104: 0.1}),  # begins after the warm-up at the earliest
    ],
)
def test_wsd_is_stable_and_decays_at_the_end(decay_ratio: float, rates: dict[int, float]) -> None:
    for step, rate in rates.items():
        got = learning_rate(step, 104, 2e-6, 4, "Wsd", 0.1, decay_ratio)
        assert got == pytest.approx(2e-6 * rate, rel=1e-12), step


def test_a_linear_kl_coefficient_goes_straight_from_start_to_end() -> None:
    straight = [kl_coefficient(t, 4, 0.04, 0.0, "Linear") for t in range(-1, 6)]
    assert straight == pytest.approx([0.04, 0.04, 0.03, 0.02, 0.01, 0.0, 0.0])
    assert kl_coefficient(3, 4, 0.04, 0.0, "Constant") == 0.04
    assert kl_coefficient(3, 4, 0.04, 0.01, "Cosine") == cosine_kl(3, 4, 0.04, 0.01)
    assert kl_coefficient(0, 0, 0.04, 0.01, "Linear") == 0.01


def test_the_warm_up_rises_in_equal_steps_and_wastes_none() -> None:
    rates = [learning_rate(step, 100, 1.0, warmup=4) for step in range(5)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_a_run_that_is_all_warm_up_stays_below_its_base() -> None:
    assert [learning_rate(s, 3, 1.0, warmup=10) < 1.0 for s in range(4)] == [True] * 4


def easy_to_hard(n: int, task: str = "t") -> list[tuple[str, float | None]]:
    """Samples whose number is the order of their difficulty, given in another order."""
    return [(f"{task}{i:03}", i / n) for i in sorted(range(n), key=lambda i: (i * 7) % n)]


def curriculum(tasks: dict[str, list[tuple[str, float | None]]], **changes: object) -> Curriculum:
    return Curriculum(tasks, **{"batch_size": 4, "seed": 7, **changes})  # type: ignore[arg-type]


def ids(*numbers: int) -> list[str]:
    return [f"t{n:03}" for n in numbers]


def test_ascending_starts_with_the_easiest_and_wraps_around() -> None:
    order = curriculum({"t": easy_to_hard(10)})
    assert order.batch(0) == ids(0, 1, 2, 3)
    assert order.batch(2) == ids(8, 9, 0, 1)
    assert order.batch(5) == ids(0, 1, 2, 3)


def test_descending_starts_with_the_hardest() -> None:
    assert curriculum({"t": easy_to_hard(10)}, order="Descending").batch(0) == ids(9, 8, 7, 6)


def test_shuffled_shows_the_same_samples_in_another_order() -> None:
    order = curriculum({"t": easy_to_hard(40)}, order="Shuffled")
    shown = [i for step in range(10) for i in order.batch(step)]
    assert sorted(shown) == ids(*range(40))
    assert shown != sorted(shown)
    again = curriculum({"t": easy_to_hard(40)}, order="Shuffled", seed=8)
    assert [i for step in range(10) for i in again.batch(step)] != shown


def test_ties_follow_the_seed_and_not_the_input() -> None:
    tied: list[tuple[str, float | None]] = [(f"t{i}", 0.5) for i in range(12)]
    first = curriculum({"t": tied}).batch(0)
    assert curriculum({"t": tied[::-1]}).batch(0) == first
    assert first != sorted(first)
    assert curriculum({"t": tied}, seed=8).batch(0) != first


@pytest.mark.parametrize("order", ["Ascending", "Descending"])
def test_unknown_difficulty_comes_last(order: Order) -> None:
    samples: list[tuple[str, float | None]] = [("none", None), ("easy", 0.0), ("hard", 1.0)]
    shown = curriculum({"t": samples}, order=order, batch_size=3).batch(0)
    assert shown[-1] == "none"


THREE = {"a": easy_to_hard(60, "a"), "b": easy_to_hard(25, "b"), "c": easy_to_hard(15, "c")}


def test_a_batch_is_of_one_task_and_each_task_goes_on_where_it_was() -> None:
    order = curriculum(THREE)
    taken = {"a": 0, "b": 0, "c": 0}
    for step in range(60):
        batch = order.batch(step)
        (task,) = {id_[0] for id_ in batch}
        n, at = len(THREE[task]), taken[task]
        assert batch == [f"{task}{(at + i) % n:03}" for i in range(4)]
        taken[task] += 4
    assert min(taken.values()) > 0


@pytest.mark.parametrize("batch_tasks", ["One", "Mixed"])
@pytest.mark.parametrize(
    ("task_sampling", "shares"),
    [("Uniform", (1 / 3, 1 / 3, 1 / 3)), ("Proportional", (0.60, 0.25, 0.15))],
)
def test_tasks_are_drawn_in_their_shares(
    batch_tasks: str, task_sampling: str, shares: tuple[float, ...]
) -> None:
    order = curriculum(THREE, batch_tasks=batch_tasks, task_sampling=task_sampling)
    drawn = Counter(task for step in range(3000) for task, _ in order.batch_with_tasks(step))
    for task, share in zip("abc", shares, strict=True):
        assert drawn[task] / 12_000 == pytest.approx(share, abs=0.04)


def test_mixed_batches_hold_several_tasks_each_in_its_own_order() -> None:
    order = curriculum(THREE, batch_tasks="Mixed")
    shown = [order.batch(step) for step in range(10)]
    assert sum(len({id_[0] for id_ in batch}) > 1 for batch in shown) >= 8
    for task, samples in THREE.items():
        own = [id_ for batch in shown for id_ in batch if id_[0] == task]
        assert own == [f"{task}{i % len(samples):03}" for i in range(len(own))]


@pytest.mark.parametrize("batch_tasks", ["One", "Mixed"])
def test_a_resumed_run_sees_the_same_samples(batch_tasks: str) -> None:
    through = curriculum(THREE, batch_tasks=batch_tasks)
    expected = [through.batch(step) for step in range(50)]
    for start in (49, 17, 0):  # a fresh object each time, as after a restart
        resumed = curriculum(dict(reversed(THREE.items())), batch_tasks=batch_tasks)
        assert [resumed.batch(step) for step in range(start, 50)] == expected[start:]
        assert resumed.batch(3) == expected[3]  # looking back changes nothing


@pytest.mark.parametrize("batch_tasks", ["One", "Mixed"])
def test_the_current_difficulty_is_that_of_the_next_sample(batch_tasks: str) -> None:
    order = curriculum(THREE, batch_tasks=batch_tasks)
    seen: Counter[str] = Counter()
    for step in range(30):
        for task, samples in THREE.items():
            expected = (seen[task] % len(samples)) / len(samples)
            assert order.current_difficulty(task, step) == expected
        seen.update(task for task, _ in order.batch_with_tasks(step))


def test_a_batch_can_be_larger_than_its_task() -> None:
    assert curriculum({"t": easy_to_hard(3)}, batch_size=7).batch(0) == ids(0, 1, 2, 0, 1, 2, 0)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({}, "no samples; check its split"),
        ({"t": []}, "task t has no samples"),
        ({"t": [("x", 0.1), ("x", 0.2)]}, "task t has an id twice"),
        ({"t": [("x", 1.5)]}, r"sample x: difficulty must be in 0\.\.1"),
        ({"t": [("x", math.nan)]}, r"sample x: difficulty must be in 0\.\.1"),
    ],
)
def test_bad_data_is_refused(
    tasks: dict[str, list[tuple[str, float | None]]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        curriculum(tasks)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="one sample or more"):
        curriculum(THREE, batch_size=0)
