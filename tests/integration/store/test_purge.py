"""A purge takes all of one run and nothing else, whenever it is killed and whoever still writes."""

from __future__ import annotations

import threading

import pytest
from integration.store.helpers import KILLED, Place, die, run_child

from m2r_train.api.errors import FencedError, M2RError, Preempted
from m2r_train.store import ObjectStore, Run, open_store, read_head
from m2r_train.store.purge import LAST_ATTEMPT, Purged, purge

PREFIX = "team/rlvrjob/x-0f8fad5b"
NEIGHBOURS = (
    "team/rlvrjob/x-0f8fad5bc/HEAD",  # the same beginning
    "team/rlvrjob/x-0f8fad5b.old/HEAD",
    "team/rlvrjob/x-0f8fad5c/HEAD",
    "team/rlvrjob/HEAD",
    "team/sftjob/x-0f8fad5b/HEAD",
    "other/rlvrjob/x-0f8fad5b/HEAD",
    "x-0f8fad5b/HEAD",
)


def fill(store: ObjectStore) -> Run:
    """A run in mid-course: checkpoints, journal, a result half published; and its neighbours."""
    for key in NEIGHBOURS:
        store.put(key, key.encode())
    folder = store.under(PREFIX)
    run = Run.claim(folder, 1)
    for step in (1, 2, 3):
        run.commit(step, {"a.safetensors": bytes(100), "b.json": b"{}"})
        run.journal_put(f"s{step}/rollouts", b"x" * 10)
    folder.put("spec.json", b"{}")
    folder.put("model/model.safetensors", b"weights")
    return run


def keys(place: Place) -> set[str]:
    return set(place.objects())


def below(place: Place) -> set[str]:
    return {key for key in keys(place) if key.startswith(f"{PREFIX}/")}


def test_everything_of_the_run_goes_and_nothing_else(place: Place, store: ObjectStore) -> None:
    fill(store)
    mine = {key: data for key, data in place.objects().items() if key.startswith(f"{PREFIX}/")}
    assert len(mine) == 3 * 3 + 3 + 3  # checkpoints, journal; HEAD, spec.json, the model
    gone = purge(store, PREFIX)
    assert keys(place) == set(NEIGHBOURS)
    assert gone.objects == len(mine)
    head = len(mine[f"{PREFIX}/HEAD"])
    assert gone.size - sum(map(len, mine.values())) in range(-head, head)  # the tombstone's own


def test_in_a_folder_nothing_stays_behind_not_even_an_empty_directory(tmp_path) -> None:  # type: ignore[no-untyped-def]
    store = open_store((tmp_path / "store").as_uri())
    Run.claim(store.under(PREFIX), 1).commit(1, {"a": b"1"})
    purge(store, PREFIX)
    assert [path for path in (tmp_path / "store").rglob("*") if path.name != ".m2r-lock"] == []


def test_a_link_out_of_the_folder_is_not_followed(tmp_path) -> None:  # type: ignore[no-untyped-def]
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("keep")
    store = open_store((tmp_path / "store").as_uri())
    Run.claim(store.under(PREFIX), 1)
    (tmp_path / "store" / PREFIX / "folder").symlink_to(outside)
    (tmp_path / "store" / PREFIX / "file").symlink_to(outside / "precious")
    purge(store, PREFIX)
    assert (outside / "precious").read_text() == "keep"


def test_purging_again_and_purging_nothing_are_harmless(place: Place, store: ObjectStore) -> None:
    fill(store)
    purge(store, PREFIX)
    assert purge(store, PREFIX) == Purged(0, 0)
    assert purge(store, "team/rlvrjob/never-00000000") == Purged(0, 0)
    assert keys(place) == set(NEIGHBOURS)


@pytest.mark.parametrize("prefix", ["", "/", "..", "team/../other", "team//x", "team/"])
def test_a_prefix_that_is_no_folder_deletes_nothing(
    place: Place, store: ObjectStore, prefix: str
) -> None:
    fill(store)
    before = keys(place)
    with pytest.raises(ValueError, match="key"):
        purge(store, prefix)
    assert keys(place) == before


def test_a_store_that_lists_too_much_deletes_nothing(
    place: Place, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)
    before = keys(place)
    everything = list(store.list(""))
    monkeypatch.setattr(type(store), "list", lambda self, prefix="": iter(everything))
    with pytest.raises(M2RError, match="nothing is deleted"):
        purge(store, PREFIX)
    monkeypatch.undo()
    assert keys(place) == before


