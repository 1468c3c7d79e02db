"""Scores with their errors: mean and standard error, MRA, and the paired bootstrap."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from m2r_train.api.errors import DataError
from m2r_train.core.answers import equivalent, extract_answer, parse_number
from m2r_train.core.records import Sample
from m2r_train.core.rng import derive_seed

_MRA_MARGINS = 1.0 - np.linspace(0.5, 0.95, 10)

# Resampled indices held at a time: 32 MiB.
_BOOTSTRAP_ELEMENTS = 1 << 22


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean of n scores; ``stderr`` is None where the scores cannot tell it (n < 2)."""

    value: float
    n: int
    stderr: float | None


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference of two means with its 95 % bootstrap interval and a two-sided p-value."""

    difference: float
    low: float
    high: float
    p: float


def mean_with_stderr(values: Sequence[float]) -> Estimate:
    """Mean and its standard error (sample standard deviation over sqrt n).

    Raises ValueError without values: an absent score is not a score of 0.
    """
    if not values:
        raise ValueError("the mean of no scores is undefined")
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, 1, None)
    variance = math.fsum((v - mean) ** 2 for v in values) / (n - 1)
    return Estimate(mean, n, math.sqrt(variance / n))


def clustered_stderr(values: Sequence[float], clusters: Sequence[Hashable]) -> float | None:
    """Standard error of the mean when scores come in clusters (questions of one scene or seed).

    sqrt(g / (g - 1) * sum_c (sum_{i in c} (v_i - mean))^2) / n for g clusters: Miller,
    arXiv 2411.00640, equation 4, with the small-sample factor; with one score per cluster it is the
    plain standard error. None for fewer than two clusters. Raises ValueError on unequal lengths.
    """
    if len(values) != len(clusters) or not values:
        raise ValueError(f"{len(values)} values but {len(clusters)} cluster labels")
    mean = math.fsum(values) / len(values)
    sums: dict[Hashable, float] = {}
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + (value - mean)
    if len(sums) < 2:
        return None
    between = math.fsum(s * s for s in sums.values()) * len(sums) / (len(sums) - 1)
    return math.sqrt(between) / len(values)


def mean_relative_accuracy(x: float, truth: float) -> float:
    """MRA of VSI-Bench (benchmarks.md section 8): the share of ten thresholds theta = .50 .. .95
    for which the relative error is at most 1 - theta, in float64, ties inside.

    0 for an x that is not finite. Raises ValueError for a truth that is not finite and positive.
    """
    if not 0.0 < truth < math.inf:
        raise ValueError(f"MRA needs a finite positive truth, got {truth}")
    return accuracy_at_error(abs(x - truth) / truth)


def accuracy_at_error(error: float) -> float:
    """The share of MRA's ten margins that a relative error is within; 0 for nan and inf."""
    return int(np.count_nonzero(error <= _MRA_MARGINS)) / 10


def sample_accuracy(sample: Sample, completion: str) -> float:
    """Score 0..1 of a completion in evaluation: MRA for numeric spatial samples, else exact match.

    Raises DataError when a sample that is scored by MRA has no positive number as its answer.
    """
    extracted = extract_answer(completion)
    if sample.reward == "exact":
        right = extracted is not None and equivalent(extracted, sample.answer, sample.answer_type)
        return 1.0 if right else 0.0
    truth = parse_number(sample.answer)
    if truth is None or truth <= 0:
        raise DataError(
            f"sample {sample.id}: answer {sample.answer[:80]!r} is not a positive number, which "
            "relative accuracy needs; correct the answer or set the sample's reward to exact"
        )
    x = None if extracted is None else parse_number(extracted)
    return 0.0 if x is None else mean_relative_accuracy(x, truth)


def paired_bootstrap(
    a_by_question: Mapping[str, float],
    b_by_question: Mapping[str, float],
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """mean(a) - mean(b) over the same questions, with a 95 % percentile interval.

    Questions are resampled. ``p`` is two-sided: twice the smaller share of resamples on the other
    side of 0, counting one more resample so that it is never 0. A pure function of the scores and
    the seed; the order of the mappings does not count. Raises ValueError when the questions differ
    or there are none.
    """
    if a_by_question.keys() != b_by_question.keys() or not a_by_question:
        raise ValueError(
            f"a paired comparison needs the same questions on both sides, got "
            f"{len(a_by_question)} and {len(b_by_question)}, "
            f"{len(a_by_question.keys() & b_by_question.keys())} in common"
        )
    questions = sorted(a_by_question)
    gaps = np.array([a_by_question[q] - b_by_question[q] for q in questions], dtype=np.float64)
    n = len(gaps)
    rng = np.random.Generator(np.random.Philox(key=derive_seed(seed, "paired_bootstrap")))
    rows = max(_BOOTSTRAP_ELEMENTS // n, 1)
    means = np.concatenate(
        [
            gaps[rng.integers(n, size=(min(rows, resamples - done), n))].mean(axis=1)
            for done in range(0, resamples, rows)
        ]
    )
    low, high = np.quantile(means, (0.025, 0.975))
    tail = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    p = min(2.0 * (int(tail) + 1) / (resamples + 1), 1.0)
    return Interval(float(gaps.mean()), float(low), float(high), p)
