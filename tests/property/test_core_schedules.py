"""Laws of the schedules: bounded, monotone, and pure functions of the step."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from m2r_train.core.schedules import Curriculum, cosine_kl, learning_rate

coefficients = st.floats(0, 1)


@given(st.integers(-10, 2000), st.integers(1, 1000), coefficients, coefficients)
def test_the_kl_coefficient_goes_one_way_between_its_ends(
    t: int, T: int, start: float, end: float
) -> None:
    now, then = cosine_kl(t, T, start, end), cosine_kl(t + 1, T, start, end)
    low, high = min(start, end), max(start, end)
    assert low - 1e-12 <= now <= high + 1e-12
    assert (then - now) * (end - start) >= -1e-15


@given(
    st.integers(0, 300),
    st.integers(1, 200),
    st.integers(0, 50),
    st.sampled_from(["Constant", "Linear", "Cosine", "Wsd"]),
    st.floats(0, 1),
)
def test_the_learning_rate_rises_in_the_warm_up_and_never_after(
    step: int, total: int, warmup: int, schedule: str, min_ratio: float
) -> None:
    now, then = (
        learning_rate(s, total, 1e-3, warmup, schedule, min_ratio)  # type: ignore[arg-type]
        for s in (step, step + 1)
    )
    assert 0.0 <= now <= 1e-3 * (1 + 1e-12)
    assert then > now if step < warmup else then <= now + 1e-18
    if step >= warmup:
        assert now >= 1e-3 * min_ratio * (1 - 1e-12)


difficulties = st.one_of(st.none(), st.floats(0, 1))
task_sets = st.dictionaries(
    st.sampled_from(["RoomSize", "ObjectCount", "maths", "Depth"]),
    st.lists(difficulties, min_size=1, max_size=12),
    min_size=1,
)


@settings(max_examples=60)
@given(
    task_sets,
    st.integers(1, 9),
    st.integers(0, 2**62),
    st.sampled_from(["Ascending", "Shuffled", "Descending"]),
    st.sampled_from(["Uniform", "Proportional"]),
    st.sampled_from(["One", "Mixed"]),
    st.lists(st.integers(0, 25), min_size=1, max_size=8),
)
def test_a_batch_depends_on_seed_and_step_alone_and_no_sample_is_favoured(
    tasks: dict[str, list[float | None]],
    batch_size: int,
    seed: int,
    order: str,
    sampling: str,
    batch_tasks: str,
    visits: list[int],
) -> None:
    samples = {
        task: [(f"{task}-{i}", d) for i, d in enumerate(values)] for task, values in tasks.items()
    }

    def fresh() -> Curriculum:
        return Curriculum(
            samples,
            batch_size=batch_size,
            seed=seed,
            order=order,  # type: ignore[arg-type]
            task_sampling=sampling,  # type: ignore[arg-type]
            batch_tasks=batch_tasks,  # type: ignore[arg-type]
        )

    through = fresh()
    batches = [through.batch_with_tasks(step) for step in range(26)]
    jumping = fresh()
    for step in visits:
        assert jumping.batch_with_tasks(step) == batches[step]
        assert fresh().batch(step) == [id_ for _, id_ in batches[step]]
    shown = Counter(id_ for batch in batches for _, id_ in batch)
    for values in samples.values():
        counts = [shown[id_] for id_, _ in values]
        assert max(counts) - min(counts) <= 1  # each pass shows every sample once
    if order == "Ascending":
        for task, values in samples.items():
            first_pass = [id_ for batch in batches for t, id_ in batch if t == task][: len(values)]
            known = [d for d in (dict(values)[id_] for id_ in first_pass) if d is not None]
            assert known == sorted(known)
