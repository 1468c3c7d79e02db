"""A frozen tower sees each picture of a step once; one that learns keeps its gradients."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from PIL import Image
from torch import Tensor
from unit.model.tinies import picture, small_policy

from m2r_train.model import sight as sight_module
from m2r_train.model.policy import Policy
from m2r_train.model.sight import key_of

A, B, C = picture(32, 16, 1), picture(16, 48, 2), picture(32, 16, 3)


class Watched:
    """What a policy's tower was asked to look at."""

    def __init__(self, *policies: Policy) -> None:
        self.seen: list[int] = []
        for policy in policies:
            self._watch(policy)

    def _watch(self, policy: Policy) -> None:
        tower = policy._tower

        def watched(images: Sequence[Image.Image]) -> Sequence[Tensor]:
            self.seen.append(len(images))
            return tower(images)

        policy._tower = watched  # type: ignore[method-assign]


def test_a_picture_that_comes_twice_is_looked_at_once() -> None:
    policy = small_policy()
    watched = Watched(policy)
    tokens = policy.see([A, B, A.copy(), C])
    assert watched.seen == [3]
    parts = tokens.split([8, 12, 8, 8])
    assert torch.equal(parts[0], parts[2])
    assert not torch.equal(parts[0], parts[3])
    for image, part in zip([A, B, C], [parts[0], parts[1], parts[3]], strict=True):
        torch.testing.assert_close(policy.see([image]), part, atol=1e-5, rtol=0)


def test_a_picture_that_comes_twice_gives_both_gradients() -> None:
    gradients = []
    for images in ([A, B, A], [A, A, B, A]):
        policy = small_policy()
        tokens = policy.see(images)
        weights = torch.linspace(-1, 1, 8 * tokens.shape[1]).view(8, -1)
        # the same sum, once with a further copy that counts nothing
        ((tokens[:8] + tokens[-8:]) * weights).sum().backward()  # type: ignore[no-untyped-call]
        named = policy.module.model.visual.named_parameters()
        gradients.append({n: p.grad for n, p in named})
    for name, value in gradients[0].items():
        assert value is not None and float(value.abs().max()) > 0, name
        torch.testing.assert_close(gradients[1][name], value, atol=1e-5, rtol=1e-4)


def test_copies_share_what_a_frozen_tower_was_shown() -> None:
    policy = small_policy()
    policy.freeze_vision()
    reference, sampler = policy.copy(), policy.copy()
    watched = Watched(policy, reference, sampler)
    policy.show([A, B, A])
    assert watched.seen == [2]
    seen = [p.see([B, A]) for p in (sampler, policy, reference)]
    assert watched.seen == [2]
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[0], seen[2])
    policy.show([B, C], more=True)
    policy.see([A, B, C])
    assert watched.seen == [2, 1]
    policy.show([C])
    policy.see([A, C])
    assert watched.seen == [2, 1, 1, 1], "A was forgotten, and is looked at again"
    assert all(not p.requires_grad for p in policy.module.model.visual.parameters())


def test_a_step_has_the_same_bits_whoever_asks_first() -> None:
    """With its rollouts in the journal, the sampler does not look; the update must not change."""

    def step(asks: bool) -> Tensor:
        policy = small_policy(merge=2)
        policy.freeze_vision()
        sampler = policy.copy()
        policy.show([A, B, C])
        if asks:
            sampler.see([A, B, C])
        return policy.see([C, A])

    assert torch.equal(step(True), step(False))


def test_a_tower_that_learns_is_asked_each_time() -> None:
    policy = small_policy()
    copied = policy.copy()
    watched = Watched(policy, copied)
    policy.show([A, B])
    assert watched.seen == []
    assert policy.see([A]).requires_grad
    copied.see([A])
    assert watched.seen == [1, 1]


def test_many_pictures_go_through_the_tower_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sight_module, "_SHOWN_PIXELS", 1000)
    policy = small_policy()
    policy.freeze_vision()
    watched = Watched(policy)
    policy.show([A, B, C])  # 512, 768 and 512 pixels
    assert watched.seen == [1, 1, 1]
    assert len(policy.see([A, B, C])) == 28


def test_pictures_are_told_apart_by_size_and_pixels() -> None:
    flat = [Image.new("RGB", size, "red") for size in ((16, 32), (32, 16), (8, 64))]
    assert len({key_of(image) for image in [*flat, A, B, C, A.copy()]}) == 6
