"""Images to patches, and patches to visual tokens, several images at a time.

Shapes: I images, S patches of one image (t * h * w), K values of a patch, M visual tokens of an
image (S / merge^2), D hidden size of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own convention
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from m2r_train.model.recompute import recomputed

Grid = tuple[int, int, int]  # patches: (time, height, width)


def grid_of(size: tuple[int, int], image_processor: Any) -> Grid:
    """Patches (time, height, width) that the processor makes of a picture (width, height)."""
    width, height = size
    factor = image_processor.patch_size * image_processor.merge_size
    bounds = image_processor.size
    h, w = smart_resize(
        height,
        width,
        factor=factor,
        min_pixels=bounds["shortest_edge"],
        max_pixels=bounds["longest_edge"],
    )
    return 1, h // image_processor.patch_size, w // image_processor.patch_size


def patchify(images: Sequence[Image.Image], image_processor: Any) -> list[tuple[Tensor, Grid]]:
    """Normalised patches (S, K) and grid of each image, as the checkpoint's processor makes them.

    Images that need no resizing take a short way, identical to the processor's to float
    rounding (tested); everything else goes through the processor itself.
    """
    out: list[tuple[Tensor, Grid] | None] = [None] * len(images)
    by_size: dict[tuple[int, int], list[int]] = {}
    for i, image in enumerate(images):
        _, h, w = grid = grid_of(image.size, image_processor)
        if (w * image_processor.patch_size, h * image_processor.patch_size) == image.size:
            by_size.setdefault(image.size, []).append(i)
        else:
            encoded = image_processor(images=[image], return_tensors="pt")
            out[i] = (encoded["pixel_values"], grid)
    for indexes in by_size.values():
        pixels = np.stack([np.asarray(images[i]) for i in indexes])
        for i, item in zip(indexes, _patchify_equal(pixels, image_processor), strict=True):
            out[i] = item
    return [item for item in out if item is not None]


def _patchify_equal(pixels_IHW3: np.ndarray, processor: Any) -> list[tuple[Tensor, Grid]]:
    p, merge, temporal = (
        processor.patch_size,
        processor.merge_size,
        processor.temporal_patch_size,
    )
    n, height, width, _ = pixels_IHW3.shape
    mean = torch.tensor(processor.image_mean, device="cpu") * 255.0
    std = torch.tensor(processor.image_std, device="cpu") * 255.0
    x = (torch.from_numpy(pixels_IHW3).float() - mean) / std
    gh, gw = height // p, width // p
    # patches of one merge block are neighbours; a still image is repeated along time
    x = x.view(n, gh // merge, merge, p, gw // merge, merge, p, 3)
    x = x.permute(0, 1, 4, 2, 5, 7, 3, 6)  # (n, gh/m, gw/m, m, m, 3, p, p)
    x = x.unsqueeze(6).expand(*x.shape[:6], temporal, p, p)
    flat = x.reshape(n, gh * gw, 3 * temporal * p * p)
    return [(flat[i], (1, gh, gw)) for i in range(n)]


def visual_tokens(visual: Any, patches: Sequence[Tensor], grids: Sequence[Grid]) -> Tensor:
    """Visual tokens of all images in order, (sum M, D).

    Equal grids with full attention in every block go through as one batch; the module's own
    forward attends image by image, which costs more than the arithmetic when images are small.
    """
    equal = all(g == grids[0] for g in grids)
    full = len(visual.fullatt_block_indexes) == len(visual.blocks)
    stacked = torch.cat(list(patches)).to(visual.device)
    if equal and full and grids[0][0] == 1:
        return _visual_tokens_equal(visual, stacked, grids[0], len(grids))
    grid = torch.tensor(grids, dtype=torch.long, device=stacked.device)
    tokens: Tensor = visual(stacked.to(visual.dtype), grid_thw=grid).pooler_output
    return tokens


def _visual_tokens_equal(visual: Any, patches: Tensor, grid: Grid, n: int) -> Tensor:
    _, gh, gw = grid
    m = visual.spatial_merge_size
    rows = torch.arange(gh).view(gh // m, 1, m, 1).expand(gh // m, gw // m, m, m).reshape(-1)
    cols = torch.arange(gw).view(1, gw // m, 1, m).expand(gh // m, gw // m, m, m).reshape(-1)
    x = visual.patch_embed(patches)
    cos, sin = visual.rotary_pos_emb(x, torch.stack([rows, cols], dim=1).to(x.device))
    x = x.view(n, gh * gw, -1)
    for block in visual.blocks:
        x = recomputed(block, _block, x, cos, sin)
    tokens: Tensor = visual.merger(x.reshape(n * gh * gw, -1))
    return tokens


def _block(block: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    n, patches, width = x.shape
    attention = block.attn
    qkv = attention.qkv(block.norm1(x)).view(n, patches, 3, attention.num_heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (n, heads, S, head_dim)
    q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
    mixed = F.scaled_dot_product_attention(q, k, v, scale=attention.scaling)
    x = x + attention.proj(mixed.transpose(1, 2).reshape(n, patches, width))
    out: Tensor = x + block.mlp(block.norm2(x))
    return out


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin
