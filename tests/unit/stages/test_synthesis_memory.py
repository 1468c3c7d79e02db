"""Synthesis holds a shard in memory, not the job: the parts that see every sample."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from unit.data.folders import write_lines
from unit.data.photos import encoded
from unit.stages.test_teaching import context

from m2r_train.api.sources import Source
from m2r_train.core.records import Sample
from m2r_train.data import parquet, stash
from m2r_train.data.cleaning import Earlier, Hasher
from m2r_train.data.roster import repeats
from m2r_train.data.splits import deal
from m2r_train.stages import collecting, synthesize, teaching
from m2r_train.stages.gathering import Gathered
from m2r_train.stages.making import make_shard, shards_of
from m2r_train.store import LocalStore

SIDE = 64  # pixels: 12 KiB of noise a picture


def pictured(folder: Path, questions: int) -> None:
    """A dataset in which every question has a picture of its own, of noise."""
    folder.mkdir(parents=True)
    for n in range(questions):
        noise = np.random.default_rng(n).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        (folder / f"{n}.png").write_bytes(encoded(Image.fromarray(noise)))
    lines = [
        {"id": f"q{n}", "question": "What is it?", "answer": str(n), "image": f"{n}.png"}
        for n in range(questions)
    ]
    write_lines(folder / "own.jsonl", lines)


def peak(tmp_path: Path, questions: int) -> int:
    """Most bytes of Python objects until a dataset of so many pictures lies on disk."""
    home = tmp_path / str(questions)
    pictured(home / "own", questions)
    ctx = context(home, outputs={"sft": 0, "rlvr": questions - 9, "eval": 9})
    found: list[int] = []

    def probe(name: str) -> None:
        if name == "before-publish":  # which copies files by the megabyte
            found.append(tracemalloc.get_traced_memory()[1])

    ctx.probe = probe
    tracemalloc.start()
    try:
        synthesize.run(ctx)
    finally:
        tracemalloc.stop()
    return found[0]


def test_memory_does_not_grow_with_the_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stash, "RECENT_BYTES", 2**17)
    monkeypatch.setattr(parquet, "MAX_GROUP_BYTES", 2**17)
    peak(tmp_path, 10)  # imports
    few, many = peak(tmp_path, 40), peak(tmp_path, 140)
    assert many - few < 100 * 3 * SIDE**2 / 8  # the pictures are 100 * 3 * SIDE**2 bytes more


def test_a_sample_costs_less_than_200_bytes_of_memory(tmp_path: Path) -> None:
    """What is kept of it, and at the peak what de-duplication and routing hold beside."""
    count = 3000

    def one(n: int) -> Sample:
        return Sample(
            id=f"question-{n:09d}",
            domain="general",
            task="sums",
            source="".join(["o", "wn"]),  # read from a file, every text is an object of its own
            question=f"What is {n} + 3?",
            answer=str(n + 3),
            answer_type="number",
            reward="exact",
        )

    def through(samples: Gathered, sizes: dict[str, int], numbers: range) -> None:
        samples.put_all(map(one, numbers))
        kept = repeats(samples.roster, numbers).kept
        flags = {split: np.ones(len(kept), bool) for split in sizes}
        deal(samples.roster.pick(kept), sizes, 0, eligible=flags)

    with Gathered(tmp_path) as warm:
        through(warm, {"rlvr": 9}, range(10))
    with Gathered(tmp_path) as samples:
        tracemalloc.start()
        try:
            through(samples, {"rlvr": count - 100, "eval": 100}, range(count))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak / count < 200


def test_a_question_costs_near_duplicates_its_words_and_little_more() -> None:
    """Of 60 words that no other question has: 58 runs are 464 bytes."""
    count = 1500
    asked = [
        Sample(
            id=f"q{n}",
            domain="general",
            task="sums",
            source="own",
            question=" ".join(f"{n}.{k}" for k in range(30)),
            answer=str(n),
            answer_type="number",
            reward="exact",
        )
        for n in range(count)
    ]
    earlier = Earlier(Hasher(), similarity=0.8, distance=4)
    tracemalloc.start()
    try:
        assert not any(map(earlier.holds, asked))
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept / count < 464 + 350


def test_workers_are_not_far_ahead_of_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store slower than the workers must not fill memory with finished shards."""
    finished: list[int] = []
    ctx = context(
        tmp_path,
        sources=[{"name": "sums", "figures": {"tasks": ["Arithmetic"], "samples": 40}}],
        outputs={"sft": 0, "rlvr": 9},
        shards=20,
    )

    class Pool:
        def submit(self, make: Any, *job: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_result(make(*job))
            finished.append(1)
            return future

    @contextmanager
    def inline(_workers: int) -> Iterator[Pool]:
        yield Pool()

    kept: list[int] = []
    ahead: list[int] = []

    def probe(name: str) -> None:
        if name == "before-journal":
            ahead.append(len(finished) - len(kept))
            kept.append(1)

    ctx.probe = probe
    monkeypatch.setattr(collecting, "worker_pool", inline)
    synthesize.run(ctx)
    assert (len(kept), max(ahead)) == (20, 2 * ctx.run_spec.threads)


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({"figures": {"tasks": ["Arithmetic"], "samples": 10**6}}, 512),
        ({"figures": {"tasks": ["Arithmetic"], "samples": 10**6, "imageSize": 1024}}, 128),
        ({"simulator": {"tasks": ["Count"], "scenes": 10**5, "questionsPerScene": 8}}, 64),
        ({"simulator": {"tasks": ["RoomSize"], "scenes": 10**5, "video": True}}, 20),
    ],
)
def test_shards_of_a_large_source_are_more_and_not_larger(
    fields: dict[str, Any], most: int
) -> None:
    source = Source.model_validate({"name": "a", **fields})
    shards = shards_of([source], 4)
    assert 0.99 * most < max(s.stop - s.start for s in shards) <= most
    assert [s.start for s in shards[1:]] == [s.stop for s in shards[:-1]]


