"""Attention over packed rows, as an attention function of transformers.

The model's own forward runs as it is; where it would call its attention kernel it comes here with
the calls of ``core.attention`` in place of a mask. Given an ordinary mask, this is transformers'
own scaled dot product attention.

Shapes: L cells of the sequence, H heads, K key-value heads, E size of a head; R, T, P and Q as in
``core.attention``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from m2r_train.core.attention import Attention, Cut, Whole

NAME: Final = "m2r_rows"


def use_rows(module: Any) -> None:
    """Let a Qwen2.5-VL's language model take ``{"full_attention": Attention}`` as its mask."""
    AttentionInterface.register(NAME, rows_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    module.model.language_model.config._attn_implementation = NAME


def rows_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Attention | Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """query (1, H, L, E), key and value (1, K, L, E) -> (1, L, H, E)."""
    if not isinstance(attention_mask, Attention):
        out: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
        return out
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    return attend(attention_mask, query, key, value, scale, dropout), None


def attend(
    plan: Attention, query: Tensor, key: Tensor, value: Tensor, scaling: float, dropout: float = 0.0
) -> Tensor:
    """query (1, H, L, E), key and value (1, K, L, E) -> (1, L, H, E), by the calls of ``plan``."""
    groups = query.shape[1] // key.shape[1]
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # (L, heads, E)
    if groups > 1:
        k, v = (x.repeat_interleave(groups, dim=1) for x in (k, v))
    sizes = [part.cells for part in plan.parts]
    pieces = zip(*(x.split_with_sizes(sizes) for x in (q, k, v)), strict=True)
    done = [
        _whole(part, piece, scaling, dropout)
        if isinstance(part, Whole)
        else _cut(part, piece, scaling, dropout)
        for part, piece in zip(plan.parts, pieces, strict=True)
    ]
    return torch.cat(done)[None]


def _whole(part: Whole, qkv: Sequence[Tensor], scaling: float, dropout: float) -> Tensor:
    rows, width = len(part.lengths), max(part.lengths)
    if part.padded:
        qkv = [_spread(x, part.place_N, rows * width) for x in qkv]
    q, k, v = (x.reshape(rows, width, *x.shape[1:]) for x in qkv)
    out = _attend(q, k, v, part.mask_R1TT, scaling, dropout).flatten(0, 1)
    if part.padded:
        out = _gather(out, part.place_N)
    return out


def _cut(part: Cut, qkv: Sequence[Tensor], scaling: float, dropout: float) -> Tensor:
    sizes = [part.trunk, *part.runs]
    (q0, *qs), (k0, *ks), (v0, *vs) = (x[None].split_with_sizes(sizes, dim=1) for x in qkv)
    done = []
    if part.trunk:
        done.append(_attend(q0, k0, v0, part.trunk_mask_TT, scaling, dropout))
    k_prefix, v_prefix = k0[:, : part.prefix], v0[:, : part.prefix]
    for own_q, own_k, own_v, mask in zip(qs, ks, vs, part.run_masks, strict=True):
        keys = torch.cat([k_prefix, own_k], dim=1)
        values = torch.cat([v_prefix, own_v], dim=1)
        done.append(_attend(own_q, keys, values, mask, scaling, dropout))
    return torch.cat(done, dim=1)[0]


def _attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float, dropout: float
) -> Tensor:
    """All (rows, cells, H, E); without a mask each query sees its own past."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scaling
    ).transpose(1, 2)


def _spread(cells: Tensor, place_N: Tensor, size: int) -> Tensor:
    grid: Tensor = _Spread.apply(cells, place_N, size)  # type: ignore[no-untyped-call]
    return grid


def _gather(grid: Tensor, place_N: Tensor) -> Tensor:
    cells: Tensor = _Gather.apply(grid, place_N)  # type: ignore[no-untyped-call]
    return cells


class _Spread(torch.autograd.Function):
    """Cells (N, H, E) to places of a grid of zeros; what autograd makes of it adds row by row."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, place_N: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(place_N)
        return cells.new_zeros(size, *cells.shape[1:]).index_copy_(0, place_N, cells)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (place_N,) = ctx.saved_tensors
        return grad.index_select(0, place_N), None, None


class _Gather(torch.autograd.Function):
    """The inverse of ``_Spread``."""

    @staticmethod
    def forward(ctx: Any, grid: Tensor, place_N: Tensor) -> Tensor:
        ctx.save_for_backward(place_N)
        ctx.size = len(grid)
        return grid.index_select(0, place_N)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (place_N,) = ctx.saved_tensors
        return grad.new_zeros(ctx.size, *grad.shape[1:]).index_copy_(0, place_N, grad), None
