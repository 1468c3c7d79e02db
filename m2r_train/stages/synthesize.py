"""Synthesis: make, verify, route, score difficulty, order (paper sections 2.1 and 2.2).

A killed job goes on by part (a shard, a chunk of difficulty), and several pods can share one.
Splits are disjoint by sample and by picture; the RLVR split comes in ascending difficulty when a
model to measure it was given.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np

from m2r_train.api.datasynthesis import DataSynthesisSpec
from m2r_train.api.sources import ALL_SPLITS
from m2r_train.data.annotated import scene_files
from m2r_train.data.roster import Roster, repeats
from m2r_train.data.splits import Flags, deal_by_weight
from m2r_train.stages import tallying, teaching
from m2r_train.stages.cleaning import cleaned
from m2r_train.stages.collecting import given_samples, made_samples, scene_folders
from m2r_train.stages.context import Context
from m2r_train.stages.datasetfiles import write_dataset
from m2r_train.stages.gathering import Gathered, Numbers
from m2r_train.stages.hardness import Measured, chunk_count, in_order, measured_difficulty
from m2r_train.stages.making import shards_of


def run(ctx: Context) -> dict[str, Any]:
    """Make the dataset of ``spec``; publishes ``dataset/<split>/*.parquet`` and its manifest.

    Samples lie on disk (``ctx.cache_dir``): memory holds a shard, and of each sample what routing
    needs, less than 200 bytes.
    """
    spec = cast("DataSynthesisSpec", ctx.run_spec.parsed_spec)
    folders = scene_folders(ctx, spec)
    sizes = {i: len(scene_files(folder)) for i, folder in folders.items()}
    shards = shards_of(spec.sources, spec.shards, sizes)
    chunks = chunk_count(spec.outputs.rlvr) if spec.difficulty else 0
    lessons = teaching.lesson_count(spec)  # at least
    total = len(shards) + lessons + chunks
    ctx.restore_parts()
    tallying.begin(ctx, spec)
    with ctx.running(total), Gathered(ctx.cache_dir) as samples:
        counts: dict[str, Counter[str]] = {s.name: Counter() for s in spec.sources}
        numbers = made_samples(ctx, spec, shards, folders, total, counts, samples)
        if ctx.place.helps and spec.difficulty is None and not lessons:
            return {"step": ctx.done or 0, "steps": total}
        numbers += given_samples(ctx, spec, counts, samples)
        dropped: Counter[str] = Counter()
        usable = cleaned(ctx, spec, samples, _unique(samples, numbers, dropped), dropped)
        chains: dict[str, Any] = {}
        if lessons:
            asked = teaching.pupils(spec, samples, usable)
            lessons = teaching.lesson_count(spec, len(asked))
            ctx.expect(total := len(shards) + lessons + chunks)
            counted = teaching.taught(ctx, spec, asked, samples, len(shards), total)
            chains = {"teaching": counted, "prompts": teaching.prompts(spec)}
        if ctx.place.helps and spec.difficulty is None:
            return {"step": ctx.done or 0, "steps": total}
        splits = _route(spec, samples, usable, ctx.seed)
        routed = len(numbers)
        measured = Measured(0)
        if spec.difficulty is not None:
            routed -= len(splits["rlvr"])
            measured = measured_difficulty(
                ctx, spec, samples, splits["rlvr"], len(shards) + lessons, total, dropped
            )
            if ctx.place.helps:
                return {"step": ctx.done or 0, "steps": total}
            splits["rlvr"] = in_order(samples, splits["rlvr"], measured, ctx.seed)
            routed += len(splits["rlvr"])
        del usable, numbers
        samples.roster = Roster()  # all are dealt; writing is where memory is highest
        with TemporaryDirectory(prefix="m2r-dataset-", dir=ctx.cache_dir) as folder:
            write_dataset(Path(folder), ctx, samples, splits, measured, counts, dropped, chains)
            digest = ctx.publish("dataset", Path(folder))
    kept = {split: len(own) for split, own in splits.items()}
    tallying.count(ctx, "route", routed, sum(kept.values()))
    return {
        "step": total,
        "steps": total,
        "datasetUri": f"{ctx.run.store.uri}/dataset",
        "digest": digest,
        "counts": {"kept": sum(kept.values()), **kept},
    }


def _unique(samples: Gathered, numbers: Numbers, dropped: Counter[str]) -> Numbers:
    """Those that nothing before them asks as well, in order; the others are counted."""
    found = repeats(samples.roster, numbers)
    dropped.update(duplicate=len(found.duplicates), conflicting=len(found.conflicting))
    return array("q", (numbers[i] for i in found.kept))


def _route(
    spec: DataSynthesisSpec, samples: Gathered, usable: Sequence[int], seed: int
) -> dict[str, Numbers]:
    """Disjoint splits; a sample goes only where its source may, and to SFT only with a chain."""
    feeding: dict[str, list[str]] = {
        split: [source.name for source in spec.sources if split in source.splits]
        for split in ALL_SPLITS
    }
    roster = samples.roster.pick(usable)
    sound = np.frombuffer(roster.sound, bool)

    def eligible(split: str) -> Flags:
        flags = roster.sources.among(feeding[split])
        return flags & sound if split == "sft" else flags

    outputs = spec.outputs
    sizes: dict[str, int] = {"sft": outputs.sft, "rlvr": outputs.rlvr, "eval": outputs.eval}
    wanted = {split: n for split, n in sizes.items() if n}
    dealt = deal_by_weight(
        roster,
        wanted,
        seed,
        eligible={split: eligible(split) for split in wanted},
        weights={source.name: source.weight for source in spec.sources},
        feeding=feeding,
    )
    splits: dict[str, Numbers] = {"rlvr": array("q")}
    return splits | {split: array("q", (usable[i] for i in rows)) for split, rows in dealt.items()}
