"""Samples that may not be trained on: what a benchmark holds, and what says the same again.

A pure function of the samples and the benchmarks: a resumed job, or a pod that helps, comes to the
same without having kept anything.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator

from m2r_train.api.datasynthesis import DataSynthesisSpec, Decontamination
from m2r_train.core.records import Sample
from m2r_train.data.cleaning import Benchmarks, Earlier, Hasher
from m2r_train.data.stash import Stash
from m2r_train.stages.context import Context


def cleaned(
    ctx: Context,
    spec: DataSynthesisSpec,
    stash: Stash,
    numbers: array[int],
    dropped: Counter[str],
) -> array[int]:
    """Which of these samples may be used, in order; all where the spec asks for no comparison.

    The others are counted in ``dropped``: ``benchmark-picture``, ``benchmark-question``,
    ``near-duplicate``. Each sample is read once, and each of its pictures decoded once.
    """
    if spec.decontamination is None and spec.near_duplicates is None:
        return numbers
    hasher = Hasher()
    theirs = earlier = None
    if (asked := spec.decontamination) is not None:
        theirs = _benchmarks(ctx, asked, hasher)
    if (near := spec.near_duplicates) is not None:
        earlier = Earlier(hasher, similarity=near.similarity, distance=near.picture_distance)
    kept = array("q")
    for number in numbers:
        sample = stash[number]
        why = None if theirs is None else theirs.overlap(sample)
        if why is None and earlier is not None and earlier.holds(sample):
            why = "near-duplicate"
        if why is None:
            kept.append(number)
        else:
            dropped[why] += 1
    return kept


def _benchmarks(ctx: Context, asked: Decontamination, hasher: Hasher) -> Benchmarks:
    def items() -> Iterator[Sample]:
        for i, benchmark in enumerate(asked.against):
            path = f"decontamination.against[{i}].dataset"
            yield from ctx.each_sample(path, benchmark.dataset, "eval", benchmark.name)

    return Benchmarks(
        items(),
        hasher,
        words=asked.words,
        share=asked.share,
        distance=asked.picture_distance,
    )
