"""Our losses, corrections and penalties against TRL's own code, on fixed tensors.

    python bench/bench_losses.py

Calls ``GRPOTrainer._compute_loss`` on log-probabilities that we hand it, for each loss that both
know, and compares loss and gradient with ours; likewise the rewards of ``trl.rewards``. Prints
Markdown and fails on a difference. Differences that are known and meant are stated in the table:
TRL's ``cispo`` takes the upper bound itself, not 1 + bound, and TRL's KL is weighed by the policy
ratio unless told otherwise.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from m2r_train.core.losses import grpo_loss
from m2r_train.core.offpolicy import sampler_correction
from m2r_train.core.shaping import overlong, repeated_share

B, T, LIMIT = 6, 9, 12
TOLERANCE = 1e-12

# ours: surrogate, normalization, clip (low, high); TRL's: loss_type, level, epsilons
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Grpo": (
        {"surrogate": "TokenRatio", "normalization": "Sequence", "clip": (0.2, 0.2)},
        {"loss_type": "grpo", "level": "token", "epsilon": (0.2, 0.2)},
    ),
    "DrGrpo": (
        {"surrogate": "TokenRatio", "normalization": "Constant", "clip": (0.2, 0.2)},
        {"loss_type": "dr_grpo", "level": "token", "epsilon": (0.2, 0.2)},
    ),
    "Dapo": (
        {"surrogate": "TokenRatio", "normalization": "Token", "clip": (0.2, 0.28)},
        {"loss_type": "dapo", "level": "token", "epsilon": (0.2, 0.28)},
    ),
    "Gspo": (
        {"surrogate": "SequenceRatio", "normalization": "Sequence", "clip": (0.02, 0.03)},
        {"loss_type": "grpo", "level": "sequence", "epsilon": (0.02, 0.03)},
    ),
    "Cispo": (
        {"surrogate": "ClippedWeight", "normalization": "Token", "clip": (1.0, 0.3)},
        {"loss_type": "cispo", "level": "token", "epsilon": (0.2, 1.3)},
    ),
}
CORRECTIONS = {
    None: None,
    "TruncateToken": "token_truncate",
    "MaskToken": "token_mask",
    "TruncateSequence": "sequence_truncate",
    "MaskSequence": "sequence_mask",
}
MAXIMUM = 1.2


def main() -> int:
    print(
        f"TRL {version('trl')}, torch {torch.__version__}, float64, {B} completions of 1 to {T}\n"
    )
    print("| loss | correction | KL | ours | TRL's | largest difference of the gradients |")
    print("|---|---|---|---|---|---|")
    worst = 0.0
    for name, (ours, theirs) in CASES.items():
        for correction, mode in CORRECTIONS.items():
            for beta in (0.0, 0.04):
                one, gradient = our_loss(ours, correction, beta)
                other, expected = trl_loss(theirs, mode, beta)
                apart = float((gradient - expected).abs().max())
                worst = max(worst, apart, abs(one - other))
                print(
                    f"| {name} | {correction} | {beta} | {one:.12f} | {other:.12f} | {apart:.1e} |"
                )
    worst = max(worst, penalties())
    print(f"\nlargest difference of all: {worst:.1e}, allowed {TOLERANCE:.0e}")
    return int(worst > TOLERANCE)


def batch() -> dict[str, Tensor]:
    """Ratios on both sides of every bound, lengths from 1 to T."""
    g = torch.Generator().manual_seed(0)

    def noise(scale: float) -> Tensor:
        return scale * torch.randn(B, T, generator=g, dtype=torch.float64)

    old = -3 * torch.rand(B, T, generator=g, dtype=torch.float64)
    lengths = torch.randint(1, T + 1, (B,), generator=g)
    return {
        "old": old,
        "logp": (old + noise(0.4)).requires_grad_(),
        "ref": old + noise(0.4),
        "sampled": old + noise(0.2),
        "advantages": torch.randn(B, generator=g, dtype=torch.float64),
        "mask": (torch.arange(T)[None] < lengths[:, None]).long(),
    }


def our_loss(case: dict[str, Any], correction: Any, beta: float) -> tuple[float, Tensor]:
    given = batch()
    weights = None
    if correction is not None:
        weights, _ = sampler_correction(
            given["old"], given["sampled"], given["mask"], correction, MAXIMUM
        )
    loss, _ = grpo_loss(
        given["logp"],
        given["old"],
        given["ref"],
        given["advantages"],
        given["mask"],
        case["clip"][0],
        case["clip"][1],
        beta,
        case["normalization"],
        float(B * LIMIT) if case["normalization"] == "Constant" else None,
        surrogate=case["surrogate"],
        correction_BT=weights,
    )
    (gradient,) = torch.autograd.grad(loss, given["logp"])
    return loss.item(), gradient


def trl_loss(case: dict[str, Any], mode: str | None, beta: float) -> tuple[float, Tensor]:
    """TRL's ``_compute_loss`` on a trainer that is nothing but the settings that it reads."""
    from trl import GRPOTrainer

    given = batch()
    inputs = {
        "prompt_ids": torch.zeros(B, 1, dtype=torch.long),
        "prompt_mask": torch.ones(B, 1, dtype=torch.long),
        "completion_ids": torch.zeros(B, T, dtype=torch.long),
        "completion_mask": given["mask"],
        "advantages": given["advantages"],
        "old_per_token_logps": given["old"],
        "ref_per_token_logps": given["ref"],
        "num_items_in_batch": given["mask"].sum(),
    }
    if mode is not None:
        inputs["importance_sampling_ratio"] = trl_ratio(given, mode)
    same = SimpleNamespace(gather=lambda x: x, reduce=lambda x, **_: x, num_processes=1)
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (
            given["logp"],
            torch.zeros(B, T, dtype=torch.float64),
            None,
        ),
        loss_type=case["loss_type"],
        importance_sampling_level=case["level"],
        epsilon_low=case["epsilon"][0],
        epsilon_high=case["epsilon"][1],
        beta=beta,
        max_completion_length=LIMIT,
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        model=SimpleNamespace(training=True),
        accelerator=same,
        current_gradient_accumulation_steps=1,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        aux_loss_enabled=False,
        use_vllm=mode is not None,
        vllm_importance_sampling_correction=mode is not None,
        _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list), "eval": defaultdict(list)},
    )
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    (gradient,) = torch.autograd.grad(loss, given["logp"])
    return loss.item(), gradient


