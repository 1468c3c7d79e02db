"""Samples that may not be trained on: what a benchmark holds, and what says the same again.

A pure function of the samples and the benchmarks: a resumed job, or a pod that helps, comes to the
same without having kept anything.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator

from m2r_train.api.datasynthesis import DataSynthesisSpec, Decontamination
from m2r_train.core.records import Sample
from m2r_train.data.cleaning import Benchmarks, Hasher, near_duplicates
from m2r_train.data.stash import Stash
from m2r_train.stages.context import Context


def cleaned(
    ctx: Context, spec: DataSynthesisSpec, stash: Stash, numbers: Iterable[int]
) -> tuple[array[int], Counter[str]]:
    """Which of these samples may be used, in order, and how many were dropped for what.

    ``benchmark-picture``, ``benchmark-question``, ``near-duplicate``; empty where the spec asks
    for no comparison.
    """
    dropped: Counter[str] = Counter()
    kept = array("q", numbers)
    hasher = Hasher()
    if spec.decontamination is not None:
        theirs = _benchmarks(ctx, spec.decontamination, hasher)
        reasons = [theirs.overlap(sample) for sample in stash.those(kept)]
        dropped.update(reason for reason in reasons if reason is not None)
        kept = array("q", (n for n, why in zip(kept, reasons, strict=True) if why is None))
    if (near := spec.near_duplicates) is not None:
        told = near_duplicates(
            stash.those(kept), hasher, similarity=near.similarity, distance=near.picture_distance
        )
        firsts = array("q", (n for n, (_, again) in zip(kept, told, strict=True) if not again))
        dropped["near-duplicate"] += len(kept) - len(firsts)
        kept = firsts
    return kept, dropped


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
