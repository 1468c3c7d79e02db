"""The members of the GRPO family against their papers' formulas, in loops over plain numbers."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor
from unit.core.test_losses import random_batch

from m2r_train.core.losses import KlEstimator, Normalization, Surrogate, grpo_loss

LIMIT = 12  # the constant normaliser's tokens a completion


def terms(
    batch: tuple[Tensor, ...],
    surrogate: Surrogate,
    estimator: KlEstimator,
    low: float,
    high: float,
    beta: float,
    correction: Tensor | None,
) -> list[list[Tensor]]:
    """-loss of every live token, sample by sample."""
    logp, old, ref, advantages, mask = batch
    out = []
    for i in range(len(logp)):
        live = [t for t in range(logp.shape[1]) if mask[i, t]]
        away = [logp[i, t] - old[i, t] for t in live]
        row = []
        for t in live:
            rho = (logp[i, t] - old[i, t]).exp()
            if surrogate == "SequenceRatio":
                rho = (sum(away) / len(away)).exp()  # type: ignore[union-attr]
            clipped = rho.clamp(1 - low, 1 + high)
            gain = min(rho * advantages[i], clipped * advantages[i])
            if surrogate == "ClippedWeight":
                gain = clipped.item() * advantages[i] * logp[i, t]
            if correction is not None:
                gain = gain * correction[i, t]
            d = logp[i, t] - ref[i, t]
            if estimator == "K1":  # the value of k1, the gradient of k2
                cost = d.item() + d * d / 2 - (d * d / 2).item()
            else:
                cost = d * d / 2 if estimator == "K2" else (-d).exp() + d - 1
            row.append(gain - beta * cost)
        out.append(row)
    return out


def reduced(rows: list[list[Tensor]], normalization: Normalization) -> Tensor:
    if normalization == "Sequence":
        return -sum(sum(row) / len(row) for row in rows) / len(rows)  # type: ignore
    flat = [term for row in rows for term in row]
    return -sum(flat) / (len(flat) if normalization == "Token" else LIMIT * len(rows))  # type: ignore


@pytest.mark.parametrize(
    ("surrogate", "normalization", "estimator", "low", "high"),
    [
        ("TokenRatio", "Constant", "K3", 0.2, 0.2),  # Dr. GRPO
        ("TokenRatio", "Token", "K3", 0.2, 0.28),  # DAPO
        ("SequenceRatio", "Sequence", "K3", 0.02, 0.03),  # GSPO
        ("ClippedWeight", "Token", "K3", 1.0, 0.3),  # CISPO
        ("ClippedWeight", "Token", "K1", 0.1, 0.1),
        ("SequenceRatio", "Token", "K2", 0.02, 0.02),
    ],
)
@pytest.mark.parametrize("correct", [False, True])
@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_loss_and_gradient_equal_the_formula(
    surrogate: Surrogate,
    normalization: Normalization,
    estimator: KlEstimator,
    low: float,
    high: float,
    correct: bool,
    beta: float,
) -> None:
    batch = random_batch()
    correction = 2 * torch.rand(6, 9, generator=torch.Generator().manual_seed(3)).double()
    chosen = correction if correct else None
    expected = reduced(terms(batch, surrogate, estimator, low, high, beta, chosen), normalization)
    normalizer = float(LIMIT * 6) if normalization == "Constant" else None
    loss, stats = grpo_loss(
        *batch,
        low,
        high,
        beta,
        normalization,
        normalizer,
        surrogate=surrogate,
        kl_estimator=estimator,
        correction_BT=chosen,
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    (ours,) = torch.autograd.grad(loss, batch[0])
    (theirs,) = torch.autograd.grad(expected, batch[0])
    torch.testing.assert_close(ours, theirs)
    assert 0 < stats["clip_ratio"] < 1, "some must be clipped and some not"


@pytest.mark.parametrize(
    ("d", "k1", "k2", "k3"), [(0.5, 0.5, 0.125, 0.106531), (-0.5, -0.5, 0.125, 0.148721)]
)
def test_the_estimates_by_hand(d: float, k1: float, k2: float, k3: float) -> None:
    logp = torch.tensor([[d]], dtype=torch.float64)
    for estimator, value in (("K1", k1), ("K2", k2), ("K3", k3)):
        loss, stats = grpo_loss(
            logp,
            logp,
            torch.zeros_like(logp),
            torch.zeros(1),
            torch.ones_like(logp),
            0.2,
            0.2,
            1.0,
            kl_estimator=estimator,  # type: ignore[arg-type]
        )
        assert loss.item() == pytest.approx(value, abs=1e-6)
        assert stats["kl"].item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("surrogate", "estimator"),
    product(["TokenRatio", "SequenceRatio", "ClippedWeight"], ["K1", "K2", "K3"]),
)
@pytest.mark.parametrize("junk", [math.nan, math.inf, 1e30])
def test_padding_has_no_effect_whatever_it_holds(
    surrogate: Surrogate, estimator: KlEstimator, junk: float
) -> None:
    batch = random_batch()
    mask = batch[4]
    weights = torch.ones_like(batch[1])
    results = []
    for fill in (0.0, junk):
        dirty = [torch.where(mask, x.detach(), fill) for x in (*batch[:3], weights)]
        dirty[0].requires_grad_()
        loss, stats = grpo_loss(
            *dirty[:3],
            batch[3],
            mask,
            0.2,
            0.2,
            0.04,
            surrogate=surrogate,
            kl_estimator=estimator,
            correction_BT=dirty[3],
        )
        (gradient,) = torch.autograd.grad(loss, dirty[0])
        results.append((loss, gradient, stats))
    torch.testing.assert_close(results[1], results[0])


def test_a_constant_normalizer_must_be_given() -> None:
    with pytest.raises(ValueError, match="Constant"):
        grpo_loss(*random_batch(), 0.2, 0.2, 0.0, "Constant")


def test_a_weight_is_clipped_whatever_the_advantage_and_keeps_its_gradient() -> None:
    log_ratio = torch.tensor([[math.log(3.0)], [math.log(3.0)]], requires_grad=True)
    zeros = torch.zeros(2, 1)
    loss, stats = grpo_loss(
        log_ratio,
        zeros,
        None,
        torch.tensor([1.0, -1.0]),
        torch.ones(2, 1),
        1.0,
        1.0,
        0.0,
        "Token",
        surrogate="ClippedWeight",
    )
    loss.backward()
    assert stats["clip_ratio_high"] == 1.0
    assert log_ratio.grad is not None
    torch.testing.assert_close(log_ratio.grad, torch.tensor([[-1.0], [1.0]]))  # -2 A / 2 tokens
