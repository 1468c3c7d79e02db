"""Reads a dataset for its page: counts of everything, and a few samples of every task.

Two passes over a folder of our own layout: the first reads text alone and keeps counts and places,
the second the pictures of the samples that are shown. Memory is bounded by one row group, not by
the dataset. Which samples are shown is a function of the dataset's seed and its samples' ids.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from m2r_train.api.errors import DataError
from m2r_train.core.records import Sample
from m2r_train.core.rng import derive_seed
from m2r_train.data.parquet import is_own_layout, one_sample, text_rows
from m2r_train.report.funnel import Manifest

MAX_SHOWN = 48
SCORES = ("structure", "load", "verification")
_NEEDED = ("id", "task", "question", "answer", "domain", "source", "answer_type", "reward")
KINDS = ("domain", "source", "answer_type", "reward")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a sample lies; ``key`` is its random number, by which places are ordered."""

    key: int
    file: str
    group: int
    row: int


@dataclass(slots=True)
class Survey:
    """Counts over all samples; ``shown`` are (split, sample) in the order of the page."""

    samples: int = 0
    chains: int = 0
    pictured: int = 0
    filmed: int = 0
    size: int = 0  # bytes of the Parquet files
    tasks: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, Counter[str]] = field(default_factory=lambda: {k: Counter() for k in KINDS})
    letters: Counter[str] = field(default_factory=Counter)  # answers to choices, if one letter
    question_lengths: Counter[int] = field(default_factory=Counter)  # in characters
    chain_lengths: Counter[int] = field(default_factory=Counter)
    difficulties: Counter[float] = field(default_factory=Counter)  # rounded to 1/1000
    scores: dict[str, Counter[int]] = field(default_factory=lambda: {k: Counter() for k in SCORES})
    shown: list[tuple[str, Sample]] = field(default_factory=list)

    def count(self, split: str, row: Mapping[str, Any]) -> None:
        """Counts one sample, given without its pictures' bytes."""
        self.samples += 1
        self.splits[split] += 1
        self.tasks[row["task"]] += 1
        for kind in KINDS:
            self.kinds[kind][row[kind]] += 1
        self.pictured += bool(row["images"])
        self.filmed += row["video"] is not None
        self.question_lengths[len(row["question"])] += 1
        if row["answer_type"] == "choice" and len(row["answer"]) == 1:
            self.letters[row["answer"]] += 1
        if row["chain"] is not None:
            self.chains += 1
            self.chain_lengths[len(row["chain"])] += 1
        if row["difficulty"] is not None:
            self.difficulties[round(row["difficulty"], 3)] += 1
        for name, score in (row["quality"] or {}).items():
            self.scores[name][score] += 1


def survey(folder: Path, manifest: Manifest, *, shown: int = MAX_SHOWN) -> Survey:
    """Everything a page tells of the dataset in ``folder``, whose manifest is ``manifest``.

    Raises:
        DataError: a file of another layout, or not as many samples as the manifest has.
    """
    found = Survey()
    places: dict[str, dict[str, list[Place]]] = {}
    for split in manifest.splits:
        for path in sorted((folder / split).glob("*.parquet")):
            found.size += path.stat().st_size
            for place, row in _rows(folder, path, manifest.seed):
                found.count(split, row)
                best = places.setdefault(row["task"], {}).setdefault(split, [])
                _offer(best, place, shown)
    for split, n in manifest.splits.items():
        if found.splits[split] != n:
            raise DataError(
                f"{folder}: split {split!r} has {found.splits[split]} samples, manifest.json says "
                f"{n}; copy the dataset again"
            )
    order = [task for task, _ in found.tasks.most_common()]
    chosen = _chosen([places[task] for task in order], shown)
    found.shown = _read(folder, chosen)
    return found


def _rows(folder: Path, path: Path, seed: int) -> Iterator[tuple[Place, dict[str, Any]]]:
    name = path.relative_to(folder).as_posix()
    with _open(path, name) as file:
        for group in range(file.num_row_groups):
            for at, row in enumerate(text_rows(file, group)):
                if any(row[column] is None for column in _NEEDED):
                    raise DataError(f"{name}: a sample without its fields; make the dataset again")
                yield Place(derive_seed(seed, "show", row["id"]), name, group, at), row


@contextmanager
def _open(path: Path, name: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file of our own layout; whatever is wrong with it is one line with its name."""
    try:
        with pq.ParquetFile(path) as file:
            if not is_own_layout(file.schema_arrow):
                raise DataError(
                    f"{name}: columns {file.schema_arrow.names} are not those of a sample file; "
                    "a report shows datasets that a DataSynthesisJob made"
                )
            yield file
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{name}: not a readable Parquet file ({' '.join(str(error).split())[:160]}); copy "
            "the dataset again"
        ) from error


def _offer(best: list[Place], place: Place, limit: int) -> None:
    """Keeps the ``limit`` places with the lowest keys, as a heap of their negatives."""
    turned = Place(-place.key, place.file, place.group, place.row)
    if len(best) < limit:
        heapq.heappush(best, turned)
    else:
        heapq.heappushpop(best, turned)


def _chosen(tasks: Sequence[Mapping[str, list[Place]]], limit: int) -> list[Place]:
    """Tasks in turn, and within a task its splits in turn, until there are ``limit``."""
    queues = [_in_turn([sorted(own, reverse=True) for own in task.values()]) for task in tasks]
    taken: list[list[Place]] = [[] for _ in queues]
    left = limit
    for turn in range(limit):
        for place, queue in enumerate(queues):
            if left and turn < len(queue):
                taken[place].append(queue[turn])
                left -= 1
    return [one for own in taken for one in own]


def _in_turn(lists: Sequence[Sequence[Place]]) -> list[Place]:
    most = max(map(len, lists), default=0)
    return [one[turn] for turn in range(most) for one in lists if turn < len(one)]


def _read(folder: Path, chosen: Sequence[Place]) -> list[tuple[str, Sample]]:
    """The samples with their pictures, each file opened once."""
    samples: dict[Place, Sample] = {}
    for name in sorted({place.file for place in chosen}):
        with _open(folder / name, name) as file:
            for place in chosen:
                if place.file == name:
                    try:
                        samples[place] = one_sample(file, place.group, place.row)
                    except (TypeError, ValueError) as error:
                        raise DataError(
                            f"{name}: not a sample ({error}); make the dataset again"
                        ) from error
    return [(place.file.partition("/")[0], samples[place]) for place in chosen]
