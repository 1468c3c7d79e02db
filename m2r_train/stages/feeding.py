"""From samples to rows and batches: what the training stages are fed with.

Everything here is a pure function of (samples, seed, step), so that a resumed run is fed the same.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from m2r_train.api.errors import DataError
from m2r_train.core.packing import Branch, Row
from m2r_train.core.records import Sample
from m2r_train.core.rng import derive_seed
from m2r_train.data.images import decode, upright_size
from m2r_train.model.policy import Extent, Policy, Prompt, Request
from m2r_train.model.prompts import SYSTEM_PROMPT
from m2r_train.model.vision import Clip, Grid, Picture

_LAYOUT_CHUNK = 512


def lay_out(
    policy: Policy, samples: Sequence[Sample], system: str | None = SYSTEM_PROMPT
) -> list[Prompt]:
    """Prompts of samples, tokenised in chunks (a tokenizer is faster on many texts).

    ``system`` is the system turn; None: without. Raises ``DataError`` for a video whose frames
    differ in size.
    """
    prompts: list[Prompt] = []
    for i in range(0, len(samples), _LAYOUT_CHUNK):
        chunk = samples[i : i + _LAYOUT_CHUNK]
        prompts += policy.lay_out(chunk, [_extents(sample) for sample in chunk], system)
    return prompts


def _extents(sample: Sample) -> list[Extent]:
    """Sizes of a sample's pictures and of its clip, from the files' headers."""
    extents = [Extent(upright_size(data)) for data in sample.images]
    if sample.video is not None:
        sizes = [upright_size(data) for data in sample.video]
        odd = next((i for i, size in enumerate(sizes) if size != sizes[0]), None)
        if odd is not None:
            raise DataError(
                f"sample {sample.id!r}: video: frame {odd + 1} is {_size(sizes[odd])} pixels, the "
                f"first is {_size(sizes[0])}; give all frames one size"
            )
        extents.append(Extent(sizes[0], len(sizes)))
    return extents


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def request(prompt: Prompt, sample: Sample) -> Request:
    """What a rollout engine gets: the prompt and the decoded pictures."""
    return Request(prompt, shown(sample.images, sample.video))


def shown(images: Sequence[bytes], video: Sequence[bytes] | None) -> tuple[Picture, ...]:
    """Decoded pictures and then the clip: the order of a prompt's placeholders."""
    pictures = stills(images)
    return pictures if video is None else (*pictures, Clip(stills(video)))


def stills(images: Sequence[bytes]) -> tuple[Image.Image, ...]:
    """Decoded pictures, in order."""
    return tuple(decode(data) for data in images)


@dataclass(frozen=True, slots=True)
class Lesson:
    """Questions about the same pictures, or the same video: one row of an SFT batch."""

    row: Row
    images: tuple[bytes, ...]
    video: tuple[bytes, ...] | None = None
    grids: tuple[Grid, ...] = ()  # of the pictures, then of the video


def lessons(policy: Policy, samples: Sequence[Sample], most: int = 4) -> list[Lesson]:
    """Group samples that share their pictures (at most ``most`` a row), in order of appearance.

    The row's prefix is the prompt up to the end of the pictures; a branch is the question and
    the assistant's turn, of which the turn alone is scored. Samples without a chain answer
    directly: ``<answer>\\boxed{answer}</answer>`` would teach to skip thinking, so they are refused
    upstream.
    """
    open_groups: dict[tuple[tuple[int, ...], bytes], list[int]] = {}
    groups: list[list[int]] = []
    prompts = lay_out(policy, samples)
    for i, (sample, prompt) in enumerate(zip(samples, prompts, strict=True)):
        prefix = prompt.tokens[: prompt.prefix_length]
        files = (*sample.images, *(sample.video or ()))
        digest = hashlib.sha256(b"".join(hashlib.sha256(x).digest() for x in files))
        key = (prefix, digest.digest())
        group = open_groups.get(key)
        if group is None or len(group) >= most or not files:
            group = open_groups[key] = []
            groups.append(group)
        group.append(i)
    return [_lesson(policy, [samples[i] for i in g], [prompts[i] for i in g]) for g in groups]


def _lesson(policy: Policy, samples: Sequence[Sample], prompts: Sequence[Prompt]) -> Lesson:
    first = prompts[0]
    branches = []
    for sample, prompt in zip(samples, prompts, strict=True):
        question = prompt.tokens[prompt.prefix_length :]
        if sample.chain is None:
            raise AssertionError(f"sample {sample.id} has no chain to learn from")
        turn = policy.text_tokens(sample.chain)
        branches.append(Branch((*question, *turn), scored_from=len(question)))
    n = first.prefix_length
    row = Row(first.tokens[:n], first.positions[:, :n], tuple(branches))
    return Lesson(row, samples[0].images, samples[0].video, first.grids)


def epoch_batches(lengths: Sequence[int], budget: int, seed: int, epoch: int) -> list[list[int]]:
    """Indexes of one epoch in seeded order, cut into batches of at most ``budget`` tokens.

    An item longer than the budget makes a batch of its own.
    """
    generator = np.random.default_rng(derive_seed(seed, "epoch", epoch))
    batches: list[list[int]] = []
    used = budget + 1
    for index in generator.permutation(len(lengths)).tolist():
        if used + lengths[index] > budget:
            batches.append([])
            used = 0
        batches[-1].append(index)
        used += lengths[index]
    return batches


def sft_batches(
    lengths: Sequence[int], budget: int, *, epochs: float, steps: int | None, seed: int
) -> list[list[int]]:
    """The batches of a whole run: ``steps`` of them, or as many as ``epochs`` give.

    Whole epochs show every item, whatever number of batches each of them needs; of a fraction,
    that share of the next epoch's batches. At least one batch. Raises ValueError without items.
    """
    if not lengths:
        raise ValueError("no items to make batches of")
    batches: list[list[int]] = []
    epoch = 0
    while len(batches) < steps if steps is not None else epoch < epochs:
        one = epoch_batches(lengths, budget, seed, epoch)
        share = 1.0 if steps is not None else min(1.0, epochs - epoch)
        batches += one[: round(share * len(one)) or (0 if batches else 1)]
        epoch += 1
    return batches if steps is None else batches[:steps]


def micro_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indexes of rows in bins of at most ``budget`` tokens: best fit, the longest row first.

    Only lengths are asked for, so no image is decoded. A row longer than the budget makes a bin of
    its own. Inside a bin the longest go first: neighbours of like length are cheap to attend to
    (``core.attention``).
    """
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, bin), sorted
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        at = bisect_left(room, (lengths[index], -1))
        if at == len(room):
            bins.append([])
            left, own = budget, len(bins) - 1
        else:
            left, own = room.pop(at)
        bins[own].append(index)
        insort(room, (left - lengths[index], own))
    return bins
