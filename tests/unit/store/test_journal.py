"""The journal is a cache: intact or absent, and never another writer's to spoil."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2r_train.store import LocalStore
from m2r_train.store._journal import _MAGIC, HELPERS, Journal, _digest, step_of


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


@pytest.mark.parametrize(
    ("key", "step"), [("s12/a", 12), ("s0007/a/b", 7), ("step-3/x", 3), ("9/x", 9), ("s5", 5)]
)
def test_a_key_begins_with_its_step(key: str, step: int) -> None:
    assert step_of(key) == step


@pytest.mark.parametrize("key", ["a/s12", "s12x/a", "", "../s1", "s-/a"])
def test_a_key_without_a_step_is_refused(key: str, store: LocalStore) -> None:
    for use in (step_of, Journal(store, 1).get, lambda k: Journal(store, 1).put(k, b"")):
        with pytest.raises(ValueError, match=r"journal key|store key"):
            use(key)


def test_an_entry_is_read_by_the_next_attempt(store: LocalStore) -> None:
    Journal(store, 1).put("s1/a", b"rollouts")
    assert Journal(store, 2).get("s1/a") == b"rollouts"
    assert Journal(store, 2).get("s1/b") is None


@given(st.binary(max_size=20), st.data())
def test_any_flipped_bit_or_torn_end_reads_as_absent(content: bytes, data: st.DataObject) -> None:
    raw = _MAGIC + _digest("s1/a", content) + content
    position = data.draw(st.integers(0, 8 * len(raw) - 1))
    flipped = bytearray(raw)
    flipped[position // 8] ^= 1 << position % 8
    for damaged in (bytes(flipped), raw[: position // 8], raw + b"x"):
        assert Journal(_OneEntry(damaged), 2).get("s1/a") is None  # type: ignore[arg-type]
    assert Journal(_OneEntry(raw), 2).get("s1/a") == content  # type: ignore[arg-type]


def test_an_entry_under_another_key_reads_as_absent(store: LocalStore) -> None:
    Journal(store, 1).put("s1/a", b"of a")
    store.put("journal/e1/s1/b", store.get("journal/e1/s1/a").data)
    assert Journal(store, 2).get("s1/b") is None


def test_a_fenced_writer_cannot_replace_what_its_successor_wrote(store: LocalStore) -> None:
    zombie, owner = Journal(store, 1), Journal(store, 2)
    owner.put("s1/a", b"owner")
    zombie.put("s1/a", b"zombie")
    assert owner.get("s1/a") == b"owner"
    assert Journal(store, 3).get("s1/a") == b"owner"


def test_a_damaged_entry_falls_back_to_an_older_one(store: LocalStore) -> None:
    Journal(store, 1).put("s1/a", b"old")
    Journal(store, 2).put("s1/a", b"new")
    store.put("journal/e2/s1/a", b"torn")
    assert Journal(store, 3).get("s1/a") == b"old"


def test_clearing_removes_earlier_steps_of_all_earlier_writers_only(store: LocalStore) -> None:
    for epoch in (1, 2, 4):
        for step in (9, 10, 11):
            Journal(store, epoch).put(f"s{step}/a", b"x")
    store.put("journal/notes.txt", b"somebody's")
    journal = Journal(store, 3)
    journal.clear(11)
    left = [entry.key for entry in store.list("journal/")]
    assert left == sorted(
        ["journal/e1/s11/a", "journal/e2/s11/a", "journal/notes.txt"]
        + [f"journal/e4/s{step}/a" for step in (9, 10, 11)]
    )
    assert journal.get("s9/a") is None
    assert journal.get("s11/a") == b"x"


def test_helpers_entries_are_read_by_every_owner_and_cleared_with_the_others(
    store: LocalStore,
) -> None:
    Journal(store, HELPERS).put("s1/a", b"helped")
    for epoch in (1, 7):
        assert Journal(store, epoch).get("s1/a") == b"helped"
    Journal(store, 7).clear(2)
    assert list(store.list("journal/")) == []


def test_a_helper_reads_the_entries_of_every_owner(store: LocalStore) -> None:
    Journal(store, 5).put("s1/a", b"owner")
    assert Journal(store, HELPERS).get("s1/a") == b"owner"


def test_what_helpers_write_later_is_seen_after_a_refresh(store: LocalStore) -> None:
    owner = Journal(store, 1)
    assert owner.keys() == set()
    Journal(store, HELPERS).put("s1/a", b"helped")
    assert owner.get("s1/a") is None
    owner.refresh()
    assert owner.keys() == {"s1/a"}
    assert owner.get("s1/a") == b"helped"


def test_only_the_own_entry_is_deleted(store: LocalStore) -> None:
    owner, helper = Journal(store, 1), Journal(store, HELPERS)
    owner.put("s1/a", b"owner")
    helper.put("s1/a", b"helped")
    helper.delete("s1/a")
    assert [entry.key for entry in store.list("journal/")] == ["journal/e1/s1/a"]


@pytest.mark.parametrize(("steps", "newest"), [((), None), ((3,), 3), ((12, 9, 10), 12)])
def test_the_newest_step_is_the_highest_with_an_entry(
    store: LocalStore, steps: tuple[int, ...], newest: int | None
) -> None:
    for step in steps:
        Journal(store, 1).put(f"s{step}/a", b"x")
    assert Journal(store, 2).newest() == newest


class _OneEntry:
    """A store of one object, to try many contents quickly."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def list(self, prefix: str) -> object:
        from m2r_train.store import Entry

        return iter([Entry(f"{prefix}e1/s1/a", len(self.raw), None)])

    def get(self, key: str) -> object:
        from m2r_train.store import Blob

        return Blob(self.raw, "")
