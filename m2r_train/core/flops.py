"""Floating-point operations that a model's architecture asks for: the numerator of utilisation.

The count of PaLM, appendix B (arXiv 2204.02311): 2 operations for each weight that multiplies a
token forward, 4 backward, and attention's two products by themselves. What a run needs is counted,
not what it happens to compute: no padding, no layer computed again (gradient checkpointing), so
that this is model and not hardware utilisation. Three refinements, all towards the smaller number:

* attention counts the pairs that a mask lets through, not the square of the length;
* what stays as it is costs no gradient of its own (4 a weight and token), and nothing at all
  backward where nothing before it learns (2);
* a prompt that a group shares counts once, as does a picture that is looked at once.

Norms, activations, rotations and the optimiser are left out; they are below a percent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Grid = tuple[int, int, int]  # patches of a picture: time, height, width
Through = Literal["patches", "visuals", "tokens", "targets"]
Pairs = Literal["token_pairs", "whole_pairs", "window_pairs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A stretch of a model, in the order of the forward pass.

    ``weights`` are the elements of its matrices, ``adapters`` those of its low-rank adapters;
    ``learning`` of the ``weights`` learn (adapters always do), ``learns`` says whether anything in
    it does, an embedding or a norm included. ``width`` is that of all heads of its attention, 0
    where it has none, whose queries and keys are the ``pairs``.
    """

    through: Through
    weights: int
    adapters: int = 0
    learning: int = 0
    learns: bool = False
    width: int = 0
    pairs: Pairs = "token_pairs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What goes through a model: patches and visual tokens of pictures, tokens, and those of them
    that are predicted; and the pairs of a query and a key that attention lets through."""

    patches: int = 0
    visuals: int = 0
    tokens: int = 0
    targets: int = 0
    token_pairs: int = 0
    whole_pairs: int = 0
    window_pairs: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(
            patches=self.patches + other.patches,
            visuals=self.visuals + other.visuals,
            tokens=self.tokens + other.tokens,
            targets=self.targets + other.targets,
            token_pairs=self.token_pairs + other.token_pairs,
            whole_pairs=self.whole_pairs + other.whole_pairs,
            window_pairs=self.window_pairs + other.window_pairs,
        )


NOTHING = Load()


def total(loads: Iterable[Load]) -> Load:
    """All of them."""
    return sum(loads, NOTHING)


def row_load(prefix: int, branches: Sequence[int], targets: int) -> Load:
    """Tokens of a prefix and of its branches, each of which sees the prefix and its own past."""
    pairs = _causal(prefix) + sum(n * prefix + _causal(n) for n in branches)
    return Load(tokens=prefix + sum(branches), targets=targets, token_pairs=pairs)


def picture_load(grid: Grid, *, merge: int, window: int) -> Load:
    """A picture or clip: patches see their own temporal patch, in windows of ``window`` patches a
    side; ``merge``**2 neighbours become one visual token."""
    t, h, w = grid
    return Load(
        patches=t * h * w,
        visuals=t * h * w // merge**2,
        whole_pairs=t * (h * w) ** 2,
        window_pairs=t * _squares(h, window) * _squares(w, window),
    )


def forward_flops(parts: Iterable[Part], load: Load) -> float:
    """Operations of a forward pass without adapters: generation, or a reference's pass."""
    return float(sum(_forward(part, load, adapted=False) for part in parts))


def update_flops(parts: Sequence[Part], load: Load) -> float:
    """Operations of a forward and a backward pass, adapters included."""
    flops, reached = 0, False
    for part in parts:
        forward = _forward(part, load, adapted=True)
        reached = reached or part.learns
        own = 2 * (part.learning + part.adapters) * _count(part, load)
        # to the inputs: once more the weights' products, and twice attention's
        inputs = forward + 4 * part.width * _pairs(part, load) if reached else 0
        flops += forward + inputs + own
    return float(flops)


def _forward(part: Part, load: Load, *, adapted: bool) -> int:
    weights = part.weights + (part.adapters if adapted else 0)
    return 2 * weights * _count(part, load) + 4 * part.width * _pairs(part, load)


def _count(part: Part, load: Load) -> int:
    count: int = getattr(load, part.through)
    return count


def _pairs(part: Part, load: Load) -> int:
    pairs: int = getattr(load, part.pairs)
    return pairs


def _causal(n: int) -> int:
    return n * (n + 1) // 2


def _squares(side: int, window: int) -> int:
    """Sum of the squares of the pieces that windows cut a side into."""
    whole, rest = divmod(side, window)
    return whole * window**2 + rest**2
