"""Shards of simulated and drawn samples: pure functions of (source, seed, range).

This module is what worker processes import, so it stays free of torch.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from pathlib import Path

from m2r_train.api.datasynthesis import DataSynthesisSpec
from m2r_train.api.sources import PICTURE_TASKS, Source
from m2r_train.core.records import Sample
from m2r_train.core.rewards import RewardConfig, score
from m2r_train.core.rng import derive_seed
from m2r_train.data.annotated import ask_about_scenes
from m2r_train.data.parquet import write_shard
from m2r_train.sim import generate, generate_scene_questions
from m2r_train.sim.apartment import image_samples, video_samples

_STRICT = RewardConfig()
_MOST_PIXELS = 2**27  # of all pictures of a shard: its samples are in memory together
_MOST_QUESTIONS = 512
_REAL_PIXELS = 2**20  # what a frame of an annotated scene is taken for


@dataclass(frozen=True, slots=True)
class Shard:
    """Items ``start`` to ``stop`` of source number ``source``."""

    source: int
    start: int
    stop: int


def begin_worker(leash: Connection) -> None:
    """Set a worker process up: Ctrl-C is its parent's business, and it ends when its parent ends.

    It ends too, whatever it is at, when the other end of ``leash`` is closed. Without this a
    killed parent leaves workers behind that wait for work for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(leash,), daemon=True).start()


def _end_with_parent(leash: Connection) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel, leash])
        os._exit(1)


def shards_of(
    sources: Iterable[Source], count: int, scenes: Mapping[int, int] | None = None
) -> list[Shard]:
    """Every made source, and annotated scenes, cut into about ``count`` shards in all, in order,
    none empty.

    Into more where a shard would be large: what is in memory does not grow with the job.
    ``scenes`` says how many there are, by the number of their source.
    """
    sources = list(sources)
    annotated = scenes or {}
    sizes = {
        i: annotated[i] if s.scenes is not None else _items(s)
        for i, s in enumerate(sources)
        if s.dataset is None and (s.scenes is None or i in annotated)
    }
    total = sum(sizes.values())
    shards: list[Shard] = []
    for i, n in sizes.items():
        own = max(1, min(n, round(count * n / total)), -(-n // _most_items(sources[i])))
        edges = [n * k // own for k in range(own + 1)]
        shards += [Shard(i, a, b) for a, b in pairwise(edges)]
    return shards


def _most_items(source: Source) -> int:
    """Scenes or figures that a shard of the source holds at most."""
    if (real := source.scenes) is not None:
        pixels = _REAL_PIXELS * real.frames
        each = any(task in PICTURE_TASKS for task in real.tasks)
        questions = real.questions_per_scene * (real.frames if each else 1)
    elif (rooms := source.simulator) is None:
        assert source.figures is not None
        pixels, questions = source.figures.image_size**2, 1
    else:
        pixels = rooms.image_size**2 * (rooms.frames if rooms.video else 1)
        questions = rooms.questions_per_scene
        if rooms.tasks[0] in PICTURE_TASKS:
            pixels *= questions  # pictures with marks are each question's own
    return max(1, min(_MOST_PIXELS // pixels, _MOST_QUESTIONS // questions))


def judged_after(spec: DataSynthesisSpec) -> bool:
    """Whether all chains are written before the first is judged: by a model in the run's pods."""
    return spec.quality.judge is not None and spec.quality.judge.model is not None


def make_shard(source: Source, seed: int, start: int, stop: int) -> tuple[bytes, dict[str, int]]:
    """Parquet of the shard's verified samples, and counts (``made``, ``kept``, dropped reasons)."""
    own = derive_seed(seed, "source", source.name)
    made = (sample for index in range(start, stop) for sample in _make(source, own, index))
    named = (s.with_(id=f"{source.name}-{s.id}", source=source.name) for s in made)
    return _verified(named)


def ask_shard(
    source: Source, seed: int, start: int, stop: int, folder: Path
) -> tuple[bytes, dict[str, int], dict[str, str]]:
    """The same of annotated scenes ``start`` to ``stop`` of a folder, and their files by name."""
    real = source.scenes
    assert real is not None
    names: dict[str, str] = {}
    asked = ask_about_scenes(
        folder,
        real.tasks,
        derive_seed(seed, "source", source.name),
        source.name,
        wanted=real.questions_per_scene,
        most_frames=real.frames,
        part=range(start, stop),
        names=names,
    )
    return *_verified(asked), names


def _verified(samples: Iterable[Sample]) -> tuple[bytes, dict[str, int]]:
    counts: Counter[str] = Counter()
    kept: list[Sample] = []
    for sample in samples:
        counts["made"] += 1
        reason = chain_fault(sample)
        counts[reason or "kept"] += 1
        if reason is None:
            kept.append(sample)
    return write_shard(kept), dict(counts)


def chain_fault(sample: Sample) -> str | None:
    """Why a sample's chain cannot be taught: ``no-chain``, ``format``, ``answer``; None if it can.

    The same rules as the reward: format valid, extracted answer equal to the truth.
    """
    if sample.chain is None:
        return "no-chain"
    reward = score(sample.task, "exact", sample.answer, sample.answer_type, sample.chain, _STRICT)
    if reward.format != 1.0:
        return "format"
    return None if reward.task == 1.0 else "answer"


def _items(source: Source) -> int:
    if source.simulator is not None:
        return source.simulator.scenes
    assert source.figures is not None
    return source.figures.samples


def _make(source: Source, seed: int, index: int) -> tuple[Sample, ...]:
    if source.simulator is not None:
        rooms = source.simulator
        if rooms.video:
            return video_samples(
                rooms.tasks,
                seed,
                index,
                rooms.questions_per_scene,
                image_size=rooms.image_size,
                frames=rooms.frames,
            )
        if rooms.tasks[0] in PICTURE_TASKS:
            return image_samples(
                rooms.tasks,
                seed,
                index,
                rooms.questions_per_scene,
                image_size=rooms.image_size,
            )
        return generate_scene_questions(
            rooms.tasks,
            seed,
            index,
            rooms.questions_per_scene,
            image_size=rooms.image_size,
            min_objects=rooms.min_objects,
            max_objects=rooms.max_objects,
        )
    assert source.figures is not None
    figures = source.figures
    task = figures.tasks[index % len(figures.tasks)]
    return (generate(task, seed, index, image_size=figures.image_size),)
