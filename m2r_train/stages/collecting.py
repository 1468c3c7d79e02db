"""Collecting: the samples of a synthesis job, from its worker processes and the users' datasets.

Every shard is a pure function of (source, seed, range) and is kept in the journal, so a killed
job goes on by shard, and several pods can share one.
"""

from __future__ import annotations

import json
import multiprocessing
from array import array
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeAlias

from m2r_train.api.datasynthesis import DataSynthesisSpec
from m2r_train.api.errors import DataError, naming
from m2r_train.data.annotated import no_question, same_name, scene_files
from m2r_train.data.parquet import read_shard
from m2r_train.data.user import LeftOut
from m2r_train.report.funnel import RECORD_REASONS
from m2r_train.stages.context import Context
from m2r_train.stages.gathering import Gathered, Numbers
from m2r_train.stages.making import Shard, ask_shard, begin_worker, make_shard
from m2r_train.stages.sharing import parts
from m2r_train.stages.tallying import count

_AHEAD = 2  # shards that a worker may be ahead of the journal: they are in memory
_HEADER = b"\n"  # between a journal entry's counts (JSON) and its Parquet bytes

Made: TypeAlias = tuple[bytes, dict[str, int]] | tuple[bytes, dict[str, int], dict[str, str]]


def scene_folders(ctx: Context, spec: DataSynthesisSpec) -> dict[int, Path]:
    """Where the annotated scenes of each source lie, by its number; each has one at least."""
    found = {}
    for i, source in enumerate(spec.sources):
        if source.scenes is not None:
            folder = found[i] = ctx.folder(f"sources[{i}].scenes")
            with naming(f"spec.sources[{i}].scenes"):
                scene_files(folder)
    return found


def made_samples(
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
        with worker_pool(workers) as pool:
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
        count(ctx, "verify", counted.get("made", 0), counted.get("kept", 0))
        made[k] = samples.put_all(read_shard(parquet))
        ctx.show_step(len(made), total, kept=len(samples))
    if not ctx.place.helps:
        scenes.check(counts)
    return array("q", (number for k in sorted(made) for number in made[k]))


def given_samples(
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
        count(ctx, "collect", made, len(numbers))
        count(ctx, "verify", len(numbers), len(numbers))
        out.extend(numbers)
    return out


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
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
