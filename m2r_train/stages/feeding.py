"""From samples to rows and batches: what the training stages are fed with.

Everything here is a pure function of (samples, seed, step), so that a resumed run is fed the same.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from m2r_train.api.errors import DataError
from m2r_train.core.packing import Branch, Row
from m2r_train.core.records import Sample
from m2r_train.core.rng import derive_seed
from m2r_train.data.images import decode, upright_size
from m2r_train.model.policy import Policy, Prompt, Request

_LAYOUT_CHUNK = 512


def lay_out(policy: Policy, samples: Sequence[Sample]) -> list[Prompt]:
    """Prompts of samples, tokenised in chunks (a tokenizer is faster on many texts).

    Raises ``DataError`` for a sample with a video: laid out without one, it would teach to guess.
    """
    for sample in samples:
        if sample.video is not None:
            raise DataError(
                f"sample {sample.id!r} has a video, which this version cannot show to a model; "
                "leave it out of the dataset, or give frames as images"
            )
    prompts: list[Prompt] = []
    for i in range(0, len(samples), _LAYOUT_CHUNK):
        chunk = samples[i : i + _LAYOUT_CHUNK]
        prompts += policy.lay_out(chunk, [[upright_size(data) for data in s.images] for s in chunk])
    return prompts


def request(prompt: Prompt, sample: Sample) -> Request:
    """What a rollout engine gets: the prompt and the decoded pictures."""
    return Request(prompt, tuple(decode(data) for data in sample.images))


@dataclass(frozen=True, slots=True)
class Lesson:
    """Questions about the same pictures: one row of an SFT batch."""

    row: Row
    images: tuple[bytes, ...]


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
        digest = hashlib.sha256(b"".join(hashlib.sha256(x).digest() for x in sample.images))
        key = (prefix, digest.digest())
        group = open_groups.get(key)
        if group is None or len(group) >= most or not sample.images:
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
    return Lesson(row, samples[0].images)


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
