"""GRPO and SFT losses, token log-probabilities and entropy (rewards.md 6).

Shape suffixes: B samples, T tokens, V vocabulary, N = B * T rows. Masks are 1 (or True) at tokens
that the model generated and 0 at prompts and padding, where any value, even nan, has no effect.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

Normalization = Literal["Sequence", "Token", "Constant"]
Surrogate = Literal["TokenRatio", "SequenceRatio", "ClippedWeight"]
KlEstimator = Literal["K1", "K2", "K3"]

_CHUNK_ELEMENTS = 1 << 24
"""Logits that are upcast at a time: 64 MiB in float32, whatever the batch."""


def grpo_loss(
    logp_BT: Tensor,
    old_logp_BT: Tensor,
    ref_logp_BT: Tensor | None,
    advantages_B: Tensor,
    mask_BT: Tensor,
    clip_low: float,
    clip_high: float,
    kl_coefficient: float,
    normalization: Normalization = "Sequence",
    normalizer: float | None = None,
    *,
    surrogate: Surrogate = "TokenRatio",
    kl_estimator: KlEstimator = "K3",
    correction_BT: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The clipped objective of the GRPO family with a KL penalty, as a loss (rewards.md 6).

    Per token: w * surrogate + kl_coefficient * estimate, where w is ``correction_BT`` (constants
    for the sampler's gap, ``core.offpolicy``; 1 without). The surrogates, with
    rho = exp(logp - old_logp):

    * TokenRatio: -min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A), as GRPO and PPO;
    * SequenceRatio: the same with s = exp(mean over the completion of logp - old_logp) in the place
      of rho (GSPO, arXiv 2507.18071, Eq. 5 to 7);
    * ClippedWeight: -clip(rho, ..) A logp with a constant clip(rho, ..), so that no token loses its
      gradient (CISPO, arXiv 2506.13585, Eq. 4).

    The KL estimates, with d = logp - ref (Schulman, 2020): K1 d, K2 d^2 / 2, K3 exp(-d) + d - 1.
    K1 has the gradient of K2: its own has a mean of zero and would penalise nothing.

    Sequence: the mean over samples of each sample's mean over its tokens. Token: the mean over all
    tokens. Constant: the sum over all tokens, divided by ``normalizer`` (Dr. GRPO, arXiv
    2503.20783). ``normalizer`` replaces the number of samples (Sequence) or tokens (Token) of this
    call by that of the whole step, so that the micro-batches of a step add up to one batch's
    gradient.

    Returns the scalar loss and detached scalars: means over this call's tokens ``kl``, ``ratio``,
    ``clip_ratio``, ``clip_ratio_low`` (A < 0, rho under the range; ClippedWeight: whatever A),
    ``clip_ratio_high`` (A > 0, rho over it), and ``tokens``, their number, to weight micro-batches
    by.
    Raises ValueError for a KL coefficient without reference log-probabilities.
    """
    if kl_coefficient and ref_logp_BT is None:
        raise ValueError("a KL coefficient needs the reference log-probabilities")
    live_BT = mask_BT.bool()
    # where() and not a product: a nan at a padded position would survive a multiplication by 0,
    # and in the gradient even a where() behind the exponential would not stop it.
    log_ratio_BT = torch.where(live_BT, logp_BT - old_logp_BT, 0.0)
    if surrogate == "SequenceRatio":
        mean_B1 = log_ratio_BT.sum(1, keepdim=True) / live_BT.sum(1, keepdim=True).clamp_min(1)
        log_ratio_BT = mean_B1.expand_as(log_ratio_BT)
    ratio_BT = log_ratio_BT.exp()
    clipped_BT = ratio_BT.clamp(1.0 - clip_low, 1.0 + clip_high)
    advantages_B1 = advantages_B.to(logp_BT.dtype).unsqueeze(1)
    if surrogate == "ClippedWeight":
        loss_BT = -clipped_BT.detach() * advantages_B1 * torch.where(live_BT, logp_BT, 0.0)
    else:
        loss_BT = -torch.minimum(ratio_BT * advantages_B1, clipped_BT * advantages_B1)
    if correction_BT is not None:
        loss_BT = loss_BT * torch.where(live_BT, correction_BT, 0.0)
    kl_BT = torch.zeros_like(log_ratio_BT)
    if ref_logp_BT is not None:
        kl_BT = _kl(torch.where(live_BT, logp_BT - ref_logp_BT, 0.0), kl_estimator)
    if kl_coefficient:
        loss_BT = loss_BT + kl_coefficient * kl_BT
    loss = _reduce(loss_BT, live_BT, normalization, normalizer)
    with torch.no_grad():
        always = surrogate == "ClippedWeight"
        low_BT = (ratio_BT < 1.0 - clip_low) & ((advantages_B1 < 0) | always)
        high_BT = (ratio_BT > 1.0 + clip_high) & ((advantages_B1 > 0) | always)
        stats = {
            "kl": _token_mean(kl_BT, live_BT),
            "ratio": _token_mean(ratio_BT, live_BT),
            "clip_ratio": _token_mean(low_BT | high_BT, live_BT),
            "clip_ratio_low": _token_mean(low_BT, live_BT),
            "clip_ratio_high": _token_mean(high_BT, live_BT),
            "tokens": live_BT.sum(),
        }
    return loss, stats


