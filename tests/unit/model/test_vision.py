"""Patches and visual tokens are those of the checkpoint's own processor and vision tower."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from unit.model.tinies import picture, small_policy

from m2r_train.model.policy import Policy
from m2r_train.model.vision import grid_of, patchify, visual_tokens


@pytest.fixture(scope="module", params=[1, 2], ids=["merge1", "merge2"])
def policy(request: pytest.FixtureRequest) -> Policy:
    return small_policy(merge=request.param)


SIZES = [(8, 8), (16, 48), (7, 9), (13, 190), (100, 3), (64, 64), (65, 63), (200, 150), (1, 1)]
SIZES += [(333, 40), (21, 20), (20, 21), (12, 12), (4, 4), (3, 500), (447, 449)]


@pytest.mark.parametrize("size", SIZES)
def test_the_grid_is_the_processors(policy: Policy, size: tuple[int, int]) -> None:
    processor = policy.processor.image_processor
    encoded = processor(images=[picture(*size)], return_tensors="pt")
    assert grid_of(size, processor) == tuple(encoded["image_grid_thw"][0].tolist())


@pytest.mark.parametrize("size", [(16, 16), (16, 48), (64, 32), (48, 64)])
def test_pixel_values_are_the_processors(policy: Policy, size: tuple[int, int]) -> None:
    processor = policy.processor.image_processor
    images = [picture(*size, seed) for seed in range(3)]
    ours = patchify(images, processor)
    theirs = processor(images=images, return_tensors="pt")
    torch.testing.assert_close(
        torch.cat([values for values, _ in ours]), theirs["pixel_values"], atol=2e-6, rtol=0
    )
    assert [list(grid) for _, grid in ours] == theirs["image_grid_thw"].tolist()


def test_images_of_all_kinds_keep_their_order(policy: Policy) -> None:
    """Two that need no resizing, of two sizes, around two that do."""
    processor = policy.processor.image_processor
    images = [picture(16, 16), picture(15, 40), picture(32, 16), picture(16, 16, 1), picture(9, 9)]
    together = patchify(images, processor)
    for image, (values, grid) in zip(images, together, strict=True):
        encoded = processor(images=[image], return_tensors="pt")
        torch.testing.assert_close(values, encoded["pixel_values"], atol=2e-6, rtol=0)
        assert list(grid) == encoded["image_grid_thw"][0].tolist()


def tokens_by_module(policy: Policy, images: list[Image.Image]) -> torch.Tensor:
    """The vision tower's own forward over the processor's own pixel values."""
    encoded = policy.processor.image_processor(images=images, return_tensors="pt")
    out: torch.Tensor = policy.module.model.visual(
        encoded["pixel_values"], grid_thw=encoded["image_grid_thw"]
    ).pooler_output
    return out


def count_calls(module: torch.nn.Module) -> list[int]:
    """Grows by one entry at each call of the module."""
    calls: list[int] = []
    module.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize("n", [1, 2, 5])
def test_equal_grids_in_one_batch_give_the_modules_tokens(policy: Policy, n: int) -> None:
    images = [picture(32, 48, seed) for seed in range(n)]
    expected = tokens_by_module(policy, images)
    with torch.no_grad():
        calls = count_calls(policy.module.model.visual)
        torch.testing.assert_close(policy.see(images), expected, atol=2e-5, rtol=1e-4)
    assert not calls, "the batched way was not taken"


def test_a_tower_in_bfloat16_turns_by_angles_in_float32() -> None:
    policy = small_policy(merge=2)
    for parameter in policy.module.parameters():
        parameter.data = parameter.data.bfloat16()
    images = [picture(32, 48, seed) for seed in range(2)]
    with torch.no_grad():
        seen = policy.see(images)
        assert seen.dtype == torch.bfloat16
        torch.testing.assert_close(seen, tokens_by_module(policy, images), atol=2e-2, rtol=2e-2)


def test_the_batched_way_has_the_modules_gradients() -> None:
    weight_grads = []
    for way in (lambda p, x: p.see(x), tokens_by_module):
        policy = small_policy(merge=2)
        tokens = way(policy, [picture(32, 48, seed) for seed in range(3)])
        (tokens * torch.linspace(-1, 1, tokens.numel()).view_as(tokens)).sum().backward()
        named = policy.module.model.visual.named_parameters()
        weight_grads.append({name: p.grad for name, p in named})
    for name, grad in weight_grads[1].items():
        scale = float(grad.abs().max())
        torch.testing.assert_close(weight_grads[0][name], grad, atol=1e-4 * scale, rtol=1e-3)


def test_unequal_grids_go_through_the_module(policy: Policy) -> None:
    images = [picture(32, 48), picture(48, 32), picture(16, 16)]
    expected = tokens_by_module(policy, images)
    calls = count_calls(policy.module.model.visual)
    with torch.no_grad():
        torch.testing.assert_close(policy.see(images), expected, atol=2e-6, rtol=1e-5)
    assert calls == [1]


def test_a_tower_with_windows_goes_through_the_module() -> None:
    """There the batched way, where every patch sees every other, would be wrong: shown too."""
    policy = small_policy(merge=2)
    visual = policy.module.model.visual
    images = [picture(160, 160, seed) for seed in range(2)]
    whole = policy.see(images)
    visual.fullatt_block_indexes = [1]
    visual.window_size = 32
    patches, grids = zip(*patchify(images, policy.processor.image_processor), strict=True)
    calls = count_calls(visual)
    with torch.no_grad():
        windowed = visual_tokens(visual, patches, grids)
        assert calls == [1]
        torch.testing.assert_close(windowed, tokens_by_module(policy, images))
    assert not torch.allclose(windowed, whole, atol=1e-3)


def test_no_pictures_give_no_tokens(policy: Policy) -> None:
    assert policy.see([]).shape == (0, policy.width)