def test_the_cut_into_shards_changes_no_sample() -> None:
    source = Source.model_validate(
        {"name": "a", "figures": {"tasks": ["Arithmetic"], "samples": 7, "imageSize": 32}}
    )
    whole = parquet.read_shard(make_shard(source, 0, 0, 7)[0])
    cut = [
        parquet.read_shard(make_shard(source, 0, s.start, s.stop)[0])
        for s in shards_of([source], 3)
    ]
    assert [one for part in cut for one in part] == whole


def test_many_questions_are_taught_in_more_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    class Teacher:
        def write(self, samples: Sequence[Any]) -> list[list[str]]:
            seen.append(len(samples))
            answer = "<think>So it is.</think><answer>\\boxed{%s}</answer>"
            return [[answer % s.answer] for s in samples]

    monkeypatch.setattr(teaching, "_PART_QUESTIONS", 5)
    monkeypatch.setattr(teaching, "_teacher", lambda *_: Teacher())
    ctx = context(
        tmp_path,
        generator={"model": {"preset": "tiny"}},
        quality={"filter": "Off"},
        shards=2,
    )
    outcome = synthesize.run(ctx)
    assert (len(seen), sum(seen), max(seen)) == (5, 24, 5)
    assert (outcome["steps"], ctx.done) == (5, 5)
    manifest = json.loads((tmp_path / "run" / "dataset" / "manifest.json").read_text())
    assert manifest["teaching"]["questions"] == {"asked": 24, "taught": 24}


def test_a_resumed_run_reads_its_parts_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unit.stages import test_sharing as work

    first = work.context(tmp_path)
    assert len(list(work.parts(first, work.KEYS, work.Maker()))) == 7
    read: list[str] = []
    again = work.context(tmp_path)
    get = again.run.journal_get
    monkeypatch.setattr(again.run, "journal_get", lambda key: [read.append(key), get(key)][1])
    coming = work.parts(again, work.KEYS, work.Maker())
    assert next(coming) == (0, b"part 0")
    assert read == work.KEYS[:1]


def test_a_part_that_is_torn_in_the_journal_is_made_again(tmp_path: Path) -> None:
    from unit.stages import test_sharing as work

    list(work.parts(work.context(tmp_path), work.KEYS, work.Maker()))
    store = LocalStore(tmp_path)
    store.put("journal/e1/s3/part", store.get("journal/e1/s3/part").data[:-1])
    maker = work.Maker()
    assert list(work.parts(work.context(tmp_path), work.KEYS, maker)) == list(work.whole().items())
    assert maker.made == [3]
