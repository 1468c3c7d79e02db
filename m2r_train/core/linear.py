"""Log-probabilities straight from hidden states: the logits of all tokens never stand in memory.

A vocabulary of 152k makes the logits of 8k tokens 5 GB in float32, and a plain softmax with its
gradient holds three such arrays. Here the head's product is made in tiles of some tokens by some
of the vocabulary; the forward pass keeps a running maximum and sum (Milakov and Gimelshein,
arXiv 1805.02867), the backward pass makes each tile again. A tile of the vocabulary is finished
for all tokens before the next, so the weight's gradient is summed in float32 and never held twice.

Shapes: N tokens, D hidden size, V vocabulary; R tokens and C vocabulary entries of a tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from m2r_train.core.losses import entropy, token_logprobs

_WHOLE_ELEMENTS = 1 << 23
"""Logits that are made at once: below 32 MiB in float32 the product is cheaper kept than made
again."""

_TILE_ELEMENTS = 1 << 22
"""Logits of a tile: 16 MiB in float32, near the caches, and products large enough to be fast."""

_TILE_TOKENS = 4096


def linear_logprobs(
    states_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    temperature: float = 1.0,
    *,
    entropies: bool = True,
) -> tuple[Tensor, Tensor]:
    """(log-probabilities, entropies) of softmax(states @ weight^T / temperature) at the targets.

    Both (N), float32 or wider; the entropy in nats has no gradient, and is zero where nobody asks
    for ``entropies``. The gradient of the log-probabilities goes to the states and to the weight,
    to either only where it is asked for. Products are made in the inputs' type, everything else in
    float32; two calls give equal bits.
    Raises ValueError for a temperature that is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    if len(states_ND) * len(weight_VD) <= _WHOLE_ELEMENTS:
        logits_1NV = functional.linear(states_ND, weight_VD)[None]
        logp_1N = token_logprobs(logits_1NV, targets_N[None], temperature)
        if not entropies:
            return logp_1N[0], torch.zeros_like(logp_1N[0], requires_grad=False)
        return logp_1N[0], entropy(logits_1NV.detach(), temperature)[0]
    logp_N, entropy_N = _LinearLogprobs.apply(  # type: ignore[no-untyped-call]
        states_ND, weight_VD, targets_N, 1.0 / temperature, entropies
    )
    return logp_N, entropy_N


