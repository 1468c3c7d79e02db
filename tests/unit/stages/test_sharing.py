"""Work by parts: every part once, whoever makes it, and nothing waits for who will never come."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.stages.runs_in_memory import context

from m2r_train.api.errors import ConfigError, FencedError, Preempted
from m2r_train.stages import sharing
from m2r_train.stages.context import Context
from m2r_train.stages.place import ALONE, INDEX_VARIABLE, Place, place_in_job
from m2r_train.stages.sharing import parts
from m2r_train.store import RunFinished

KEYS = [f"s{n}/part" for n in range(7)]


class Maker:
    """Makes parts, and notes which."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.made: list[int] = []

    def __call__(self, numbers: Sequence[int]) -> Iterator[bytes]:
        self.calls.append(list(numbers))
        for n in numbers:
            self.made.append(n)
            yield b"part %d" % n


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "_PATIENCE_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(sharing, "_POLL_SECONDS", (0.0, 0.0))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "_POLL_SECONDS", (0.001, 0.01))


def whole() -> dict[int, bytes]:
    return {n: b"part %d" % n for n in range(len(KEYS))}


@given(st.integers(1, 9), st.integers(0, 40))
def test_every_part_is_the_share_of_exactly_one_pod(nodes: int, count: int) -> None:
    shares = [[n for n in range(count) if Place(i, nodes).owns(n)] for i in range(nodes)]
    assert sorted(n for share in shares for n in share) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_owns_everything_and_helps_nobody() -> None:
    assert all(ALONE.owns(n) for n in range(9))
    assert not ALONE.helps


@pytest.mark.parametrize(
    ("given_index", "nodes", "place"),
    [
        (None, 1, Place(0, 1)),
        ("", 3, Place(0, 3)),
        (None, 3, Place(0, 3)),
        ("0", 1, Place(0, 1)),
        ("2", 3, Place(2, 3)),
    ],
)
def test_the_place_is_the_index_in_the_job(
    given_index: str | None, nodes: int, place: Place
) -> None:
    environment = {} if given_index is None else {INDEX_VARIABLE: given_index}
    assert place_in_job(nodes, environment) == place


@pytest.mark.parametrize("index", ["1", "-1", "x", "1.0", "٢", "99999999999999999999"])
def test_an_index_that_cannot_be_is_refused(index: str) -> None:
    with pytest.raises(ConfigError, match=r"below resources\.nodes"):
        place_in_job(1, {INDEX_VARIABLE: index})


def test_one_pod_makes_all_parts_in_order_and_keeps_them(tmp_path: Path) -> None:
    maker = Maker()
    assert list(parts(context(tmp_path), KEYS, maker)) == list(whole().items())
    again = Maker()
    assert list(parts(context(tmp_path), KEYS, again)) == list(whole().items())
    assert (maker.made, again.calls) == (list(range(7)), [])


def test_what_is_missing_is_made_in_one_go_and_comes_in_order(tmp_path: Path) -> None:
    first = context(tmp_path)
    for n in (0, 2, 5):
        first.run.journal_put(KEYS[n], b"part %d" % n)
    maker = Maker()
    assert list(parts(context(tmp_path), KEYS, maker)) == list(whole().items())
    assert maker.calls == [[1, 3, 4, 6]]


@pytest.mark.parametrize("nodes", [2, 3, 9])
def test_several_pods_make_every_part_once_and_the_owner_has_all(
    tmp_path: Path, quick: None, nodes: int
) -> None:
    makers = [Maker() for _ in range(nodes)]
    owner = context(tmp_path, place=Place(0, nodes))
    helpers = [context(tmp_path, place=Place(i, nodes)) for i in range(1, nodes)]

    def help_out(i: int) -> None:
        list(parts(helpers[i - 1], KEYS, makers[i], all_of_them=False))

    threads = [threading.Thread(target=help_out, args=(i,)) for i in range(1, nodes)]
    for thread in threads:
        thread.start()
    assert dict(parts(owner, KEYS, makers[0])) == whole()
    for thread in threads:
        thread.join()
    assert sorted(n for maker in makers for n in maker.made) == list(range(7))
    assert all(Place(i, nodes).owns(n) for i, m in enumerate(makers) for n in m.made)


def test_a_helper_that_is_asked_for_all_waits_for_the_others(tmp_path: Path, quick: None) -> None:
    owner, helper = context(tmp_path, place=Place(0, 2)), context(tmp_path, place=Place(1, 2))
    seen: dict[int, bytes] = {}
    waiting = threading.Thread(target=lambda: seen.update(parts(helper, KEYS, Maker())))
    waiting.start()
    assert dict(parts(owner, KEYS, Maker())) == whole()
    waiting.join(30)
    assert seen == whole()


