"""Difficulty of the RLVR split: measured by a model, and the order that follows (section 2.2)."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Generator, Sequence

import numpy as np

from m2r_train.api.chains import Difficulty
from m2r_train.api.datasynthesis import DataSynthesisSpec
from m2r_train.core.difficulty import difficulty_of, drop_reason
from m2r_train.core.records import Sample
from m2r_train.data.splits import seeded
from m2r_train.stages.context import Context
from m2r_train.stages.gathering import Gathered, Numbers
from m2r_train.stages.sharing import parts
from m2r_train.stages.tallying import count

_CHUNK = 256  # questions whose difficulty is measured at a time


class Measured:
    """(accuracy, difficulty) of samples, by their numbers: sixteen bytes each of ``count``."""

    def __init__(self, count: int) -> None:
        self.values = np.full((count, 2), np.nan)

    def __contains__(self, number: int) -> bool:
        return not np.isnan(self.values[number, 0])

    def __setitem__(self, number: int, value: tuple[float, float]) -> None:
        self.values[number] = value

    def __getitem__(self, number: int) -> tuple[float, float]:
        accuracy, difficulty = self.values[number].tolist()
        return accuracy, difficulty


def chunk_count(samples: int) -> int:
    """Parts of work that measuring so many samples is."""
    return -(-samples // _CHUNK)


def measured_difficulty(
    ctx: Context,
    spec: DataSynthesisSpec,
    samples: Gathered,
    numbers: Sequence[int],
    first: int,
    total: int,
    dropped: Counter[str],
) -> Measured:
    """Accuracy and difficulty of each sample worth training on; the others are counted."""
    from m2r_train.stages.measuring import Meter  # noqa: PLC0415 - torch, for this alone

    chunks = [numbers[i : i + _CHUNK] for i in range(0, len(numbers), _CHUNK)]
    assert spec.difficulty is not None
    meter = Meter(ctx, spec.difficulty)

    def make(wanted: Sequence[int]) -> Generator[bytes, None, None]:
        for k in wanted:
            with ctx.phase("generate"):
                accuracies = meter.accuracies(list(samples.those(chunks[k])))
            yield json.dumps(accuracies).encode()

    out = Measured(len(samples))
    keys = [f"s{first + k}/difficulty" for k in range(len(chunks))]
    if spec.generator.endpoint is not None:  # it may answer otherwise on another day
        ids = samples.roster.ids
        named = [_names([ids[n] for n in chunk]) for chunk in chunks]
        keys = [f"{key}-{name}" for key, name in zip(keys, named, strict=True)]
    seen = 0
    for done, (k, entry) in enumerate(parts(ctx, keys, make, all_of_them=False), start=1):
        kept = 0
        for number, accuracies in zip(chunks[k], json.loads(entry), strict=True):
            reason = _drop_reason(spec.difficulty, samples[number], accuracies)
            if reason is None:
                out[number] = difficulty_of(accuracies)
                kept += 1
            else:
                dropped[reason] += 1
        count(ctx, "difficulty", len(chunks[k]), kept)
        seen += len(chunks[k])
        ctx.show_step(first + done, total, measured=seen)
    return out


def in_order(samples: Gathered, numbers: Sequence[int], measured: Measured, seed: int) -> Numbers:
    """Those that were kept, in ascending difficulty; ties by a seeded hash of the id."""
    index = np.asarray(numbers, np.int64)
    kept = index[~np.isnan(measured.values[index, 1])]
    hashes = seeded(seed, "order", samples.roster.ids.pick(kept), len(kept))
    return array("q", kept[np.lexsort((hashes, measured.values[kept, 1]))].tobytes())


def _drop_reason(difficulty: Difficulty, sample: Sample, accuracies: list[float]) -> str | None:
    return drop_reason(
        sample.reward,
        accuracies,
        drop_unsolved=difficulty.drop_unsolved,
        drop_solved=difficulty.drop_solved,
    )


def _names(ids: Sequence[str]) -> str:
    """A short digest of which samples these are."""
    return hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()[:16]