def _kl(away_BT: Tensor, estimator: KlEstimator) -> Tensor:
    """The estimate of ``grpo_loss`` from d = logp - ref."""
    if estimator == "K3":
        return torch.expm1(-away_BT) + away_BT
    half_square_BT = 0.5 * away_BT.square()
    if estimator == "K2":
        return half_square_BT
    return half_square_BT + (away_BT - half_square_BT).detach()


def sft_loss(logp_BT: Tensor, mask_BT: Tensor, normalizer: float | None = None) -> Tensor:
    """Cross-entropy: the mean of -logp over the assistant's tokens (mask 1).

    ``normalizer`` is the number of such tokens in the whole step (all micro-batches and ranks);
    None takes this call's.
    """
    return _reduce(-logp_BT, mask_BT.bool(), "Token", normalizer)


def token_logprobs(logits_BTV: Tensor, targets_BT: Tensor, temperature: float = 1.0) -> Tensor:
    """log softmax(logits / temperature) at the targets, shape (B, T), float32 or wider.

    Differentiable. Neither pass holds a full-precision copy of the logits: a few rows at a time are
    upcast, and the backward pass makes the gradient in the logits' own type.
    Raises ValueError for a temperature that is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    logits_NV = logits_BTV.reshape(-1, logits_BTV.shape[-1])
    logp_N: Tensor = _TokenLogprobs.apply(  # type: ignore[no-untyped-call]
        logits_NV, targets_BT.reshape(-1), 1.0 / temperature
    )
    return logp_N.view(targets_BT.shape)


@torch.no_grad()
def entropy(logits_BTV: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy in nats of softmax(logits / temperature), shape (B, T), float32 or wider.

    No gradient. Raises ValueError for a temperature that is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    logits_NV = logits_BTV.reshape(-1, logits_BTV.shape[-1])
    parts = []
    for chunk_NV in torch.split(logits_NV, _rows(logits_NV)):
        logp_NV = torch.log_softmax(_wide(chunk_NV) / temperature, dim=-1)
        # A logit of -inf has probability 0 and adds 0, not 0 * -inf.
        parts.append(-(logp_NV.exp() * logp_NV.clamp_min(torch.finfo(logp_NV.dtype).min)).sum(-1))
    return torch.cat(parts).view(logits_BTV.shape[:-1])


class _TokenLogprobs(torch.autograd.Function):
    """logits (N, V), targets (N) -> log-probabilities (N), upcasting a few rows at a time."""

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, targets_N: Tensor, scale: float) -> Tensor:
        logp_N = logits_NV.new_empty(len(logits_NV), dtype=_wide_type(logits_NV))
        top_N, lse_N = torch.empty_like(logp_N), torch.empty_like(logp_N)
        rows = _rows(logits_NV)
        for at in range(0, len(logits_NV), rows):
            part = slice(at, at + rows)
            part_NV = _wide(logits_NV[part]) * scale
            # Shifted before anything is subtracted: beside a large logit, log 2 would be lost.
            top_N[part] = part_NV.amax(-1)
            part_NV -= top_N[part, None]
            target_N = part_NV.gather(-1, targets_N[part, None]).squeeze(-1)
            lse_N[part] = part_NV.exp_().sum(-1).log_()
            logp_N[part] = target_N - lse_N[part]
        ctx.save_for_backward(logits_NV, targets_N, top_N, lse_N)
        ctx.scale = scale
        return logp_N

    @staticmethod
    def backward(ctx: Any, grad_N: Tensor) -> tuple[Tensor, None, None]:
        logits_NV, targets_N, top_N, lse_N = ctx.saved_tensors
        grad_NV = torch.empty_like(logits_NV)
        rows = _rows(logits_NV)
        for at in range(0, len(logits_NV), rows):
            part = slice(at, at + rows)
            # d logp / d logits = scale * (onehot(target) - softmax)
            part_NV = _wide(logits_NV[part]) * ctx.scale
            part_NV.sub_(top_N[part, None]).sub_(lse_N[part, None]).exp_().neg_()
            part_NV.scatter_add_(-1, targets_N[part, None], torch.ones_like(part_NV[:, :1]))
            grad_NV[part] = part_NV.mul_(grad_N[part, None] * ctx.scale)
        return grad_NV, None, None


def _reduce(
    loss_BT: Tensor, live_BT: Tensor, normalization: Normalization, normalizer: float | None
) -> Tensor:
    loss_BT = torch.where(live_BT, loss_BT, 0.0)
    tokens_B = live_BT.sum(1)
    if normalization == "Sequence":
        total = (loss_BT.sum(1) / tokens_B.clamp_min(1)).sum()
        count = float(len(loss_BT))
    elif normalization == "Token":
        total = loss_BT.sum()
        count = float(tokens_B.sum())
    else:
        if normalizer is None:
            raise ValueError("the normalization Constant needs the normalizer")
        total, count = loss_BT.sum(), normalizer
    return total / max(count if normalizer is None else normalizer, 1.0)


def _token_mean(values_BT: Tensor, live_BT: Tensor) -> Tensor:
    return torch.where(live_BT, values_BT, 0).sum() / live_BT.sum().clamp_min(1)


def _rows(logits_NV: Tensor) -> int:
    return max(_CHUNK_ELEMENTS // logits_NV.shape[-1], 1)


def _wide_type(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _wide(x: Tensor) -> Tensor:
    return x.to(_wide_type(x))
