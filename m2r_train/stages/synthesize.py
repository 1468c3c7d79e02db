"""Synthesis: make, verify, route, score difficulty, order (paper sections 2.1 and 2.2).

Every shard is a pure function of (source, seed, range) and is kept in the journal, so a killed
job goes on by shard. Splits are disjoint by sample and by picture; the RLVR split comes in
ascending difficulty when a model to measure it was given.
"""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, cast

from m2r_train.api.datasynthesis import DataSynthesisSpec, Difficulty
from m2r_train.core.difficulty import difficulty_of, drop_reason
from m2r_train.core.records import Sample
from m2r_train.core.rewards import RewardConfig, score
from m2r_train.core.rng import derive_seed
from m2r_train.data.parquet import read_shard, write_shard
from m2r_train.data.splits import deduplicate, route
from m2r_train.rollout.base import SamplingParams
from m2r_train.stages.context import Context
from m2r_train.stages.feeding import lay_out, request
from m2r_train.stages.making import Shard, begin_worker, chain_fault, make_shard, shards_of
from m2r_train.stages.rollouts import rollout_engine

_FILE_SAMPLES = 4096
_CHUNK = 256  # questions whose difficulty is measured at a time
_HEADER = b"\n"  # between a journal entry's counts (JSON) and its Parquet bytes


def run(ctx: Context) -> dict[str, Any]:
    """Make the dataset of ``spec``; publishes ``dataset/<split>/*.parquet`` and its manifest."""
    spec = cast("DataSynthesisSpec", ctx.run_spec.parsed_spec)
    shards = shards_of(spec.sources, spec.shards)
    chunks = -(-spec.outputs.rlvr // _CHUNK) if spec.difficulty else 0
    total = len(shards) + chunks
    with ctx.progress.stage("DataSynthesisJob", ctx.run_spec.metadata.name, total):
        counts: dict[str, Counter[str]] = {s.name: Counter() for s in spec.sources}
        samples: list[Sample] = []
        for done, (shard, entry) in enumerate(_made(ctx, spec, shards), start=1):
            made, parquet = _split_entry(entry)
            counts[spec.sources[shard.source].name].update(made)
            samples += read_shard(parquet)
            ctx.show_step(done, total, kept=len(samples))
            ctx.leave_if_asked(done)
        samples += _given(ctx, spec, counts)
        unique = deduplicate(samples)
        splits = _route(spec, unique.kept, ctx.seed)
        dropped: Counter[str] = Counter(
            {"duplicate": len(unique.duplicates), "conflicting": len(unique.conflicting)}
        )
        if spec.difficulty is not None:
            scored = _measure(ctx, spec.difficulty, splits["rlvr"], len(shards), total)
            splits["rlvr"], easy_or_hard = _keep_and_order(spec.difficulty, scored, ctx.seed)
            dropped.update(easy_or_hard)
        manifest = _manifest(ctx, counts, splits, dropped)
        digest = ctx.publish("dataset", _files(splits, manifest))
    kept = {split: len(own) for split, own in splits.items()}
    _count(ctx, counts, dropped, kept)
    return {
        "step": total,
        "steps": total,
        "datasetUri": f"{ctx.run.store.uri}/dataset",
        "digest": digest,
        "counts": {"kept": sum(kept.values()), **kept},
    }


def _count(
    ctx: Context,
    counts: Mapping[str, Counter[str]],
    dropped: Counter[str],
    kept: Mapping[str, int],
) -> None:
    for own in counts.values():
        for outcome, n in own.items():
            if outcome != "made":
                ctx.metrics.inc(
                    "m2r_synthesis_samples_total",
                    n,
                    stage="verify",
                    outcome="kept" if outcome == "kept" else "dropped",
                )
    for outcome, n in (("kept", sum(kept.values())), ("dropped", dropped.total())):
        ctx.metrics.inc("m2r_synthesis_samples_total", n, stage="route", outcome=outcome)


def _made(
    ctx: Context, spec: DataSynthesisSpec, shards: Sequence[Shard]
) -> Iterator[tuple[Shard, bytes]]:
    """Each shard's entry in order: from the journal, or made by a worker and put there."""
    workers = max(1, min(spec.resources.cpu_threads, len(shards)))
    kept = [ctx.run.journal_get(f"s{k}/shard") for k in range(len(shards))]
    with _pool(workers, needed=any(entry is None for entry in kept)) as pool:
        pending: dict[int, Future[tuple[bytes, dict[str, int]]]] = {
            k: pool.submit(make_shard, spec.sources[s.source], ctx.seed, s.start, s.stop)
            for k, s in enumerate(shards)
            if kept[k] is None and pool is not None
        }
        for k, shard in enumerate(shards):
            entry = kept[k]
            if entry is None:
                try:
                    with ctx.phase("generate"):
                        parquet, made = pending.pop(k).result()
                except BrokenProcessPool:
                    ctx.leave_if_asked(k)  # whoever stopped us has stopped the workers too
                    raise
                entry = json.dumps(made, sort_keys=True).encode() + _HEADER + parquet
                ctx.probe("before-journal")
                ctx.run.journal_put(f"s{k}/shard", entry)
            yield shard, entry


@contextmanager
def _pool(workers: int, *, needed: bool) -> Iterator[Any]:
    """Worker processes, started afresh: a fork of a process with threads can deadlock."""
    if not needed:
        yield None
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=begin_worker)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _split_entry(entry: bytes) -> tuple[dict[str, int], bytes]:
    counts, _, parquet = entry.partition(_HEADER)
    return json.loads(counts), parquet


