"""Shards are pure: any cut, any process, the same samples; and no chain that would teach errors."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.model.tinies import sample

from m2r_train.api.sources import Source
from m2r_train.core.records import Sample
from m2r_train.data.parquet import read_shard
from m2r_train.stages.making import Shard, begin_worker, chain_fault, make_shard, shards_of


def rooms(name: str = "rooms", scenes: int = 6, **more: Any) -> Source:
    simulator = {
        "tasks": ["ObjectCount", "AbsoluteDistance", "RelativeDepth"],
        "scenes": scenes,
        "questionsPerScene": 2,
        "imageSize": 32,
        "maxObjects": 4,
    }
    return Source.model_validate({"name": name, "simulator": {**simulator, **more}})


def charts(name: str = "charts", samples: int = 6) -> Source:
    figures = {"tasks": ["BarChart", "Arithmetic"], "samples": samples, "imageSize": 32}
    return Source.model_validate({"name": name, "figures": figures})


def dataset(name: str = "own") -> Source:
    return Source.model_validate({"name": name, "dataset": {"uri": "file:///data"}})


@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any),
    count=st.integers(1, 64),
)
def test_shards_cover_every_item_once_and_none_is_empty(sizes: list[int], count: int) -> None:
    """A size of 0 stands for a user's own dataset, which is not made."""
    sources = [
        dataset(f"s{i}") if n == 0 else (rooms if i % 2 else charts)(f"s{i}", n)
        for i, n in enumerate(sizes)
    ]
    shards = shards_of(sources, count)
    items = [(s.source, k) for s in shards for k in range(s.start, s.stop)]
    assert items == [(i, k) for i, n in enumerate(sizes) for k in range(n)]
    assert all(s.stop > s.start for s in shards)


def test_shards_are_about_as_many_as_asked_for_and_of_equal_size() -> None:
    shards = shards_of([rooms(scenes=300), charts(samples=100)], 8)
    assert [s.stop - s.start for s in shards] == [50] * 8
    assert shards[6:] == [Shard(1, 0, 50), Shard(1, 50, 100)]


def test_only_own_datasets_leave_nothing_to_make() -> None:
    assert shards_of([dataset()], 8) == []


@pytest.mark.parametrize("source", [rooms(), charts()], ids=["rooms", "charts"])
def test_samples_do_not_depend_on_how_they_are_cut(source: Source) -> None:
    whole, counts = make_shard(source, 3, 0, 6)
    parts = [make_shard(source, 3, a, b) for a, b in [(0, 1), (1, 4), (4, 6)]]
    made = read_shard(whole)
    assert [s for data, _ in parts for s in read_shard(data)] == made
    assert {k: sum(c.get(k, 0) for _, c in parts) for k in counts} == counts
    assert counts["kept"] == len(made) > 0
    assert sum(counts.values()) == 2 * counts["made"]
    assert len({s.id for s in made}) == len(made)
    for s in made:
        assert s.source == source.name
        assert s.id.startswith(f"{source.name}-")
        assert chain_fault(s) is None


def test_seeds_and_names_make_different_pictures() -> None:
    base = read_shard(make_shard(rooms(), 3, 0, 3)[0])
    for other in (make_shard(rooms(), 4, 0, 3), make_shard(rooms("halls"), 3, 0, 3)):
        images = {s.images for s in read_shard(other[0])}
        assert images.isdisjoint(s.images for s in base)


def test_a_shard_is_the_same_in_another_process() -> None:
    """Another process has another hash seed, and this is how the stage makes shards."""
    jobs = [(rooms(), 3, 0, 4), (charts(), 3, 0, 4)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        made = [pool.submit(make_shard, *job) for job in jobs]
        assert [f.result() for f in made] == [make_shard(*job) for job in jobs]


def endless(begun: Any) -> None:
    """Work that never ends by itself."""
    begun.set()
    while True:
        time.sleep(1)


def test_a_worker_ends_in_the_middle_of_its_work_when_its_leash_is_closed() -> None:
    context = multiprocessing.get_context("spawn")
    held, leash = context.Pipe(duplex=False)
    with context.Manager() as manager:
        begun = manager.Event()
        with ProcessPoolExecutor(
            1, mp_context=context, initializer=begin_worker, initargs=(held,)
        ) as pool:
            work = pool.submit(endless, begun)
            assert begun.wait(120)
            leash.close()
            with pytest.raises(BrokenProcessPool):
                work.result(120)


def said(answer: str, think: str = "so 3") -> str:
    return f"<think>{think}</think><answer>\\boxed{{{answer}}}</answer>"


NUMERIC = {"answer": "2.5", "reward": "ednm"}
CHOICE = {"answer": "B", "answer_type": "choice", "options": ("red", "blue")}
CASES: list[tuple[str, dict[str, Any], str | None, str | None]] = [
    ("there is no chain", {}, None, "no-chain"),
    ("the chain is right", {}, said("3"), None),
    ("the number is written otherwise", {}, said("3.0"), None),
    ("the answer is wrong", {}, said("4"), "answer"),
    ("nothing is in the box", {}, said(""), "answer"),
    ("the tags are missing", {}, "3", "format"),
    ("the chain is empty", {}, "", "format"),
    ("the thinking does not end", {}, "<think>so 3<answer>\\boxed{3}</answer>", "format"),
    ("the answer comes twice", {}, said("3") + said("3"), "format"),
    ("a measured number is exact", NUMERIC, said("2.5"), None),
    ("a measured number is only near", NUMERIC, said("2.4"), "answer"),
    ("the letter is right", CHOICE, said("B"), None),
    ("the letter is wrong", CHOICE, said("A"), "answer"),
]


@pytest.mark.parametrize(
    ("fields", "chain", "fault"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_what_is_wrong_with_a_chain(
    fields: dict[str, Any], chain: str | None, fault: str | None
) -> None:
    made: Sample = sample(chain=chain, **fields)
    assert chain_fault(made) == fault
