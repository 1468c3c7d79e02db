"""Samples that may not be trained on: what a benchmark holds, and what says the same again.

A pure function of the samples and the benchmarks: a resumed job, or a pod that helps, comes to the
same without having kept anything.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator

from m2r_train.api.cleaning import Benchmark, Decontamination
from m2r_train.api.datasynthesis import DataSynthesisSpec
from m2r_train.api.errors import DataError, naming
from m2r_train.api.evaljob import SHOWN_FRAMES
from m2r_train.benchmarks.base import RecordError
from m2r_train.benchmarks.registry import BENCHMARKS
from m2r_train.benchmarks.wording import problem_of, wordings
from m2r_train.core.overlap import Text
from m2r_train.data.cleaning import Benchmarks, Earlier, Hasher, Item, item_of
from m2r_train.data.published import Published, each_published
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
    def items() -> Iterator[Item]:
        for i, benchmark in enumerate(asked.against):
            path = f"decontamination.against[{i}].dataset"
            if benchmark.name in BENCHMARKS:
                yield from _published(ctx, path, benchmark)
            else:
                own = ctx.each_sample(path, benchmark.dataset, "eval", benchmark.name)
                yield from map(item_of, own)

    return Benchmarks(
        items(),
        hasher,
        words=asked.words,
        share=asked.share,
        distance=asked.picture_distance,
    )


def _published(ctx: Context, path: str, benchmark: Benchmark) -> Iterator[Item]:
    """What a copy of one of the eight benchmarks asks and shows, read as an evaluation reads it."""
    name, folder = benchmark.name, ctx.folder(path)
    records = pictures = 0
    with naming(f"spec.{path}"):
        for one in each_published(name, folder, benchmark.dataset.split, SHOWN_FRAMES):
            item = Item(_texts(name, one), (*one.images, *(one.video or ())))
            records += 1
            pictures += len(item.pictures)
            yield item
    ctx.progress.note(f"compared with {name}: {records} records, {pictures} pictures")


def _texts(name: str, one: Published) -> tuple[Text, ...]:
    try:
        asked = wordings(name, one.record)
    except RecordError as error:
        raise DataError(f"{one.place}: {error}") from error
    problem = problem_of(name, one.record)
    return tuple(Text(question=text, pictured=True, problem=problem) for text in asked)