class _LinearLogprobs(torch.autograd.Function):
    """states (N, D), weight (V, D), targets (N) -> log-probabilities (N), entropies (N)."""

    @staticmethod
    def forward(
        ctx: Any,
        states_ND: Tensor,
        weight_VD: Tensor,
        targets_N: Tensor,
        scale: float,
        entropies: bool,
    ) -> tuple[Tensor, Tensor]:
        top_N = _wide_like(states_ND, len(states_ND)).fill_(-torch.inf)
        sum_N = torch.zeros_like(top_N)  # of exp(x - top)
        dot_N = torch.zeros_like(top_N)  # of (x - top) exp(x - top)
        target_N = torch.zeros_like(top_N)
        for columns in _spans(len(weight_VD), _columns(len(states_ND))):
            for rows in _spans(len(states_ND), _TILE_TOKENS):
                tile_RC = _tile(states_ND[rows], weight_VD[columns], scale)
                at_R, here_R = _at(targets_N[rows], columns)
                found_R = tile_RC.gather(1, at_R[:, None])[:, 0]
                target_N[rows] = torch.where(here_R, found_R, target_N[rows])
                top_R = torch.maximum(top_N[rows], tile_RC.amax(1))
                _fade(sum_N[rows], dot_N[rows], top_N[rows] - top_R)
                top_N[rows] = top_R
                tile_RC.sub_(top_R[:, None])
                if entropies:
                    weight_RC = tile_RC.exp()
                    # A logit of -inf has probability 0 and adds 0, not 0 * -inf.
                    tile_RC.clamp_min_(torch.finfo(tile_RC.dtype).min)
                    dot_N[rows] += tile_RC.mul_(weight_RC).sum(1)
                else:
                    weight_RC = tile_RC.exp_()
                sum_N[rows] += weight_RC.sum(1)
        lse_N = sum_N.log()  # less the maximum
        ctx.save_for_backward(states_ND, weight_VD, targets_N, top_N, lse_N)
        ctx.scale = scale
        # log Z - sum p x, the maximum taken off both
        entropy_N = lse_N - dot_N / sum_N if entropies else torch.zeros_like(lse_N)
        ctx.mark_non_differentiable(entropy_N)
        return target_N - top_N - lse_N, entropy_N

    @staticmethod
    def backward(
        ctx: Any, grad_N: Tensor, _: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        states_ND, weight_VD, targets_N, top_N, lse_N = ctx.saved_tensors
        for_states, for_weight = ctx.needs_input_grad[:2]
        wide = top_N.dtype
        states_grad = torch.zeros_like(states_ND, dtype=wide) if for_states else None
        weight_grad = torch.empty_like(weight_VD) if for_weight else None
        for columns in _spans(len(weight_VD), _columns(len(states_ND))):
            part_CD = torch.zeros_like(weight_VD[columns], dtype=wide) if for_weight else None
            for rows in _spans(len(states_ND), _TILE_TOKENS):
                # d logp / d logits = scale * (onehot(target) - softmax)
                tile_RC = _tile(states_ND[rows], weight_VD[columns], ctx.scale)
                tile_RC.sub_(top_N[rows, None]).sub_(lse_N[rows, None]).exp_().neg_()
                at_R, here_R = _at(targets_N[rows], columns)
                # One target a row: reading and writing back has no order to depend on.
                hit_R = tile_RC.gather(1, at_R[:, None]) + here_R[:, None]
                tile_RC.scatter_(1, at_R[:, None], hit_R)
                tile_RC.mul_((grad_N[rows] * ctx.scale)[:, None])
                grad_RC = tile_RC.to(states_ND.dtype)
                if states_grad is not None:
                    _add_product(states_grad[rows], grad_RC, weight_VD[columns])
                if part_CD is not None:
                    _add_product(part_CD, grad_RC.t(), states_ND[rows])
            if weight_grad is not None and part_CD is not None:
                weight_grad[columns] = part_CD
        states_out = None if states_grad is None else states_grad.to(states_ND.dtype)
        return states_out, weight_grad, None, None, None


def _tile(states_RD: Tensor, weight_CD: Tensor, scale: float) -> Tensor:
    """Scaled logits of a tile, float32 or wider."""
    product_RC = states_RD @ weight_CD.t()
    return product_RC.to(_wide_type(product_RC)).mul_(scale)


def _fade(sum_R: Tensor, dot_R: Tensor, drop_R: Tensor) -> None:
    """Refer the running sums to a maximum that is ``-drop_R`` higher, in place."""
    fade_R = drop_R.exp()  # 0 the first time, from a maximum of -inf
    dot_R.add_(sum_R * drop_R.clamp_min(torch.finfo(drop_R.dtype).min)).mul_(fade_R)
    sum_R.mul_(fade_R)


def _add_product(sum_: Tensor, left: Tensor, right: Tensor) -> None:
    """sum_ += left @ right, without an array for the product where the types allow."""
    if left.dtype == sum_.dtype:
        sum_.addmm_(left, right)
    else:
        sum_ += left @ right


def _at(targets_R: Tensor, columns: slice) -> tuple[Tensor, Tensor]:
    """Where in the columns each target stands, and whether it does (elsewhere: some column)."""
    here_R = (targets_R >= columns.start) & (targets_R < columns.stop)
    return torch.where(here_R, targets_R - columns.start, 0), here_R


def _spans(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def _columns(tokens: int) -> int:
    """Vocabulary entries of a tile."""
    return max(_TILE_ELEMENTS // max(min(tokens, _TILE_TOKENS), 1), 1)


def _wide_type(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _wide_like(x: Tensor, size: int) -> Tensor:
    return x.new_empty(size, dtype=_wide_type(x))
