"""Pictures and clips to patches, and patches to visual tokens, several at a time.

A clip is a video's frames in order. Two frames make a temporal patch (an odd last one is shown
twice), and patches see those of their own temporal patch alone, as Qwen2.5-VL has it.

Shapes: I images, S patches of one image or clip (t * h * w), K values of a patch, M visual tokens
of it (S / merge^2), D hidden size of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own convention
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from m2r_train.model.recompute import recomputed

Grid = tuple[int, int, int]  # patches: (time, height, width)

FRAMES_PER_SECOND: Final = 2.0
"""Of a video whose frames come without times: what Qwen2.5-VL samples videos at."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A video's frames in order, all of one size."""

    frames: tuple[Image.Image, ...]


Picture = Image.Image | Clip


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


def clip_grid(frames: int, size: tuple[int, int], video_processor: Any) -> Grid:
    """Patches (time, height, width) that the processor makes of so many frames (width, height)."""
    width, height = size
    temporal: int = video_processor.temporal_patch_size
    factor = video_processor.patch_size * video_processor.merge_size
    bounds = video_processor.size
    most: int = bounds["longest_edge"]
    if video_processor.cap_pixels_per_frame:
        total = int(video_processor.max_video_tokens * factor**2 * 0.9)
        most = max(min(most, total * temporal // frames), int(bounds["shortest_edge"] * 1.05))
    h, w = smart_resize(
        height, width, factor=factor, min_pixels=bounds["shortest_edge"], max_pixels=most
    )
    patch: int = video_processor.patch_size
    return -(-frames // temporal), h // patch, w // patch


def seconds_per_grid(video_processor: Any) -> float:
    """Seconds from one temporal patch to the next."""
    return float(video_processor.temporal_patch_size / FRAMES_PER_SECOND)


def patchify_clip(clip: Clip, video_processor: Any) -> tuple[Tensor, Grid]:
    """Normalised patches (S, K) and grid of a clip, by the checkpoint's own processor."""
    frames = np.stack([np.asarray(frame) for frame in clip.frames])
    encoded = video_processor(
        videos=[torch.from_numpy(frames).permute(0, 3, 1, 2)],
        do_sample_frames=False,
        cap_pixels_per_frame=bool(video_processor.cap_pixels_per_frame),
        return_tensors="pt",
    )
    t, h, w = encoded["video_grid_thw"][0].tolist()
    return encoded["pixel_values_videos"], (t, h, w)


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
    """Visual tokens of all images and clips in order, (sum M, D).

    Equal grids with full attention in every block go through as one batch; the module's own
    forward attends image by image, which costs more than the arithmetic when images are small.
    """
    equal = all(g == grids[0] for g in grids)
    full = len(visual.fullatt_block_indexes) == len(visual.blocks)
    stacked = torch.cat(list(patches)).to(visual.device)
    if equal and full:
        return _visual_tokens_equal(visual, stacked, grids[0], len(grids))
    grid = torch.tensor(grids, dtype=torch.long, device=stacked.device)
    tokens: Tensor = visual(stacked.to(visual.dtype), grid_thw=grid).pooler_output
    return tokens


def _visual_tokens_equal(visual: Any, patches: Tensor, grid: Grid, n: int) -> Tensor:
    t, gh, gw = grid
    n *= t  # each temporal patch is attended to alone
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
    half, wide = x.shape[-1] // 2, x.float()  # angles are float32, also where weights are narrower
    turned = torch.cat((-wide[..., half:], wide[..., :half]), dim=-1)
    return (wide * cos + turned * sin).to(x.dtype)
