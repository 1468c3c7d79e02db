"""What is counted from a model's parts is what torch's own counter finds in its passes."""

from __future__ import annotations

from typing import Any

import pytest
from torch.utils.flop_counter import FlopCounterMode
from unit.model.tinies import clip, picture, request, row, small_policy

from m2r_train.core.flops import Load, forward_flops, picture_load, row_load, update_flops
from m2r_train.core.packing import pack_rows
from m2r_train.model.architecture import parts_of, window_of
from m2r_train.model.lora import Adapters
from m2r_train.model.policy import Policy

COMPLETIONS = ((3, 4, 5, 6), (7, 8))
PRODUCTS = ("mm", "addmm", "bmm", "convolution", "convolution_backward")


def asked(policy: Policy) -> tuple[Any, Load]:
    """A prompt with a picture and a clip, packed with its completions, and what that should load.

    Attention's pairs are left out: torch counts the square of each call's length.
    """
    prompt = request(policy, "how many?", picture(32, 16), clip(3, 16, 32))
    packed = pack_rows([row(prompt.prompt, *COMPLETIONS)])
    load = row_load(len(prompt.prompt.tokens), [len(c) for c in COMPLETIONS], targets=6)
    for grid in prompt.prompt.grids:
        load += picture_load(grid, merge=policy.merge, window=window_of(policy.module))
    without = Load(
        patches=load.patches, visuals=load.visuals, tokens=load.tokens, targets=load.targets
    )
    return (packed, prompt.images), without


def counted(policy: Policy, what: Any, *, backward: bool) -> int:
    """Operations of the products with weights, by torch."""
    packed, images = what
    with FlopCounterMode(display=False) as counter:
        logits = policy.logits(packed, policy.see(images))
        if backward:
            logits.sum().backward()
    by_operation = {str(op): n for op, n in counter.get_flop_counts()["Global"].items()}
    return sum(n for op, n in by_operation.items() if op.removeprefix("aten.") in PRODUCTS)


@pytest.mark.parametrize("merge", [1, 2])
def test_a_model_that_learns_whole(merge: int) -> None:
    policy = small_policy(merge=merge)
    what, load = asked(policy)
    parts = parts_of(policy.module)
    assert forward_flops(parts, load) == counted(policy, what, backward=False)
    pixels = 2 * parts[0].weights * load.patches  # pixels ask for no gradient; 6 N counts one
    assert update_flops(parts, load) - pixels == counted(policy, what, backward=True)


def test_a_tower_that_stays_as_it_is() -> None:
    policy = small_policy()
    policy.module.model.visual.requires_grad_(False)
    what, load = asked(policy)
    assert update_flops(parts_of(policy.module), load) == counted(policy, what, backward=True)


def test_a_decoder_that_stays_as_it_is_behind_a_tower_that_learns() -> None:
    policy = small_policy()
    policy.module.requires_grad_(False)
    policy.module.model.visual.merger.requires_grad_(True)
    what, load = asked(policy)
    assert update_flops(parts_of(policy.module), load) == counted(policy, what, backward=True)


def test_adapters() -> None:
    policy = small_policy()
    before = forward_flops(parts_of(policy.module), asked(policy)[1])
    tower = frozenset(
        n for n, _ in policy.module.named_parameters() if n.startswith("model.visual.")
    )
    policy.adapters = Adapters(
        policy.module, rank=4, alpha=8, targets=(), frozen=tower, seed=0, where="x"
    )
    what, load = asked(policy)
    parts = parts_of(policy.module)
    assert sum(p.adapters for p in parts) == sum(
        p.numel() for p in policy.module.parameters() if p.requires_grad
    )
    assert forward_flops(parts, load) == before
    layer = policy.module.model.language_model.layers[0].self_attn
    first = (
        2
        * load.tokens
        * sum(
            x.weight.numel() + x.lora_A.numel() for x in (layer.q_proj, layer.k_proj, layer.v_proj)
        )
    )  # the embeddings ask for no gradient
    assert update_flops(parts, load) - first == counted(policy, what, backward=True)
