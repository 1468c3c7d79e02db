"""A video is laid out and seen as transformers' own processor and model do it."""

from __future__ import annotations

import pytest
import torch
from transformers.video_utils import VideoMetadata
from unit.model.tinies import (
    chained_positions,
    clip,
    frames_of,
    hf_logits,
    picture,
    request,
    row,
    small_policy,
)

from m2r_train.core.packing import pack_rows
from m2r_train.model.policy import Policy
from m2r_train.model.sight import key_of
from m2r_train.model.vision import Clip, clip_grid, patchify_clip, seconds_per_grid, visual_tokens


@pytest.fixture(scope="module", params=[1, 2], ids=["merge1", "merge2"])
def policy(request: pytest.FixtureRequest) -> Policy:
    return small_policy(merge=request.param)


SIZES = [(16, 16), (37, 50), (13, 100), (64, 64), (200, 150), (9, 9)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("frames", [1, 2, 5, 8])
@pytest.mark.parametrize("cap", [False, True])
def test_grid_and_patches_are_the_processors(
    policy: Policy, size: tuple[int, int], frames: int, cap: bool
) -> None:
    """An odd last frame is shown twice; sizes are rounded; a long video may get smaller frames."""
    processor = policy.copy().processor.video_processor
    shown = clip(frames, *size)
    before = processor.cap_pixels_per_frame, processor.max_video_tokens
    try:
        processor.cap_pixels_per_frame, processor.max_video_tokens = cap, 40
        theirs = processor(
            videos=[frames_of(shown)],
            do_sample_frames=False,
            cap_pixels_per_frame=cap,
            return_tensors="pt",
        )
        patches, grid = patchify_clip(shown, processor)
        laid_out = clip_grid(frames, size, processor)
    finally:
        processor.cap_pixels_per_frame, processor.max_video_tokens = before
    assert list(grid) == theirs["video_grid_thw"][0].tolist()
    assert laid_out == grid
    assert torch.equal(patches, theirs["pixel_values_videos"])


def test_a_prompt_is_what_the_processor_makes_of_the_conversation(policy: Policy) -> None:
    """Tokens, kinds and times, pictures before the video."""
    still, shown = picture(37, 50), clip(5, 40, 24)
    asked = request(policy, "how many red?", still, shown)
    content = [{"type": "image"}, {"type": "video"}, {"type": "text", "text": "how many red?"}]
    text = policy.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    times = VideoMetadata(total_num_frames=5, fps=2.0, frames_indices=list(range(5)))
    encoded = policy.processor(
        text=[text],
        images=[still],
        videos=[frames_of(shown)],
        video_metadata=[times],
        return_tensors="pt",
    )
    assert encoded["input_ids"][0].tolist() == list(asked.prompt.tokens)
    grids = [*encoded["image_grid_thw"].tolist(), *encoded["video_grid_thw"].tolist()]
    assert [list(g) for g in asked.prompt.grids] == grids
    assert asked.prompt.grids[1][0] == 3
    assert encoded["second_per_grid_ts"].tolist() == [
        seconds_per_grid(policy.processor.video_processor)
    ]
    assert torch.equal(asked.prompt.positions, chained_positions(policy, encoded)[:, 0])
    assert asked.prompt.tokens[asked.prompt.prefix_length - 1] == policy.vision_end


def test_logits_are_those_of_transformers(policy: Policy) -> None:
    asked = request(policy, "how many?", picture(32, 16), clip(7, 32, 48))
    completion = (5, 3, 8, 1)
    with torch.no_grad():
        expected = hf_logits(policy, asked, completion)
        ours = policy.logits(pack_rows([row(asked.prompt, completion)]), policy.see(asked.images))
        swapped = Clip(asked.images[1].frames[::-1])  # type: ignore[union-attr]
        other = policy.logits(
            pack_rows([row(asked.prompt, completion)]), policy.see([asked.images[0], swapped])
        )
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=0)
    assert not torch.allclose(other, expected, atol=1e-3), "the order of frames must count"


def test_clips_of_one_size_go_through_the_tower_as_alone(policy: Policy) -> None:
    """Patches see those of their own temporal patch; equal grids are one batch."""
    shown = [clip(4, 32, 16, seed) for seed in range(3)]
    made = [patchify_clip(c, policy.processor.video_processor) for c in shown]
    visual = policy.module.model.visual
    with torch.no_grad():
        ours = visual_tokens(visual, [p for p, _ in made], [g for _, g in made])
        theirs = visual(
            torch.cat([p for p, _ in made]), grid_thw=torch.tensor([g for _, g in made])
        ).pooler_output
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(policy.see(shown), theirs, atol=2e-5, rtol=1e-4)


def test_a_clip_of_one_frame_is_not_the_picture() -> None:
    """They are laid out with different tokens."""
    still = picture(16, 16)
    assert key_of(still) != key_of(Clip((still,)))
    assert key_of(Clip((still, picture(16, 16, 1)))) != key_of(Clip((picture(16, 16, 1), still)))
