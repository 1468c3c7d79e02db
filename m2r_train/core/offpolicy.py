"""The gap between sampler and trainer: importance weights of what another engine drew.

A rollout engine with other kernels or another precision draws from a distribution that is not quite
the trainer's, and its samples pull the policy where its errors lie. Weighting each token by
pi_trainer / pi_sampler puts that right; weights above ``maximum`` are cut down to it (Truncate: a
little bias for a bounded variance) or away (Mask) (Yao et al., 2025, "Your efficient RL framework
secretly brings you off-policy RL training").

Shapes: B samples, T tokens.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Correction = Literal["TruncateToken", "MaskToken", "TruncateSequence", "MaskSequence"]


@torch.no_grad()
def sampler_correction(
    old_logp_BT: Tensor, sampled_logp_BT: Tensor, mask_BT: Tensor, kind: Correction, maximum: float
) -> tuple[Tensor, dict[str, float]]:
    """Weights (B, T), and figures about the raw ratio, before anything was cut.

    The ratio is exp(old - sampled) of each token, or (Sequence) of the completion's sum.
    The figures are over tokens with mask 1: ``sampler_ratio`` its mean, ``sampler_ratio_max``,
    ``sampler_ratio_cut`` the share above ``maximum``. A sampled log-probability that is nan (the
    engine did not tell) counts as no gap.
    """
    live_BT = mask_BT.bool()
    gap_BT = torch.where(live_BT, old_logp_BT - sampled_logp_BT, 0.0).nan_to_num(nan=0.0)
    if kind in ("TruncateSequence", "MaskSequence"):
        gap_BT = gap_BT.sum(1, keepdim=True).expand_as(gap_BT)
    ratio_BT = gap_BT.exp()
    over_BT = ratio_BT > maximum
    if kind in ("TruncateToken", "TruncateSequence"):
        weights_BT = ratio_BT.clamp(max=maximum)
    else:
        weights_BT = torch.where(over_BT, 0.0, ratio_BT)
    ratios = ratio_BT[live_BT]
    figures = {
        "sampler_ratio": float(ratios.mean()) if len(ratios) else 1.0,
        "sampler_ratio_max": float(ratios.max()) if len(ratios) else 1.0,
        "sampler_ratio_cut": float(over_BT[live_BT].float().mean()) if len(ratios) else 0.0,
    }
    return weights_BT, figures
