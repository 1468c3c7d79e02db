"""The score of one answer: exact match, or mean relative accuracy (MRA)."""

from __future__ import annotations

import math

import numpy as np

from m2r_train.api.errors import DataError
from m2r_train.core.answers import equivalent
from m2r_train.core.contract import extract_answer
from m2r_train.core.numerals import parse_number
from m2r_train.core.records import Sample

_MRA_MARGINS = 1.0 - np.linspace(0.5, 0.95, 10)


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
