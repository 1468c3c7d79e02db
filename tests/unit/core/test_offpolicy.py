"""Weights for the sampler's gap, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from m2r_train.core.offpolicy import Correction, sampler_correction

# Ratios 1.5, 3, 0.5 of the first sample (product 2.25); 0.8, 1 of the second (0.8).
RATIOS = [[1.5, 3.0, 0.5], [0.8, 1.0, 99.0]]
MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])


def corrected(kind: Correction, maximum: float) -> tuple[list[list[float]], dict[str, float]]:
    old = torch.tensor(RATIOS, dtype=torch.float64).log()
    weights, figures = sampler_correction(old, torch.zeros_like(old), MASK, kind, maximum)
    return weights.tolist(), figures


@pytest.mark.parametrize(
    ("kind", "maximum", "first", "second"),
    [
        ("TruncateToken", 2.0, [1.5, 2.0, 0.5], [0.8, 1.0]),
        ("MaskToken", 2.0, [1.5, 0.0, 0.5], [0.8, 1.0]),
        ("TruncateSequence", 2.0, [2.0] * 3, [0.8] * 2),
        ("MaskSequence", 2.0, [0.0] * 3, [0.8] * 2),
        ("MaskSequence", 2.5, [2.25] * 3, [0.8] * 2),
    ],
)
def test_weights_by_hand(
    kind: Correction, maximum: float, first: list[float], second: list[float]
) -> None:
    weights, _ = corrected(kind, maximum)
    assert weights[0] == pytest.approx(first)
    assert weights[1][:2] == pytest.approx(second)


def test_the_raw_ratio_is_told_whatever_is_cut() -> None:
    _, figures = corrected("TruncateToken", 2.0)
    assert figures == pytest.approx(
        {
            "sampler_ratio": (1.5 + 3 + 0.5 + 0.8 + 1) / 5,
            "sampler_ratio_max": 3.0,
            "sampler_ratio_cut": 1 / 5,
        }
    )
    _, figures = corrected("MaskSequence", 2.0)
    assert figures == pytest.approx(
        {
            "sampler_ratio": (3 * 2.25 + 2 * 0.8) / 5,
            "sampler_ratio_max": 2.25,
            "sampler_ratio_cut": 3 / 5,
        }
    )


def test_what_the_engine_did_not_tell_and_padding_count_as_no_gap() -> None:
    old = torch.tensor([[-1.0, -1.0, math.inf]])
    sampled = torch.tensor([[math.nan, -1.0, math.nan]])
    mask = torch.tensor([[1, 1, 0]])
    weights, figures = sampler_correction(old, sampled, mask, "TruncateSequence", 2.0)
    assert weights.tolist() == [[1.0, 1.0, 1.0]]
    assert figures["sampler_ratio_max"] == 1.0
    empty = sampler_correction(old, sampled, torch.zeros_like(mask), "MaskToken", 2.0)[1]
    assert empty == {"sampler_ratio": 1.0, "sampler_ratio_max": 1.0, "sampler_ratio_cut": 0.0}