def _given(
    ctx: Context, spec: DataSynthesisSpec, counts: Mapping[str, Counter[str]]
) -> list[Sample]:
    """Samples of the users' own sources, under the source's name."""
    out: list[Sample] = []
    for i, source in enumerate(spec.sources):
        if source.dataset is None:
            continue
        own = ctx.samples(f"sources[{i}].dataset", source.dataset, "rlvr", source.name)
        counts[source.name].update({"made": len(own), "kept": len(own)})
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


def _measure(
    ctx: Context, difficulty: Difficulty, samples: Sequence[Sample], first: int, total: int
) -> list[tuple[Sample, list[float]]]:
    """Accuracies of every sample's rollouts by the difficulty model, chunk by chunk."""
    policy = ctx.policy("difficulty.model", difficulty.model)
    engine = rollout_engine("inprocess", policy)
    params = SamplingParams(
        difficulty.rollouts, difficulty.temperature, difficulty.max_completion_tokens
    )
    rewards = RewardConfig()
    out: list[tuple[Sample, list[float]]] = []
    for number, start in enumerate(range(0, len(samples), _CHUNK), start=first):
        chunk = samples[start : start + _CHUNK]
        kept = ctx.run.journal_get(f"s{number}/difficulty")
        if kept is None:
            with ctx.phase("generate"):
                requests = [
                    request(p, s) for p, s in zip(lay_out(policy, chunk), chunk, strict=True)
                ]
                seeds = [derive_seed(ctx.seed, "difficulty", s.id) for s in chunk]
                groups = engine.generate(requests, seeds, params)
                measured = [
                    [
                        score(
                            s.task,
                            s.reward,
                            s.answer,
                            s.answer_type,
                            policy.decode(c.tokens),
                            rewards,
                        ).accuracy
                        for c in group
                    ]
                    for s, group in zip(chunk, groups, strict=True)
                ]
            kept = json.dumps(measured).encode()
            ctx.probe("before-journal")
            ctx.run.journal_put(f"s{number}/difficulty", kept)
        out += list(zip(chunk, json.loads(kept), strict=True))
        ctx.show_step(number + 1, total, measured=len(out))
        ctx.leave_if_asked(number + 1)
    return out


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
        "spec": ctx.run_spec.spec,
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
    files = {"manifest.json": (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()}
    for split, own in splits.items():
        for k, start in enumerate(range(0, len(own), _FILE_SAMPLES)):
            shard = own[start : start + _FILE_SAMPLES]
            files[f"{split}/{k:05d}.parquet"] = write_shard(shard)
    return files