def test_the_owner_makes_what_a_lost_helper_leaves_from_the_end_on(
    tmp_path: Path, impatient: None
) -> None:
    maker = Maker()
    assert dict(parts(context(tmp_path, place=Place(0, 2)), KEYS, maker)) == whole()
    assert maker.calls == [[0, 2, 4, 6], [5], [3], [1]]


def test_parts_of_a_lost_helper_are_made_several_at_a_time_where_that_is_quicker(
    tmp_path: Path, impatient: None
) -> None:
    maker = Maker()
    owner = context(tmp_path, place=Place(0, 2))
    assert dict(parts(owner, KEYS, maker, at_a_time=2)) == whole()
    assert maker.calls == [[0, 2, 4, 6], [3, 5], [1]]


def test_the_owner_takes_nothing_over_while_parts_keep_coming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pause of the owner lets the helper make one part: its patience begins anew."""
    owner, helper = context(tmp_path, place=Place(0, 2)), context(tmp_path, place=Place(1, 2))
    helping = parts(helper, KEYS, Maker(), all_of_them=False)
    now = [0.0]

    def pause(_seconds: float) -> None:
        now[0] += 8.0  # shorter than the patience of 10 s; all three together are longer
        next(helping)

    monkeypatch.setattr(sharing.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sharing.time, "sleep", pause)
    maker = Maker()
    assert dict(parts(owner, KEYS, maker)) == whole()
    assert maker.calls == [[0, 2, 4, 6]]


def test_an_owner_that_was_claimed_over_stops_waiting(tmp_path: Path, quick: None) -> None:
    owner = context(tmp_path, place=Place(0, 2))
    waiting = parts(owner, KEYS, Maker())
    for _ in range(4):
        next(waiting)
    context(tmp_path, attempt=2)
    with pytest.raises(FencedError):
        next(waiting)


def test_a_helper_that_starts_again_makes_only_what_is_not_there(tmp_path: Path) -> None:
    first = parts(context(tmp_path, place=Place(1, 2)), KEYS, Maker(), all_of_them=False)
    assert [next(first)[0], next(first)[0]] == [1, 3]
    again = Maker()
    helper = context(tmp_path, place=Place(1, 2))
    assert [n for n, _ in parts(helper, KEYS, again, all_of_them=False)] == [1, 3, 5]
    assert again.made == [5]


def test_a_helper_makes_its_share_before_the_owner_has_begun(tmp_path: Path) -> None:
    helper = context(tmp_path, place=Place(1, 2))
    assert len(list(parts(helper, KEYS, Maker(), all_of_them=False))) == 3
    assert not (tmp_path / "HEAD").exists()


def test_a_helper_of_a_finished_run_leaves_nothing_behind(tmp_path: Path) -> None:
    owner, helper = context(tmp_path, place=Place(0, 2)), context(tmp_path, place=Place(1, 2))
    helping = parts(helper, KEYS, Maker(), all_of_them=False)
    next(helping)
    finish(owner)
    with pytest.raises(RunFinished):
        next(helping)
    assert left(tmp_path) == []


def test_a_helper_of_an_older_attempt_is_fenced(tmp_path: Path) -> None:
    helper = context(tmp_path, place=Place(1, 2))
    helping = parts(helper, KEYS, Maker(), all_of_them=False)
    next(helping)
    context(tmp_path, attempt=2)
    with pytest.raises(FencedError, match="attempt 2 owns the run"):
        next(helping)
    assert left(tmp_path) == ["journal/e0/s1/part"]


def test_the_end_of_a_run_clears_what_helpers_have_written_meanwhile(tmp_path: Path) -> None:
    owner, helper = context(tmp_path, place=Place(0, 2)), context(tmp_path, place=Place(1, 2))
    owner.run.journal_get(KEYS[0])  # what lies there is known from here on
    list(parts(helper, KEYS, Maker(), all_of_them=False))
    finish(owner)
    assert left(tmp_path) == []


def test_a_stop_ends_the_work_before_the_next_part(tmp_path: Path) -> None:
    ctx, maker = context(tmp_path), Maker()
    working = parts(ctx, KEYS, maker)
    next(working)
    ctx.stop.reason = "SIGTERM"
    with pytest.raises(Preempted):
        next(working)
    assert maker.made == [0]


def finish(owner: Context) -> None:
    owner.owned.finish({"steps": len(KEYS)})
    owner.owned.journal_clear(len(KEYS))


def left(folder: Path) -> list[str]:
    files = (folder / "journal").rglob("*")
    return sorted(
        f.relative_to(folder).as_posix()
        for f in files
        if f.is_file() and not f.name.startswith(".m2r-")
    )
