"""The smallest policies, pictures and samples that the model tests are made of."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from m2r_train.core.packing import Branch, Row
from m2r_train.core.records import Sample
from m2r_train.core.rng import derive_seed
from m2r_train.model.policy import Extent, Policy, Prompt, Request
from m2r_train.model.tiny import TinyShape, tiny_model
from m2r_train.model.vision import Clip, Picture

WORDS = ("red", "blue", "how", "many", "cubes", "left", "right", "so", "the", "answer", "is", "?")
SMALL = TinyShape(
    hidden=32,
    layers=2,
    heads=4,
    kv_heads=2,
    intermediate=48,
    vision_hidden=32,
    vision_layers=2,
    vision_heads=2,
    vision_intermediate=48,
    patch=8,
    merge=1,
    mrope_section=(1, 1, 2),
    initializer_range=0.3,  # large, so that logits differ and a wrong mask is seen
)


def small_policy(seed: int = 0, merge: int = 1) -> Policy:
    """A policy of some 40 thousand parameters."""
    return Policy(*tiny_model(WORDS, seed, replace(SMALL, merge=merge)))


def generator(seed: int = 0) -> torch.Generator:
    """A generator of the test's own."""
    return torch.Generator().manual_seed(derive_seed(seed, "test"))


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture of noise: no two of its patches are alike."""
    rng = np.random.default_rng(derive_seed(seed, "picture", width, height))
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def png(image: Image.Image) -> bytes:
    """An image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def sample(question: str = "how many red cubes?", **changes: Any) -> Sample:
    """A spatial sample; fields given by name replace the usual ones."""
    fields: dict[str, Any] = {
        "id": "s1",
        "domain": "spatial",
        "task": "ObjectCount",
        "source": "test",
        "question": question,
        "answer": "3",
        "answer_type": "number",
        "reward": "exact",
    }
    return Sample(**{**fields, **changes})


def clip(frames: int, width: int, height: int, seed: int = 0) -> Clip:
    """A clip of noise."""
    return Clip(tuple(picture(width, height, 100 * seed + i) for i in range(frames)))


def request(policy: Policy, question: str = "how many?", *images: Picture) -> Request:
    """A laid-out prompt with its pictures; a clip comes last."""
    stills = tuple(png(image) for image in images if not isinstance(image, Clip))
    video = next((tuple(map(png, i.frames)) for i in images if isinstance(i, Clip)), None)
    asked = sample(question, images=stills, video=video)
    extents = [
        Extent(i.frames[0].size, len(i.frames)) if isinstance(i, Clip) else Extent(i.size)
        for i in images
    ]
    return Request(policy.lay_out([asked], [extents])[0], images)


def row(prompt: Prompt, *branches: tuple[int, ...] | Branch) -> Row:
    """A prompt with its branches; plain tuples are scored from their first token."""
    full = (b if isinstance(b, Branch) else Branch(b) for b in branches)
    return Row(prompt.tokens, prompt.positions, tuple(full))


def hf_inputs(policy: Policy, asked: Request, completion: tuple[int, ...] = ()) -> dict[str, Any]:
    """What transformers' own forward takes for a prompt and one completion.

    Which tokens are pictures is said by ``mm_token_type_ids``; as the module itself goes by the
    token, completions that hold a placeholder must be compared in another way.
    """
    tokens = asked.prompt.tokens + completion
    ids = torch.tensor([tokens])
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    stills = [i for i in asked.images if not isinstance(i, Clip)]
    clips = [i for i in asked.images if isinstance(i, Clip)]
    if stills:
        encoded = policy.processor.image_processor(images=stills, return_tensors="pt")
        inputs |= {"pixel_values": encoded["pixel_values"]}
        inputs |= {"image_grid_thw": encoded["image_grid_thw"]}
    if clips:
        encoded = policy.processor.video_processor(
            videos=[frames_of(c) for c in clips],
            return_tensors="pt",
            do_sample_frames=False,
            cap_pixels_per_frame=False,
        )
        inputs |= {"pixel_values_videos": encoded["pixel_values_videos"]}
        inputs |= {"video_grid_thw": encoded["video_grid_thw"]}
        inputs |= {"second_per_grid_ts": torch.tensor([1.0] * len(clips))}  # 2 frames of half one
    if stills or clips:
        images, videos = (
            (ids == token).int() for token in (policy.image_token, policy.video_token)
        )
        inputs["mm_token_type_ids"] = images + 2 * videos
    if clips:
        inputs["position_ids"] = chained_positions(policy, inputs)
    return inputs


def chained_positions(policy: Policy, inputs: dict[str, Any]) -> Tensor:
    """Rope positions (3, 1, P) by transformers, a picture or clip at a time.

    Since 5.3 its own go on behind a clip's larger side, also where the clip lasts longer (ADR 9).
    So each part, text up to the end of a picture or clip, is asked about alone, and put behind the
    largest position of the part before it.
    """
    ids, kinds = inputs["input_ids"][0], inputs["mm_token_type_ids"][0]
    ends = [i + 1 for i in range(len(kinds) - 1) if kinds[i] > 0 and kinds[i + 1] == 0]
    names = {1: ("image_grid_thw", []), 2: ("video_grid_thw", ["second_per_grid_ts"])}
    seen = {1: 0, 2: 0}
    parts: list[Tensor] = []
    for start, end in pairwise([0, *ends, len(kinds)]):
        kind, given = int(kinds[start:end].max()), dict[str, Any]()
        if kind:
            grid, more = names[kind]
            for name in (grid, *more):
                given[name] = inputs[name][seen[kind] : seen[kind] + 1]
            seen[kind] += 1
        own, _ = policy.module.model.get_rope_index(
            ids[None, start:end], mm_token_type_ids=kinds[None, start:end], **given
        )
        parts.append(own + (int(parts[-1].max()) + 1 if parts else 0))
    return torch.cat(parts, dim=-1)


def frames_of(shown: Clip) -> Tensor:
    """A clip's frames as transformers' processors take them, (T, 3, height, width)."""
    frames = np.stack([np.asarray(frame) for frame in shown.frames])
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


def hf_logits(policy: Policy, asked: Request, completion: tuple[int, ...]) -> Tensor:
    """Logits (C, V) of a completion's tokens by transformers' own forward."""
    policy.module.model.rope_deltas = None
    out: Tensor = policy.module(**hf_inputs(policy, asked, completion), use_cache=False).logits
    n = len(asked.prompt.tokens)
    return out[0, n - 1 : n - 1 + len(completion)]
