"""Layers that are computed again: the same bits, and less kept between the two passes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from unit.model.tinies import picture, request, row, small_policy

from m2r_train.core.packing import pack_rows
from m2r_train.model.policy import Policy
from m2r_train.model.recompute import recompute_layers


def passes(policy: Policy, *sizes: tuple[int, int]) -> tuple[Tensor, dict[str, Tensor], int]:
    """Log-probabilities, gradients, and the bytes that the forward pass keeps."""
    kept: dict[int, int] = {}
    parameters = {p.untyped_storage().data_ptr() for p in policy.module.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    pictures = [picture(w, h, i) for i, (w, h) in enumerate(sizes)]
    asked = request(policy, "how many red cubes?", *pictures)
    turns = [policy.text_tokens(t) for t in ("so the answer is 3 cubes", "red left blue right")]
    packed = pack_rows([row(asked.prompt, *turns)])
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        logp = policy.logprobs(packed, policy.see(asked.images))[0]
    logp.sum().backward()
    grads = {n: p.grad for n, p in policy.module.named_parameters() if p.grad is not None}
    return logp.detach(), grads, sum(kept.values())


@pytest.mark.parametrize("sizes", [((32, 16),), ((32, 16), (16, 48))], ids=["equal", "unequal"])
def test_losses_and_gradients_are_equal_and_less_is_kept(
    sizes: tuple[tuple[int, int], ...],
) -> None:
    plain, thrifty = small_policy(), small_policy()
    recompute_layers(thrifty.module)
    logp, grads, kept = passes(plain, *sizes)
    other, again, less = passes(thrifty, *sizes)
    assert torch.equal(logp, other)
    assert grads.keys() == again.keys() == {n for n, _ in plain.module.named_parameters()}
    assert all(torch.equal(grads[n], again[n]) for n in grads)
    assert less < 0.5 * kept


def test_what_is_inside_a_layer_stays_without_dropout() -> None:
    policy = small_policy()
    recompute_layers(policy.module)
    trains = {type(m).__name__ for m in policy.module.modules() if m.training}
    assert trains == {"Qwen2_5_VLDecoderLayer", "Qwen2_5_VLVisionBlock"}


def test_a_copy_computes_with_its_own_layers() -> None:
    policy = small_policy()
    recompute_layers(policy.module)
    copied = policy.copy()
    before = passes(policy)[0]
    with torch.no_grad():
        for parameter in policy.module.parameters():
            parameter.mul_(0.5)
        asked = request(policy, "how many red cubes?")
        turns = [policy.text_tokens(t) for t in ("so the answer is 3 cubes", "red left blue right")]
        packed = pack_rows([row(asked.prompt, *turns)])
        assert torch.equal(copied.logprobs(packed, copied.see(()))[0], before)