def test_from_the_first_moment_no_writer_can_commit(place: Place, store: ObjectStore) -> None:
    """Neither one that is still at it, nor an attempt that starts late; whatever its number."""
    zombie = fill(store)
    heard: list[str] = []

    def interfere(name: str) -> None:
        if name != "after-tombstone":
            return
        folder = place.open().under(PREFIX)
        for what in (
            lambda: zombie.commit(4, {"a.safetensors": b"late"}),
            lambda: zombie.finish({"steps": 4}),
            lambda: zombie.prune(1),
            lambda: Run.claim(folder, 1),
            lambda: Run.claim(folder, LAST_ATTEMPT - 1),
        ):
            with pytest.raises(FencedError):
                what()
            heard.append("fenced")
        head = read_head(folder)
        assert head is not None
        assert (head.attempt, head.chain, head.done) == (LAST_ATTEMPT, (), False)

    purge(store, PREFIX, probe=interfere)
    assert len(heard) == 5
    with pytest.raises(M2RError, match="HEAD is gone"):
        zombie.commit(4, {"a.safetensors": b"late"})
    assert keys(place) == set(NEIGHBOURS)


def test_a_finished_run_is_finished_no_more(place: Place, store: ObjectStore) -> None:
    """Its result is going: nobody may take it for one that is there."""
    fill(store).finish({"steps": 3})
    seen = []

    def look(name: str) -> None:
        if name == "after-tombstone":
            seen.append(read_head(place.open().under(PREFIX)))

    purge(store, PREFIX, probe=look)
    (head,) = seen
    assert head is not None
    assert (head.done, head.result) == (False, None)
    assert keys(place) == set(NEIGHBOURS)


def test_what_a_zombie_writes_meanwhile_goes_too(place: Place, store: ObjectStore) -> None:
    zombie = fill(store)
    left = [5]

    def interfere(name: str) -> None:
        if name == "before-delete" and left[0]:
            left[0] -= 1
            zombie.journal_put(f"s9/late-{left[0]}", b"late")

    purge(store, PREFIX, probe=interfere)
    assert left == [0]
    assert keys(place) == set(NEIGHBOURS)


def test_a_folder_that_keeps_filling_is_an_error_and_stays_fenced(
    place: Place, store: ObjectStore
) -> None:
    zombie = fill(store)
    count = iter(range(10_000))
    turn = threading.Lock()

    def interfere(name: str) -> None:
        if name == "before-delete":
            with turn:
                zombie.journal_put(f"s9/late-{next(count)}", b"late")

    with pytest.raises(M2RError, match="new objects keep appearing"):
        purge(store, PREFIX, probe=interfere)
    head = read_head(place.open().under(PREFIX))
    assert head is not None
    assert head.attempt == LAST_ATTEMPT


def test_asked_to_stop_it_stops_and_later_goes_on(place: Place, store: ObjectStore) -> None:
    fill(store)
    asked = threading.Event()
    deleted = []

    def note(name: str) -> None:
        deleted.append(name)
        if deleted.count("before-delete") == 3:
            asked.set()

    with pytest.raises(Preempted) as stopped:
        purge(store, PREFIX, stopped=asked.is_set, probe=note)
    assert stopped.value.exit_code == 75
    assert below(place)
    purge(store, PREFIX)
    assert keys(place) == set(NEIGHBOURS)


@pytest.mark.parametrize("damage", ["flipped", "missing", "empty"])
def test_a_run_without_a_readable_head_can_be_purged(
    place: Place, store: ObjectStore, damage: str
) -> None:
    fill(store)
    head = f"{PREFIX}/HEAD"
    if damage == "missing":
        store.delete(head)
    else:
        store.put(head, b"" if damage == "empty" else store.get(head).data.replace(b"1", b"2", 1))
    names: list[str] = []
    purge(store, PREFIX, probe=names.append)
    assert names[:2] == ["before-tombstone", "after-tombstone"]
    assert keys(place) == set(NEIGHBOURS)


@pytest.mark.slow
def test_killed_at_any_point_a_purge_goes_on_and_nobody_resumes_from_what_is_left(
    place: Place,
) -> None:
    reference = place.under("reference")
    names: list[str] = []
    fill(reference.open())
    purge(reference.open(), PREFIX, probe=names.append)
    assert names.count("before-delete") == 15
    for index, name in enumerate(names):
        here = place.under(f"kill-{index}")
        fill(here.open())
        lock = threading.Lock()
        passed: list[str] = []

        def probe(
            name: str, passed: list[str] = passed, index: int = index, lock: threading.Lock = lock
        ) -> None:
            with lock:
                passed.append(name)
                if len(passed) == index + 1:
                    die()

        killed = run_child(lambda here=here, probe=probe: purge(here.open(), PREFIX, probe=probe))
        assert killed == KILLED
        if name != "before-tombstone":
            with pytest.raises(FencedError):
                Run.claim(here.open().under(PREFIX), 2)
        purge(here.open(), PREFIX)
        assert keys(here) == set(NEIGHBOURS), f"killed at point {index}, {name}"