def trl_ratio(given: dict[str, Tensor], mode: str) -> Tensor:
    """As ``GRPOTrainer._generate_and_score_completions`` has it, which cannot be called alone."""
    away = (given["old"] - given["sampled"]) * given["mask"]
    ratio = torch.exp(away.sum(-1, keepdim=True) if "sequence" in mode else away)
    if "truncate" in mode:
        return torch.clamp(ratio, max=MAXIMUM)
    return ratio.masked_fill(ratio > MAXIMUM, 0.0)


def penalties() -> float:
    """Overlong and repetition penalties against ``trl.rewards``; the largest difference."""
    from trl.rewards import get_repetition_penalty_reward, get_soft_overlong_punishment

    lengths = [0, 1, 79, 80, 81, 90, 99, 100, 120]
    theirs = get_soft_overlong_punishment(100, 20)([[0] * n for n in lengths])
    worst = max(abs(overlong(n, 100, 20) - t) for n, t in zip(lengths, theirs, strict=True))
    g = torch.Generator().manual_seed(1)
    texts = [torch.randint(4, (n,), generator=g).tolist() for n in (0, 1, 2, 3, 9, 40, 200)]
    for ngram in (1, 2, 3, 5):
        theirs = get_repetition_penalty_reward(ngram, -1.0)(texts)
        ours = [-repeated_share(text, ngram) for text in texts]
        worst = max(worst, *(abs(a - b) for a, b in zip(ours, theirs, strict=True)))
    print(f"\npenalties for length and repetition: largest difference {worst:.1e}")
    return worst


if __name__ == "__main__":
    sys.exit(main())
