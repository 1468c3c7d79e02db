"""Samples on disk come back as they were, and memory does not hold them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2r_train.api.errors import ConfigError
from m2r_train.core.records import Quality, Sample
from m2r_train.data import stash as stashes
from m2r_train.data.stash import RecentFiles, Stash

texts = st.text(st.characters(), max_size=20)  # half pairs of surrogates among them
pictures = st.binary(max_size=40)
samples = st.builds(
    Sample,
    id=texts,
    domain=st.sampled_from(["general", "spatial"]),
    task=texts,
    source=texts,
    question=texts,
    answer=texts,
    answer_type=st.sampled_from(["choice", "number"]),
    reward=st.sampled_from(["exact", "ednm"]),
    images=st.lists(pictures, max_size=3).map(tuple),
    video=st.none() | st.lists(pictures, max_size=3).map(tuple),
    options=st.none() | st.lists(texts, max_size=3).map(tuple),
    unit=st.none() | texts,
    chain=st.none() | texts,
    quality=st.none()
    | st.builds(Quality, structure=st.integers(0, 5), load=st.just(1), verification=st.just(2)),
    accuracy=st.none() | st.floats(0, 1),
    difficulty=st.none() | st.floats(0, 1),
)


@given(st.lists(samples, max_size=8), st.data())
def test_samples_come_back_as_they_were_also_after_some_were_replaced(
    tmp_path_factory: pytest.TempPathFactory, those: list[Sample], data: st.DataObject
) -> None:
    with Stash(tmp_path_factory.getbasetemp()) as stash:
        assert [stash.put(one) for one in those] == list(range(len(those)))
        assert [stash[n] for n in range(len(stash))] == those
        if those:
            at = data.draw(st.integers(0, len(those) - 1))
            those[at] = data.draw(samples)
            stash.replace(at, those[at])
        assert list(stash.those(range(len(those)))) == those


def test_nothing_lies_in_the_folder_that_a_kill_could_leave(tmp_path: Path) -> None:
    with Stash(tmp_path / "new") as stash:
        stash.put(Sample(**_FIELDS, images=(b"picture",)))
        assert list((tmp_path / "new").iterdir()) == []


def test_a_picture_shared_with_a_sample_shortly_before_is_stored_once(tmp_path: Path) -> None:
    with Stash(tmp_path) as stash:
        for n in range(9):
            stash.put(Sample(**_FIELDS | {"id": str(n)}, images=(b"x" * 100_000,)))
        assert stash.size < 2 * 100_000
        assert stash[8].images == (b"x" * 100_000,)


def test_pictures_that_are_remembered_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stashes, "RECENT_PICTURES", 10)
    with Stash(tmp_path) as stash:
        for n in range(50):
            stash.put(Sample(**_FIELDS, images=(bytes([n]) * 100,)))
        assert stash.remembered == 10
        assert stash[49].images == (bytes([49]) * 100,)


def test_the_pool_forgets_the_oldest_and_gives_equal_pictures_as_one() -> None:
    pool = RecentFiles(100)
    first = bytes(40)
    assert pool.setdefault(first, first) is first
    assert pool.setdefault(bytes(40), bytes(40)) is first
    pool[b"b" * 40] = b"b" * 40
    pool[b"c" * 40] = b"c" * 40
    assert list(pool) == [b"b" * 40, b"c" * 40]
    pool[b"d" * 400] = b"d" * 400  # larger than the bound: held alone
    assert list(pool) == [b"d" * 400]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"samples cannot be kept there .*; set M2R_CACHE") as bad:
        Stash(tmp_path / "file" / "below")
    assert "\n" not in str(bad.value)


_FIELDS = {
    "id": "0",
    "domain": "general",
    "task": "t",
    "source": "s",
    "question": "q",
    "answer": "1",
    "answer_type": "number",
    "reward": "exact",
}
