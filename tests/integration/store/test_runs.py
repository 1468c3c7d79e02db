"""Claim, commit, resume, prune: what holds for one run, whoever else believes to own it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from integration.store.helpers import Place, start, wait

from m2r_train.api.errors import DataError, FencedError, M2RError
from m2r_train.store import Damaged, ObjectStore, Run, read_head


def state(step: int) -> dict[str, bytes]:
    return {"model.safetensors": bytes([step]) * 1000, "nested/state.json": b'{"step":%d}' % step}


def committed(store: ObjectStore, *steps: int, attempt: int = 1) -> Run:
    run = Run.claim(store, attempt)
    run.latest()
    for step in steps:
        run.commit(step, state(step), {"lr": step / 10})
    return run


def folders(store: ObjectStore) -> list[str]:
    return sorted({entry.key.split("/")[1] for entry in store.list("checkpoints/")})


def test_a_fresh_run_has_nothing_to_resume(store: ObjectStore) -> None:
    assert read_head(store) is None
    run = Run.claim(store, 1)
    assert run.latest() is None
    assert run.result() is None
    assert (run.epoch, run.head.step) == (1, 0)


def test_the_next_attempt_resumes_from_the_last_commit(store: ObjectStore) -> None:
    committed(store, 1, 2)
    run = Run.claim(store, 2)
    checkpoint = run.latest()
    assert checkpoint is not None
    assert (checkpoint.step, checkpoint.epoch, run.epoch) == (2, 1, 2)
    assert dict(checkpoint.files) == state(2)
    assert checkpoint.meta == {"lr": 0.2}
    assert checkpoint.size == sum(len(data) for data in state(2).values())
    assert checkpoint.uri == f"{store.uri}/checkpoints/e1-s2"


def test_a_commit_is_described_by_its_manifest_and_named_by_head(store: ObjectStore) -> None:
    run = committed(store, 1, 2)
    manifest = json.loads(store.get("checkpoints/e1-s2/MANIFEST.json").data)
    assert (manifest["step"], manifest["epoch"], manifest["attempt"]) == (2, 1, 1)
    assert manifest["parent"]["manifest"] == "checkpoints/e1-s1/MANIFEST.json"
    assert set(manifest["files"]) == set(state(2))
    head = json.loads(store.get("HEAD").data)
    assert (head["step"], head["manifest"]) == (2, "checkpoints/e1-s2/MANIFEST.json")
    assert read_head(store) == run.head


def test_committing_a_step_again_writes_nothing(place: Place) -> None:
    run = committed(place.open(), 1, 2)
    before = place.objects()
    again = run.commit(2, {"other": b"content"})
    assert set(again.files) == set(state(2))
    assert place.objects() == before
    with pytest.raises(ValueError, match="step 1 after step 2"):
        run.commit(1, state(1))


@pytest.mark.parametrize("name", ["MANIFEST.json", "../x", "/x", "a//b"])
def test_a_bad_file_name_is_refused_before_anything_is_written(place: Place, name: str) -> None:
    run = committed(place.open(), 1)
    before = place.objects()
    with pytest.raises(ValueError, match=r"MANIFEST\.json|store key"):
        run.commit(2, {"good": b"", name: b""})
    with pytest.raises(TypeError):
        run.commit(2, {"good": b""}, {"meta": {1, 2}})
    assert place.objects() == before


def test_an_older_attempt_cannot_claim_and_an_equal_one_can(store: ObjectStore) -> None:
    committed(store, 1, attempt=5)
    with pytest.raises(FencedError, match="attempt 5 owns the run") as caught:
        Run.claim(store, 4)
    assert caught.value.exit_code == 76
    assert Run.claim(store, 5).epoch == 2


ZOMBIE_ACTS: dict[str, Callable[[Run], object]] = {
    "commit": lambda run: run.commit(9, state(9)),
    "prune": lambda run: run.prune(1),
    "finish": lambda run: run.finish({"by": "zombie"}),
    "journal_clear": lambda run: run.journal_clear(9),
    "verify_fence": lambda run: run.verify_fence(),
}


@pytest.mark.parametrize("act", ZOMBIE_ACTS)
@pytest.mark.parametrize("attempt", [1, 2])
def test_a_zombie_changes_nothing(place: Place, act: str, attempt: int) -> None:
    zombie = committed(place.open(), 1, 2, 3)
    zombie.journal_put("s4/a", b"x")
    owner = Run.claim(place.open(), attempt)
    before = place.objects()
    with pytest.raises(FencedError, match=f"attempt {attempt} owns the run") as caught:
        ZOMBIE_ACTS[act](zombie)
    assert "\n" not in str(caught.value)
    assert place.objects() == before
    owner.commit(4, state(4))


COMMIT_POINTS = ["before-file", "before-manifest", "after-manifest", "before-head"]


@pytest.mark.parametrize("point", COMMIT_POINTS)
def test_a_writer_claimed_over_in_the_middle_of_a_commit_commits_nothing(
    store: ObjectStore, point: str
) -> None:
    owners: list[Run] = []

    def claim_over(name: str) -> None:
        if name == point and not owners:
            owners.append(Run.claim(store, 2))

    zombie = Run.claim(store, 1)
    zombie.commit(1, state(1))
    zombie = Run.claim(store, 1, probe=claim_over)
    zombie.latest()
    with pytest.raises(FencedError):
        zombie.commit(2, state(2))
    head = read_head(store)
    assert head is not None
    assert (head.epoch, head.attempt, head.step) == (3, 2, 1)
    checkpoint = owners[0].latest()
    assert checkpoint is not None
    assert checkpoint.step == 1
    owners[0].commit(2, state(2))
    owners[0].prune(1)
    assert folders(store) == ["e3-s2"]  # what the zombie left is gone too


@pytest.mark.parametrize("point", ["before-prune-head", "after-prune-head", "before-delete"])
def test_a_writer_claimed_over_while_pruning_takes_nothing_from_its_successor(
    store: ObjectStore, point: str
) -> None:
    owners: list[Run] = []

    def claim_over(name: str) -> None:
        if name == point and not owners:
            owners.append(committed(store, 5, 6, attempt=2))

    committed(store, 1, 2, 3)
    zombie = Run.claim(store, 1, probe=claim_over)
    zombie.latest()
    if point == "before-prune-head":
        with pytest.raises(FencedError):
            zombie.prune(1)
    else:
        zombie.prune(1)
    head = read_head(store)
    assert head is not None
    assert [ref.step for ref in head.chain][:2] == [6, 5]
    for ref in head.chain:  # whatever HEAD names is whole
        assert {f"{ref.folder}{name}" for name in state(1)} <= {
            entry.key for entry in store.list(ref.folder)
        }


def test_claims_by_many_processes_never_share_an_epoch(place: Place, tmp_path: Path) -> None:
    def claim(name: int) -> None:
        store = place.open()
        epochs = [Run.claim(store, 1).epoch for _ in range(5)]
        (tmp_path / f"epochs-{name}").write_text(json.dumps(epochs))

    children = [start(lambda name=name: claim(name)) for name in range(4)]
    assert [wait(pid) for pid in children] == [0] * 4
    epochs = [e for n in range(4) for e in json.loads((tmp_path / f"epochs-{n}").read_text())]
    assert sorted(epochs) == list(range(1, 21))


@pytest.mark.parametrize("key", ["model.safetensors", "nested/state.json", "MANIFEST.json"])
@pytest.mark.parametrize("damage", ["flip", "missing", "longer"])
def test_a_damaged_checkpoint_is_reported_kept_and_passed_over(
    place: Place, key: str, damage: str
) -> None:
    store, heard = place.open(), []
    committed(store, 1, 2, 3)
    victim = f"checkpoints/e1-s3/{key}"
    if damage == "flip":
        place.flip(victim, 5)
    elif damage == "missing":
        store.delete(victim)
    else:
        store.put(victim, store.get(victim).data + b"x")
    run = Run.claim(store, 2, on_corrupt=heard.append)
    checkpoint = run.latest()
    assert checkpoint is not None
    assert checkpoint.step == 2
    assert dict(checkpoint.files) == state(2)
    assert len(heard) == 1
    assert "checkpoints/e1-s3" in heard[0]
    assert Path(key).name in heard[0]
    assert ("bytes instead of" in heard[0]) == (damage == "longer" and key != "MANIFEST.json")
    run.prune(1)  # counts what is good: not the damaged one, which stays as evidence
    assert folders(store) == ["e1-s2", "e1-s3"]
    run.commit(3, state(3))
    run.prune(1)
    assert folders(store) == ["e1-s3", "e2-s3"]
    after = Run.claim(store, 3)
    latest = after.latest()
    assert latest is not None
    assert (latest.epoch, latest.step) == (2, 3)
    after.commit(4, state(4))
    after.prune(1)
    assert folders(store) == ["e1-s3", "e3-s4"]


def test_without_one_good_checkpoint_the_run_starts_afresh(place: Place) -> None:
    store, heard = place.open(), []
    committed(store, 1, 2)
    place.flip("checkpoints/e1-s1/model.safetensors")
    place.flip("checkpoints/e1-s2/model.safetensors")
    run = Run.claim(store, 2, on_corrupt=heard.append)
    assert run.latest() is None
    assert len(heard) == 2
    run.commit(1, state(1))
    checkpoint = Run.claim(store, 3).latest()
    assert checkpoint is not None
    assert checkpoint.epoch == 2


def test_a_file_damaged_after_the_resume_is_not_handed_out(place: Place) -> None:
    run = committed(place.open(), 1)
    checkpoint = run.commit(2, state(2))
    place.flip("checkpoints/e1-s2/model.safetensors")
    with pytest.raises(DataError, match=r"SHA-256|checksum"):
        checkpoint.files["model.safetensors"]


@pytest.mark.parametrize("how", ["flip", "empty", "gone"])
def test_a_lost_head_is_rebuilt_from_the_manifests(place: Place, how: str) -> None:
    store, heard = place.open(), []
    old = committed(store, 1, 2, 3)
    place.flip("checkpoints/e1-s3/MANIFEST.json", 9)
    if how == "flip":
        place.flip("HEAD", 20)
        with pytest.raises(Damaged):
            read_head(store)
    elif how == "empty":
        store.put("HEAD", b"")
    else:
        store.delete("HEAD")
    with pytest.raises(M2RError, match="the next claim recovers it"):
        old.commit(4, state(4))
    run = Run.claim(store, 1, on_corrupt=heard.append)
    assert run.epoch > 1000  # beyond any claim that left no trace
    checkpoint = run.latest()
    assert checkpoint is not None
    assert checkpoint.step == 2
    assert len(heard) == (1 if how == "gone" else 2)
    with pytest.raises(FencedError):
        old.commit(4, state(4))


def test_pruning_keeps_the_newest_and_whatever_is_not_ours(store: ObjectStore) -> None:
    run = committed(store, 1, 2, 3, 4, 5)
    foreign = ["checkpoints/best/x", "checkpoints/e1-s1.old/x", "checkpoints/e7-s1/x", "model/x"]
    for key in foreign:
        store.put(key, b"keep me")
    assert run.prune(2) == ["checkpoints/e1-s1/", "checkpoints/e1-s2/", "checkpoints/e1-s3/"]
    assert folders(store) == ["best", "e1-s1.old", "e1-s4", "e1-s5", "e7-s1"]
    assert all(store.exists(key) for key in foreign)
    assert run.prune(2) == []
    with pytest.raises(ValueError, match="at least 1"):
        run.prune(0)


def test_at_no_moment_of_pruning_has_a_manifest_lost_one_of_its_files(store: ObjectStore) -> None:
    def all_whole(name: str) -> None:
        if name == "before-delete":
            keys = {entry.key for entry in store.list("checkpoints/")}
            for manifest in (key for key in keys if key.endswith("MANIFEST.json")):
                folder = manifest.removesuffix("MANIFEST.json")
                assert {f"{folder}{file}" for file in state(1)} <= keys

    committed(store, 1, 2, 3)
    run = Run.claim(store, 2, probe=all_whole)
    run.latest()
    assert len(run.prune(1)) == 2


def test_a_finished_run_is_recognised_and_takes_no_more_commits(store: ObjectStore) -> None:
    run = committed(store, 1)
    run.finish({"digest": "abc", "score": 0.5})
    run.finish({"digest": "abc", "score": 0.5})
    later = Run.claim(store, 2)
    assert later.result() == {"digest": "abc", "score": 0.5}
    head = read_head(store)
    assert head is not None
    assert head.done
    with pytest.raises(ValueError, match="is finished"):
        later.commit(2, state(2))
    with pytest.raises(ValueError, match="at most"):
        later.finish({"too": "x" * 70_000})


def test_the_journal_outlives_the_attempt_and_goes_with_the_commit(store: ObjectStore) -> None:
    run = committed(store, 1)
    run.journal_put("s2/part-0", b"rollouts")
    run = Run.claim(store, 2)
    run.latest()
    assert run.journal_get("s2/part-0") == b"rollouts"
    run.journal_clear(before_step=99)  # nothing beyond the last commit
    assert run.journal_get("s2/part-0") == b"rollouts"
    run.commit(3, state(3))
    run.journal_clear(before_step=3)
    assert run.journal_get("s2/part-0") is None
    assert list(store.list("journal/")) == []
