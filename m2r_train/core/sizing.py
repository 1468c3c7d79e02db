"""What training takes: bytes of memory and floating-point operations, from a model's sizes.

Estimates to choose machines by, and the denominators of utilisation. Activations, the key-value
cache and what libraries keep for themselves come on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Sharding = Literal["None", "Zero1", "Zero2", "Zero3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """The sizes of a Qwen2.5-VL that the estimates need; see ``config.json``."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    tied: bool
    vision_hidden: int
    vision_layers: int
    vision_intermediate: int
    patch_values: int = 3 * 2 * 14 * 14  # of one patch: colours, frames, pixels
    merge: int = 2

    @property
    def layer(self) -> int:
        """Parameters of one decoder layer: projections with their biases, gated MLP, two norms."""
        d, kv = self.hidden, self.hidden // self.heads * self.kv_heads
        attention = d * d + d + 2 * (d * kv + kv) + d * d
        return attention + 3 * d * self.intermediate + 2 * d

    @property
    def language(self) -> int:
        """Parameters of the language model, embeddings and head included."""
        d = self.hidden
        tables = self.vocabulary * d * (1 if self.tied else 2)
        return self.layers * self.layer + d + tables

    @property
    def vision(self) -> int:
        """Parameters of the vision tower and its projector."""
        v, m = self.vision_hidden, self.vision_intermediate
        block = 4 * v * v + 4 * v + 3 * v * m + 2 * m + v + 2 * v
        wide = v * self.merge**2
        merger = v + wide * wide + wide + wide * self.hidden + self.hidden
        return self.patch_values * v + self.vision_layers * block + merger

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.language + self.vision

    def adapters(self, rank: int) -> int:
        """Parameters of adapters on every linear layer of the decoder."""
        d, kv = self.hidden, self.hidden // self.heads * self.kv_heads
        sides = 2 * (d + d) + 2 * (d + kv) + 3 * (d + self.intermediate)
        return self.layers * rank * sides


QWEN25_VL_3B = ModelSize(
    hidden=2048, layers=36, heads=16, kv_heads=2, intermediate=11008, vocabulary=151936, tied=True,
    vision_hidden=1280, vision_layers=32, vision_intermediate=3420,
)  # fmt: skip
QWEN25_VL_7B = ModelSize(
    hidden=3584, layers=28, heads=28, kv_heads=4, intermediate=18944, vocabulary=152064, tied=False,
    vision_hidden=1280, vision_layers=32, vision_intermediate=3420,
)  # fmt: skip


def state_bytes(
    total: int,
    learning: int,
    *,
    narrow: bool = True,
    sharding: Sharding = "None",
    ranks: int = 1,
) -> float:
    """Bytes on each device of weights, gradients, master and moments.

    ``total`` parameters, of which ``learning`` are trained; ``narrow``: bfloat16 weights with a
    float32 master. Gradients are summed in float32. A stage of ZeRO (arXiv 1910.02054) divides by
    ``ranks``: 1 master and moments, 2 gradients too, 3 all weights too.
    """
    weights = (2 if narrow else 4) * total
    gradients = 4 * learning
    optimizer = (12 if narrow else 8) * learning
    return (
        weights / (ranks if sharding == "Zero3" else 1)
        + gradients / (ranks if sharding in ("Zero2", "Zero3") else 1)
        + optimizer / (ranks if sharding != "None" else 1)
    )


def training_flops(
    size: ModelSize, tokens: int, *, learning: float = 1.0, recomputed: bool = False
) -> float:
    """Operations of a forward and a backward pass over ``tokens`` of the language model.

    2 an operand and token forward and 2 for the inputs' gradient; 2 more for the weights' of the
    share ``learning``; 2 more where the forward is ``recomputed``, which utilisation does not
    count. Attention's own products and the vision tower are left out: the usual 6 N T. An
    embedding is looked up and costs nothing; the head costs, tied or not.
    """
    matrices = size.layers * size.layer + size.vocabulary * size.hidden
    return (4.0 + 2.0 * learning + (2.0 if recomputed else 0.0)) * matrices * tokens


def utilization(flops: float, seconds: float, peak: float) -> float:
    """Model FLOPs utilisation: operations a second over the device's ``peak``."""
    return flops / seconds / peak


def decode_seconds_per_token(
    size: ModelSize, sequences: int, length: float, bandwidth: float, *, width: int = 2
) -> float:
    """The least time of one decoding step, bound by memory: weights once, each sequence's cache.

    ``length``: mean tokens of a sequence; ``bandwidth``: bytes a second; ``width``: of an element.
    """
    head = size.hidden // size.heads
    cache = 2 * size.layers * size.kv_heads * head * width
    return (width * size.language + sequences * length * cache) / bandwidth


def step_bound_seconds(
    *,
    size: ModelSize,
    sequences: int,
    completion: int,
    tokens: int,
    peak: float,
    bandwidth: float,
    reference: bool,
    learning: float = 1.0,
    training_share: float = 0.45,
    decoding_share: float = 0.7,
) -> dict[str, float]:
    """The bound of a GRPO step on one device: seconds to generate, for the reference, to train.

    ``tokens`` are all that training computes; ``completion`` is the mean length. The shares are
    what good kernels reach of the peak and of the bandwidth.
    """
    each = decode_seconds_per_token(size, sequences, completion / 2, bandwidth)
    forward = 2.0 * (size.layers * size.layer + size.vocabulary * size.hidden) * tokens
    return {
        "generate": completion * each / decoding_share,
        "reference": forward / (training_share * peak) if reference else 0.0,
        "train": training_flops(size, tokens, learning=learning) / (training_share * peak),
    }
