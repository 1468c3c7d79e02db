"""Samples that may not be trained on: what a benchmark holds, and what says the same again.

A pure function of the samples and the benchmarks: a resumed job, or a pod that helps, comes to the
same without having kept anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from m2r_train.api.datasynthesis import DataSynthesisSpec, Decontamination
from m2r_train.core.records import Sample
from m2r_train.data.cleaning import Benchmarks, Hasher, near_duplicates
from m2r_train.stages.context import Context


def cleaned(
    ctx: Context, spec: DataSynthesisSpec, samples: Sequence[Sample]
) -> tuple[list[Sample], Counter[str]]:
    """The samples that may be used, in order, and how many were dropped for what.

    ``benchmark-picture``, ``benchmark-question``, ``near-duplicate``; empty where the spec asks
    for no comparison.
    """
    dropped: Counter[str] = Counter()
    kept = list(samples)
    hasher = Hasher()
    if spec.decontamination is not None:
        theirs = _benchmarks(ctx, spec.decontamination, hasher)
        reasons = [theirs.overlap(sample) for sample in kept]
        dropped.update(reason for reason in reasons if reason is not None)
        kept = [s for s, reason in zip(kept, reasons, strict=True) if reason is None]
    if (near := spec.near_duplicates) is not None:
        told = near_duplicates(
            kept, hasher, similarity=near.similarity, distance=near.picture_distance
        )
        firsts = [sample for sample, again in told if not again]
        dropped["near-duplicate"] += len(kept) - len(firsts)
        kept = firsts
    return kept, dropped


def _benchmarks(ctx: Context, asked: Decontamination, hasher: Hasher) -> Benchmarks:
    def items() -> Iterator[Sample]:
        for i, benchmark in enumerate(asked.against):  # one of them in memory at a time
            path = f"decontamination.against[{i}].dataset"
            yield from ctx.samples(path, benchmark.dataset, "eval", benchmark.name)

    return Benchmarks(
        items(),
        hasher,
        words=asked.words,
        share=asked.share,
        distance=asked.picture_distance,
    )
