"""Synthesis: make, verify, route, score difficulty, order (paper sections 2.1 and 2.2).

Every shard is a pure function of (source, seed, range) and is kept in the journal, so a killed
job goes on by shard, and several pods can share one. Splits are disjoint by sample and by picture;
the RLVR split comes in ascending difficulty when a model to measure it was given.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, cast

from m2r_train.api.datasynthesis import DataSynthesisSpec, Difficulty
from m2r_train.api.runspec import recipe
from m2r_train.core.difficulty import difficulty_of, drop_reason
from m2r_train.core.records import Sample
from m2r_train.core.rng import derive_seed
from m2r_train.data.parquet import read_shard, write_shard
from m2r_train.data.splits import deduplicate, route
from m2r_train.report.cards import CARD, dataset_card
from m2r_train.stages.cleaning import cleaned
from m2r_train.stages.context import Context
from m2r_train.stages.making import Shard, begin_worker, chain_fault, make_shard, shards_of
from m2r_train.stages.sharing import parts

_FILE_SAMPLES = 4096
_CHUNK = 256  # questions whose difficulty is measured at a time
_HEADER = b"\n"  # between a journal entry's counts (JSON) and its Parquet bytes


def run(ctx: Context) -> dict[str, Any]:
    """Make the dataset of ``spec``; publishes ``dataset/<split>/*.parquet`` and its manifest."""
    spec = cast("DataSynthesisSpec", ctx.run_spec.parsed_spec)
    shards = shards_of(spec.sources, spec.shards)
    chunks = -(-spec.outputs.rlvr // _CHUNK) if spec.difficulty else 0
    lessons = spec.shards if spec.generator.teaches else 0
    total = len(shards) + lessons + chunks
    ctx.restore_parts()
    _count(ctx, "verify", {"kept": 0, "dropped": 0})  # a rate sees what comes after a zero
    with ctx.running(total):
        counts: dict[str, Counter[str]] = {s.name: Counter() for s in spec.sources}
        samples = _made(ctx, spec, shards, total, counts)
        if ctx.place.helps and spec.difficulty is None and not lessons:
            return {"step": ctx.done or 0, "steps": total}
        samples += _given(ctx, spec, counts)
        unique = deduplicate(samples)
        usable, dropped = cleaned(ctx, spec, unique.kept)
        chains: dict[str, Any] = {}
        if lessons:
            from m2r_train.stages import teaching  # noqa: PLC0415 - torch, for this alone

            usable, counted = teaching.taught(ctx, spec, usable, len(shards), total)
            chains = {"teaching": counted, "prompts": teaching.prompts(spec)}
        if ctx.place.helps and spec.difficulty is None:
            return {"step": ctx.done or 0, "steps": total}
        splits = _route(spec, usable, ctx.seed)
        dropped.update(duplicate=len(unique.duplicates), conflicting=len(unique.conflicting))
        if spec.difficulty is not None:
            scored = _measured(ctx, spec, splits["rlvr"], len(shards) + lessons, total)
            if ctx.place.helps:
                return {"step": ctx.done or 0, "steps": total}
            splits["rlvr"], easy_or_hard = _keep_and_order(spec.difficulty, scored, ctx.seed)
            dropped.update(easy_or_hard)
        manifest = _manifest(ctx, counts, splits, dropped) | chains
        digest = ctx.publish("dataset", _files(splits, manifest))
    kept = {split: len(own) for split, own in splits.items()}
    _count(ctx, "route", {"kept": sum(kept.values()), "dropped": dropped.total()})
    return {
        "step": total,
        "steps": total,
        "datasetUri": f"{ctx.run.store.uri}/dataset",
        "digest": digest,
        "counts": {"kept": sum(kept.values()), **kept},
    }


def _count(ctx: Context, stage: str, made: Mapping[str, int]) -> None:
    """Count samples of a stage: those kept, and those dropped for whatever reason."""
    for outcome, n in made.items():
        if outcome != "made":
            told = "kept" if outcome == "kept" else "dropped"
            ctx.metrics.inc("m2r_synthesis_samples_total", n, stage=stage, outcome=told)


def _made(
    ctx: Context,
    spec: DataSynthesisSpec,
    shards: Sequence[Shard],
    total: int,
    counts: Mapping[str, Counter[str]],
) -> list[Sample]:
    """The samples of all shards in order; of a helper whose work ends here, of its own."""
    workers = max(1, min(spec.resources.cpu_threads, len(shards)))
    samples: dict[int, list[Sample]] = {}

    def make(numbers: Sequence[int]) -> Iterator[bytes]:
        with _pool(workers) as pool:
            jobs = [(spec.sources[s.source], ctx.seed, s.start, s.stop) for s in shards]
            pending = [pool.submit(make_shard, *jobs[k]) for k in numbers]
            for future in pending:
                try:
                    with ctx.phase("generate"):
                        parquet, made = future.result()
                except BrokenProcessPool:
                    ctx.leave_if_asked(len(samples))  # who stopped us has stopped the workers too
                    raise
                yield json.dumps(made, sort_keys=True).encode() + _HEADER + parquet

    for k, entry in parts(
        ctx,
        [f"s{k}/shard" for k in range(len(shards))],
        make,
        at_a_time=workers,
        all_of_them=spec.difficulty is not None or spec.generator.teaches,
    ):
        made, parquet = _split_entry(entry)
        counts[spec.sources[shards[k].source].name].update(made)
        _count(ctx, "verify", made)
        samples[k] = read_shard(parquet)
        ctx.show_step(len(samples), total, kept=sum(map(len, samples.values())))
    return [sample for k in sorted(samples) for sample in samples[k]]


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes, started afresh: a fork of a process with threads can deadlock.

    What they are still at when the block ends early is not waited for.
    """
    context = multiprocessing.get_context("spawn")
    until_closed, leash = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=begin_worker, initargs=(until_closed,)
    )
    try:
        yield pool
    except BaseException:
        leash.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        leash.close()
        until_closed.close()


def _split_entry(entry: bytes) -> tuple[dict[str, int], bytes]:
    counts, _, parquet = entry.partition(_HEADER)
    return json.loads(counts), parquet


def _given(
    ctx: Context, spec: DataSynthesisSpec, counts: Mapping[str, Counter[str]]
) -> list[Sample]:
    """Samples of the users' own sources, under the source's name."""
    out: list[Sample] = []
    for i, source in enumerate(spec.sources):
        if source.scenes is not None:
            own = ctx.scene_samples(f"sources[{i}].scenes", source.scenes, source.name)
        elif source.dataset is not None:
            own = ctx.samples(f"sources[{i}].dataset", source.dataset, "rlvr", source.name)
        else:
            continue
        counts[source.name].update({"made": len(own), "kept": len(own)})
        _count(ctx, "verify", {"kept": len(own)})
        out += [s.with_(source=source.name) for s in own]
    return out


def _route(
    spec: DataSynthesisSpec, samples: Sequence[Sample], seed: int
) -> dict[str, list[Sample]]:
    """Disjoint splits; a sample goes only where its source may, and to SFT only with a chain."""
    allowed = {source.name: set(source.splits) for source in spec.sources}

    def eligible(sample: Sample, split: str) -> bool:
        if split not in allowed[sample.source]:
            return False
        return split != "sft" or chain_fault(sample) is None

    outputs = spec.outputs
    sizes = {"sft": outputs.sft, "rlvr": outputs.rlvr, "eval": outputs.eval}
    wanted = {split: n for split, n in sizes.items() if n}
    return {"rlvr": [], **route(samples, wanted, seed, eligible=eligible)}


def _measured(
    ctx: Context, spec: DataSynthesisSpec, samples: Sequence[Sample], first: int, total: int
) -> list[tuple[Sample, list[float]]]:
    """Every sample with the accuracies of its rollouts, chunk by chunk."""
    from m2r_train.stages.measuring import Meter  # noqa: PLC0415 - torch, for this alone

    chunks = [samples[i : i + _CHUNK] for i in range(0, len(samples), _CHUNK)]
    assert spec.difficulty is not None
    meter = Meter(ctx, spec.difficulty)

    def make(numbers: Sequence[int]) -> Iterator[bytes]:
        for k in numbers:
            with ctx.phase("generate"):
                entry = json.dumps(meter.accuracies(chunks[k])).encode()
            yield entry

    measured: dict[int, list[list[float]]] = {}
    keys = [f"s{first + k}/difficulty" for k in range(len(chunks))]
    if spec.generator.endpoint is not None:  # it may answer otherwise on another day
        keys = [f"{key}-{_names(chunk)}" for key, chunk in zip(keys, chunks, strict=True)]
    for k, entry in parts(ctx, keys, make, all_of_them=False):
        measured[k] = json.loads(entry)
        ctx.show_step(first + len(measured), total, measured=sum(map(len, measured.values())))
    return [pair for k in sorted(measured) for pair in zip(chunks[k], measured[k], strict=True)]


def _names(samples: Sequence[Sample]) -> str:
    """A short digest of which samples these are."""
    return hashlib.sha256(json.dumps([s.id for s in samples]).encode()).hexdigest()[:16]


def _keep_and_order(
    difficulty: Difficulty, scored: Sequence[tuple[Sample, list[float]]], seed: int
) -> tuple[list[Sample], Counter[str]]:
    """Samples worth training on, in ascending difficulty; ties by a seeded hash of the id."""
    dropped: Counter[str] = Counter()
    kept: list[Sample] = []
    for sample, accuracies in scored:
        reason = drop_reason(
            sample.reward,
            accuracies,
            drop_unsolved=difficulty.drop_unsolved,
            drop_solved=difficulty.drop_solved,
        )
        if reason is not None:
            dropped[reason] += 1
            continue
        accuracy, hardness = difficulty_of(accuracies)
        kept.append(sample.with_(accuracy=accuracy, difficulty=hardness))
    kept.sort(key=lambda s: (s.difficulty, derive_seed(seed, "order", s.id), s.id))
    return kept, dropped


def _manifest(
    ctx: Context,
    counts: Mapping[str, Counter[str]],
    splits: Mapping[str, Sequence[Sample]],
    dropped: Counter[str],
) -> dict[str, Any]:
    return {
        "version": 1,
        "run": ctx.run_spec.metadata.name,
        "seed": ctx.seed,
        "spec": recipe(ctx.run_spec.parsed_spec),
        "inputs": {k: v.digest for k, v in ctx.run_spec.inputs.items()},
        "sources": {name: dict(sorted(c.items())) for name, c in counts.items()},
        "dropped": {reason: n for reason, n in sorted(dropped.items()) if n},
        "splits": {
            split: {
                "samples": len(own),
                "tasks": dict(sorted(Counter(s.task for s in own).items())),
            }
            for split, own in splits.items()
        },
    }


def _files(splits: Mapping[str, Sequence[Sample]], manifest: Mapping[str, Any]) -> dict[str, bytes]:
    files = {
        "manifest.json": (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode(),
        CARD: dataset_card(manifest).encode(errors="replace"),
    }
    for split, own in splits.items():
        for k, start in enumerate(range(0, len(own), _FILE_SAMPLES)):
            shard = own[start : start + _FILE_SAMPLES]
            files[f"{split}/{k:05d}.parquet"] = write_shard(shard)
    return files
