"""A Qwen2.5-VL as the parts that ``core.flops`` counts, with what of it learns."""

from __future__ import annotations

from typing import Any

from torch import nn

from m2r_train.core.flops import Pairs, Part, Through
from m2r_train.model.lora import is_adapter


def parts_of(module: Any) -> list[Part]:
    """The parts in the order of the forward pass: tower, projector, decoder, head.

    Read it once what learns is chosen, and before an engine takes the parameters apart.
    """
    visual, text = module.model.visual, module.model.language_model
    full = set(visual.fullatt_block_indexes)
    width = visual.config.hidden_size
    heads = text.config.num_attention_heads * _head_size(text.config)
    parts = [_part(visual.patch_embed, "patches")]
    for number, block in enumerate(visual.blocks):
        pairs: Pairs = "whole_pairs" if number in full else "window_pairs"
        parts.append(_part(block, "patches", width, pairs))
    parts.append(_part(visual.merger, "visuals"))  # as wide as the patches of a visual token
    learns = _learns(text.embed_tokens)
    parts.append(Part(through="tokens", weights=0, learns=learns))  # is looked up
    parts += [_part(layer, "tokens", heads) for layer in text.layers]
    parts.append(Part(through="tokens", weights=0, learns=_learns(text.norm)))
    parts.append(_part(module.lm_head, "targets"))
    return parts


def window_of(module: Any) -> int:
    """Patches a side of a window of the tower's windowed attention."""
    config = module.model.visual.config
    merged = config.spatial_merge_size * config.patch_size
    side: int = config.window_size // merged * config.spatial_merge_size
    return side


def _part(
    module: nn.Module, through: Through, width: int = 0, pairs: Pairs = "token_pairs"
) -> Part:
    weights = adapters = learning = 0
    for name, parameter in module.named_parameters():
        if parameter.ndim < 2:
            continue
        if is_adapter(name):
            adapters += parameter.numel()
        else:
            weights += parameter.numel()
            learning += parameter.numel() if parameter.requires_grad else 0
    return Part(
        through=through,
        weights=weights,
        adapters=adapters,
        learning=learning,
        learns=_learns(module),
        width=width,
        pairs=pairs,
    )


def _learns(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _head_size(config: Any) -> int:
    size: int = (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    return size
