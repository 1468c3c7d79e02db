"""When a run was first started is written once, and no attempt fails for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from m2r_train.store import Blob, LocalStore, first_start
from m2r_train.store.started import STARTED


def test_the_first_attempt_writes_it_and_later_ones_read_it(tmp_path: Path) -> None:
    assert first_start(LocalStore(tmp_path), 100.5) == 100.5
    assert first_start(LocalStore(tmp_path), 200.0) == 100.5
    assert first_start(LocalStore(tmp_path), 50.0) == 100.5


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"no JSON", b'{"time": null}', b"\xff"])
def test_one_that_cannot_be_read_counts_as_none(tmp_path: Path, content: bytes) -> None:
    store = LocalStore(tmp_path)
    store.put(STARTED, content)
    assert first_start(store, 200.0) == 200.0


def test_one_that_comes_in_between_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)
    get = store.get

    def late(key: str) -> Blob:
        try:
            return get(key)
        finally:
            first_start(LocalStore(tmp_path), 100.0)

    monkeypatch.setattr(store, "get", late)
    assert first_start(store, 101.0) == 101.0
    assert first_start(LocalStore(tmp_path), 200.0) == 100.0
