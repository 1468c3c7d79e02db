"""Synthesis: make, verify, route, score difficulty, order (paper sections 2.1 and 2.2).

Every shard is a pure function of (source, seed, range) and is kept in the journal, so a killed
job goes on by shard, and several pods can share one. Splits are disjoint by sample and by picture;
the RLVR split comes in ascending difficulty when a model to measure it was given.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from array import array
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias, cast

import numpy as np

from m2r_train.api.datasynthesis import ALL_SPLITS, DataSynthesisSpec, Difficulty
from m2r_train.api.errors import DataError, naming
from m2r_train.api.runspec import recipe
from m2r_train.core.difficulty import difficulty_of, drop_reason
from m2r_train.core.records import Sample
from m2r_train.data.annotated import no_question, same_name, scene_files
from m2r_train.data.parquet import read_shard, write_file
from m2r_train.data.roster import repeats
from m2r_train.data.splits import Flags, deal, seeded
from m2r_train.data.user import LeftOut
from m2r_train.report.cards import CARD, dataset_card
from m2r_train.report.funnel import RECORD_REASONS
from m2r_train.stages import teaching
from m2r_train.stages.cleaning import cleaned
from m2r_train.stages.context import Context
from m2r_train.stages.gathering import Gathered
from m2r_train.stages.making import Shard, ask_shard, begin_worker, make_shard, shards_of
from m2r_train.stages.sharing import parts

_FILE_SAMPLES = 4096
_CHUNK = 256  # questions whose difficulty is measured at a time
_AHEAD = 2  # shards that a worker may be ahead of the journal: they are in memory
_HEADER = b"\n"  # between a journal entry's counts (JSON) and its Parquet bytes

Made: TypeAlias = tuple[bytes, dict[str, int]] | tuple[bytes, dict[str, int], dict[str, str]]
Numbers: TypeAlias = "array[int]"  # eight bytes each: a list would need forty


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


def run(ctx: Context) -> dict[str, Any]:
    """Make the dataset of ``spec``; publishes ``dataset/<split>/*.parquet`` and its manifest.

    Samples lie on disk (``ctx.cache_dir``): memory holds a shard, and of each sample what routing
    needs, less than 200 bytes.
    """
    spec = cast("DataSynthesisSpec", ctx.run_spec.parsed_spec)
    folders = _scene_folders(ctx, spec)
    sizes = {i: len(scene_files(folder)) for i, folder in folders.items()}
    shards = shards_of(spec.sources, spec.shards, sizes)
    chunks = -(-spec.outputs.rlvr // _CHUNK) if spec.difficulty else 0
    lessons = teaching.lesson_count(spec)  # at least
    total = len(shards) + lessons + chunks
    ctx.restore_parts()
    _count(ctx, "verify", {"kept": 0, "dropped": 0})  # a rate sees what comes after a zero
    with ctx.running(total), Gathered(ctx.cache_dir) as samples:
        counts: dict[str, Counter[str]] = {s.name: Counter() for s in spec.sources}
        numbers = _made(ctx, spec, shards, folders, total, counts, samples)
        if ctx.place.helps and spec.difficulty is None and not lessons:
            return {"step": ctx.done or 0, "steps": total}
        numbers += _given(ctx, spec, counts, samples)
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
        measured = Measured(0)
        if spec.difficulty is not None:
            measured = _measured(
                ctx, spec, samples, splits["rlvr"], len(shards) + lessons, total, dropped
            )
            if ctx.place.helps:
                return {"step": ctx.done or 0, "steps": total}
            splits["rlvr"] = _in_order(samples, splits["rlvr"], measured, ctx.seed)
        with TemporaryDirectory(prefix="m2r-dataset-", dir=ctx.cache_dir) as folder:
            _write(Path(folder), ctx, samples, splits, measured, counts, dropped, chains)
            digest = ctx.publish("dataset", Path(folder))
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
    folders: Mapping[int, Path],
    total: int,
    counts: Mapping[str, Counter[str]],
    samples: Gathered,
) -> Numbers:
    """Numbers of all shards' samples in order; of a helper whose work ends here, of its own."""
    workers = max(1, min(spec.resources.cpu_threads, len(shards)))
    made: dict[int, range] = {}
    scenes = _SceneNames(spec, folders)

    def make(numbers: Sequence[int]) -> Generator[bytes, None, None]:
        jobs = [_job(spec, ctx.seed, shard, folders) for shard in shards]
        with _pool(workers) as pool:
            pending: deque[Future[Made]] = deque()
            for at in range(len(numbers)):
                ahead = numbers[at + len(pending) : at + _AHEAD * workers]
                pending += [pool.submit(*jobs[k]) for k in ahead]
                try:
                    with ctx.phase("generate"), _telling(shards[numbers[at]], folders):
                        parquet, counted, *names = pending.popleft().result()
                except BrokenProcessPool:
                    ctx.leave_if_asked(len(made))  # who stopped us has stopped the workers too
                    raise
                head = {**counted, "scenes": names[0]} if names else counted
                yield json.dumps(head, sort_keys=True).encode() + _HEADER + parquet

    for k, entry in parts(
        ctx,
        [f"s{k}/shard" for k in range(len(shards))],
        make,
        at_a_time=workers,
        all_of_them=spec.difficulty is not None or spec.generator.teaches,
    ):
        counted, parquet = _split_entry(entry)
        scenes.note(shards[k].source, counted.pop("scenes", {}))
        counts[spec.sources[shards[k].source].name].update(counted)
        _count(ctx, "verify", counted)
        made[k] = samples.put_all(read_shard(parquet))
        ctx.show_step(len(made), total, kept=len(samples))
    if not ctx.place.helps:
        scenes.check(counts)
    return array("q", (number for k in sorted(made) for number in made[k]))


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


def _scene_folders(ctx: Context, spec: DataSynthesisSpec) -> dict[int, Path]:
    """Where the annotated scenes of each source lie, by its number; each has one at least."""
    found = {}
    for i, source in enumerate(spec.sources):
        if source.scenes is not None:
            folder = found[i] = ctx.folder(f"sources[{i}].scenes")
            with naming(f"spec.sources[{i}].scenes"):
                scene_files(folder)
    return found


def _job(
    spec: DataSynthesisSpec, seed: int, shard: Shard, folders: Mapping[int, Path]
) -> tuple[Any, ...]:
    """What a worker is to call, and with what."""
    job = (spec.sources[shard.source], seed, shard.start, shard.stop)
    folder = folders.get(shard.source)
    return (make_shard, *job) if folder is None else (ask_shard, *job, folder)


def _telling(shard: Shard, folders: Mapping[int, Path]) -> AbstractContextManager[None]:
    """What is wrong with a scene is told with the field that names its folder."""
    path = f"spec.sources[{shard.source}].scenes"
    return naming(path) if shard.source in folders else nullcontext()


class _SceneNames:
    """What no shard of annotated scenes can see alone: two of one name, none with a question."""

    def __init__(self, spec: DataSynthesisSpec, folders: Mapping[int, Path]) -> None:
        self._spec, self._folders = spec, folders
        self._files: dict[int, list[tuple[str, str]]] = {i: [] for i in folders}  # file, name

    def note(self, source: int, names: Mapping[str, str]) -> None:
        """The scenes of a shard: their files by name."""
        if names:
            self._files[source] += [(file, name) for name, file in names.items()]

    def check(self, counts: Mapping[str, Counter[str]]) -> None:
        """Raises DataError; whatever the order in which shards came, for the same scene."""
        for i, files in self._files.items():
            source = self._spec.sources[i]
            assert source.scenes is not None
            with naming(f"spec.sources[{i}].scenes"):
                first: dict[str, str] = {}
                for file, name in sorted(files):
                    if (other := first.setdefault(name, file)) != file:
                        raise DataError(f"{file}: {same_name(name, other)}")
                if not counts[source.name]["made"]:
                    raise no_question(len(scene_files(self._folders[i])), source.scenes.tasks)


def _split_entry(entry: bytes) -> tuple[dict[str, Any], bytes]:
    counts, _, parquet = entry.partition(_HEADER)
    return json.loads(counts), parquet


def _given(
    ctx: Context,
    spec: DataSynthesisSpec,
    counts: Mapping[str, Counter[str]],
    samples: Gathered,
) -> Numbers:
    """Numbers of the samples of the users' own datasets, under the source's name.

    Records that cannot be read count as made, and as dropped for what is wrong with them.
    """
    out: Numbers = array("q")
    for i, source in enumerate(spec.sources):
        bad = LeftOut()
        if source.dataset is None:
            continue
        path = f"sources[{i}].dataset"
        own = ctx.each_sample(path, source.dataset, "rlvr", source.name, bad)
        numbers = samples.put_all(s.with_(source=source.name) for s in own)
        unread = {RECORD_REASONS[kind]: n for kind, n in sorted(bad.kinds.items())}
        made = len(numbers) + len(bad)
        counts[source.name].update({"made": made, "kept": len(numbers), **unread})
        _count(ctx, "collect", {"kept": len(numbers), **unread})
        _count(ctx, "verify", {"kept": len(numbers)})
        out.extend(numbers)
    return out


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
    dealt = deal(roster, wanted, seed, eligible={split: eligible(split) for split in wanted})
    splits: dict[str, Numbers] = {"rlvr": array("q")}
    return splits | {split: array("q", (usable[i] for i in rows)) for split, rows in dealt.items()}


def _measured(
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
        for number, accuracies in zip(chunks[k], json.loads(entry), strict=True):
            reason = _drop_reason(spec.difficulty, samples[number], accuracies)
            if reason is None:
                out[number] = difficulty_of(accuracies)
            else:
                dropped[reason] += 1
        seen += len(chunks[k])
        ctx.show_step(first + done, total, measured=seen)
    return out


def _drop_reason(difficulty: Difficulty, sample: Sample, accuracies: list[float]) -> str | None:
    return drop_reason(
        sample.reward,
        accuracies,
        drop_unsolved=difficulty.drop_unsolved,
        drop_solved=difficulty.drop_solved,
    )


def _in_order(samples: Gathered, numbers: Sequence[int], measured: Measured, seed: int) -> Numbers:
    """Those that were kept, in ascending difficulty; ties by a seeded hash of the id."""
    index = np.asarray(numbers, np.int64)
    kept = index[~np.isnan(measured.values[index, 1])]
    hashes = seeded(seed, "order", samples.roster.ids.pick(kept), len(kept))
    return array("q", kept[np.lexsort((hashes, measured.values[kept, 1]))].tobytes())


def _names(ids: Sequence[str]) -> str:
    """A short digest of which samples these are."""
    return hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()[:16]


def _write(
    folder: Path,
    ctx: Context,
    samples: Gathered,
    splits: Mapping[str, Sequence[int]],
    measured: Measured,
    counts: Mapping[str, Counter[str]],
    dropped: Counter[str],
    chains: Mapping[str, Any],
) -> None:
    """The files of ``dataset/``, one row group in memory at a time."""
    spec = cast("DataSynthesisSpec", ctx.run_spec.parsed_spec)
    tasks: dict[str, Counter[str]] = {split: Counter() for split in splits}

    def row(split: str, number: int) -> Sample:
        sample = samples[number]
        tasks[split][sample.task] += 1
        if split != "rlvr" or spec.difficulty is None:
            return sample
        accuracy, hardness = measured[number]
        return sample.with_(accuracy=accuracy, difficulty=hardness)

    for split, own in splits.items():
        for k, start in enumerate(range(0, len(own), _FILE_SAMPLES)):
            rows = (row(split, n) for n in own[start : start + _FILE_SAMPLES])
            write_file(folder / split / f"{k:05d}.parquet", rows)
    manifest = {**_manifest(ctx, counts, tasks, dropped), **chains}
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    (folder / CARD).write_text(dataset_card(manifest), encoding="utf-8", errors="replace")


def _manifest(
    ctx: Context,
    counts: Mapping[str, Counter[str]],
    tasks: Mapping[str, Counter[str]],
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
            split: {"samples": own.total(), "tasks": dict(sorted(own.items()))}
            for split, own in tasks.items()
        },
    }
