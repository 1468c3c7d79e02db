"""Gradient checkpointing (Chen et al., arXiv 1604.06174): layers are computed again when needed.

A forward pass with gradients keeps each layer's input alone; the backward pass computes the layer
again from it. The bits are those of a pass that keeps everything, since nothing here is random.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

_KEEPING_NO_STATE: Final[dict[str, Any]] = {"use_reentrant": False, "preserve_rng_state": False}


def recompute_layers(module: Any) -> None:
    """Turn it on for every decoder layer and every block of the vision tower."""
    module.gradient_checkpointing_enable(gradient_checkpointing_kwargs=_KEEPING_NO_STATE)
    for layer in module.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            # The layer alone is asked whether it trains; what is in it stays as it is, without
            # dropout.
            layer.training = True


def recomputed(block: nn.Module, function: Any, *arguments: Any) -> Any:
    """``function(*arguments)``, a block's own arithmetic, in the way that is set for the block."""
    if getattr(block, "gradient_checkpointing", False):
        return checkpoint(partial(function, block), *arguments, **_KEEPING_NO_STATE)
    return function(block, *arguments)
