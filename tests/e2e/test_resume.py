"""A run that is killed, stopped or damaged ends bit for bit as if nothing had happened.

Each test computes one stage again, from the golden run's spec and inputs, in a store of its own,
and disturbs it there. Observed is what lies in the store: digests, the history, the journal.
"""

from __future__ import annotations

import fcntl
import json
import re
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random

import pytest
from runs import KILLED, M2R, Golden, Process, change, files_under, manifests, write
from trials import TRAINING, Trial, stages

from m2r_train.core.rng import derive_seed
from m2r_train.store import read_head
from m2r_train.store.local import LocalStore

# kills at named points

TRAINING_POINTS: Mapping[str, tuple[str, ...]] = {
    "claims": (
        "before-claim:1",
        "after-claim:1",
        "before-save:1",
        "before-file:2",
        "before-head:1",
    ),
    "commits": (
        "before-manifest:1",
        "after-manifest:1",
        "after-head:1",
        "before-prune-head:2",
        "after-prune-head:2",
    ),
    "later": (
        "before-file:7",
        "before-delete:2",
        "after-save:1",
        "after-snapshot:1",
        "after-prune-head:1",
    ),
    "ends": (
        "before-publish:1",
        "before-upload:3",
        "before-result-manifest:1",
        "before-publish:2",
        "before-finish:1",
    ),
}
WORK_POINTS: Mapping[str, tuple[str, ...]] = {
    "claims": ("before-claim:1", "after-claim:1", "before-journal:1", "before-publish:1"),
    "ends": ("before-upload:1", "before-upload:2", "before-result-manifest:1", "before-finish:1"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trial", "points"),
    [
        *(("rlvr", points) for points in TRAINING_POINTS.values()),
        *(("sft", TRAINING_POINTS[when]) for when in ("commits", "ends")),
    ],
    ids=[*(f"rlvr-{when}" for when in TRAINING_POINTS), "sft-commits", "sft-ends"],
    indirect=["trial"],
)
def test_training_killed_five_times_at_named_points_ends_the_same(
    trial: Trial, points: tuple[str, ...]
) -> None:
    for point in points:
        trial.killed_at(point)
    trial.finish()


@pytest.mark.slow
@pytest.mark.parametrize("points", WORK_POINTS.values(), ids=WORK_POINTS)
@stages("data", "curriculum", "eval-rlvr")
def test_work_by_parts_killed_at_named_points_ends_the_same(
    trial: Trial, points: tuple[str, ...]
) -> None:
    for point in points:
        trial.killed_at(point)
    trial.finish()


@stages("data", "rlvr")
def test_a_run_killed_after_its_end_is_known_to_be_done(trial: Trial) -> None:
    trial.killed_at("after-finish:1")
    done = trial.finish()
    assert "done before" in done.err and "started" not in done.err


# rollouts and other work are paid once


@stages("rlvr")
def test_rollouts_of_a_killed_step_are_replayed_and_not_drawn_again(trial: Trial) -> None:
    trial.killed_at("before-journal:2")  # step 1 was drawn and is lost: one step a kill
    assert trial.journals[-1] == {(1, "s0/rollouts")}
    trial.killed_at("before-save:1")  # step 1 is done, not saved
    assert trial.journals[-1] == {(1, "s0/rollouts"), (2, "s1/rollouts")}
    trial.killed_at("before-head:1")  # both steps were computed again, and training went on
    assert {(1, "s0/rollouts"), (2, "s1/rollouts")} <= trial.journals[-1]
    trial.killed_at("before-save:2")  # which waits until the checkpoint of step 2 is committed
    assert {key for _, key in trial.journals[-1]} == {"s2/rollouts", "s3/rollouts"}
    trial.finish()
    drawn = {t["step"] for t in timings(trial) if "generate" in t}
    assert drawn == {4, 5}


def timings(trial: Trial) -> list[dict[str, float]]:
    lines = (trial.folder / "records/timings.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@stages("data")
def test_shards_are_made_once(trial: Trial) -> None:
    trial.killed_at("before-journal:3")
    assert trial.journals[-1] == {(1, "s0/shard"), (1, "s1/shard")}
    trial.killed_at("before-publish:1")
    made = {(2, f"s{k}/shard") for k in range(2, 6)}
    assert trial.journals[-1] == {(1, "s0/shard"), (1, "s1/shard")} | made
    trial.finish()


@stages("eval-rlvr")
def test_questions_are_answered_once(trial: Trial) -> None:
    trial.killed_at("before-journal:4")
    trial.killed_at("before-publish:1")
    answered = {(1, f"s{k}/answers") for k in range(3)} | {(2, "s3/answers")}
    assert trial.journals[-1] == answered
    trial.finish()


@stages("curriculum")
def test_difficulty_is_measured_once(trial: Trial) -> None:
    trial.killed_at("before-publish:1")
    assert trial.journals[-1] == {(1, "s0/difficulty")}
    trial.finish()


@stages("rlvr")
def test_a_torn_journal_entry_is_drawn_again(trial: Trial) -> None:
    trial.killed_at("before-save:1")
    entry = trial.folder / "journal/e1/s1/rollouts"
    entry.write_bytes(entry.read_bytes()[:-1])
    assert trial.ended(trial.start()).code == 0
    trial.journals.clear()  # step 1 was paid twice, and had to be
    trial.check()


@stages("rlvr")
def test_what_a_kill_left_half_saved_goes_when_the_next_attempt_begins(trial: Trial) -> None:
    """Not only after its next save: attempts that die before it would fill the store."""
    trial.killed_at("before-manifest:2")
    folders = trial.folder / "checkpoints"
    assert {path.name for path in folders.iterdir()} == {"e1-s2", "e1-s4"}
    trial.killed_at("before-save:1")
    assert {path.name for path in folders.iterdir()} == {"e1-s2"}
    trial.finish()


@stages("rlvr")
def test_checkpoints_at_other_times_change_no_result(trial: Trial) -> None:
    trial.change("checkpoint.interval", "Auto")
    trial.change("checkpoint.everySteps", 3)
    trial.killed_at("after-snapshot:2")
    done = trial.finish()
    assert "a checkpoint every " in done.err


# kills at random instants


@pytest.mark.slow
@stages("data", "sft", "rlvr", "eval-rlvr")
def test_a_stage_killed_at_random_instants_ends_the_same(trial: Trial) -> None:
    """``bench/bench_resume.py`` does this many more times."""
    random = Random(derive_seed(0, "kills", trial.name))
    seconds = max(0.5, trial.golden.seconds(trial.name))
    for _ in range(5):
        process = trial.start()
        if process.until(r"  started  "):
            time.sleep(random.uniform(0, seconds))
            process.signal(signal.SIGKILL)
        done = trial.ended(process)
        assert done.code in (0, KILLED), done.err
        if done.code == 0:
            break
    if done.code == 0:
        trial.check()
    else:
        trial.finish()


# stops


@stages(*TRAINING)
def test_sigterm_saves_where_the_run_is_and_the_same_command_goes_on(trial: Trial) -> None:
    process = trial.start()
    assert process.when(lambda: committed(trial))
    process.signal(signal.SIGTERM)
    done = trial.ended(process)
    stopped_at = trial.step()
    assert done.code == 75
    assert len(done.complaints) == 1 and "Traceback" not in done.err
    assert f"stopped by SIGTERM after step {stopped_at}, state saved" in done.complaints[0]
    last_words = json.loads((trial.m2r.home / "termination-log").read_text())
    assert (last_words["exitCode"], last_words["step"]) == (75, stopped_at)
    again = trial.finish()
    assert f"resumed from step {stopped_at} " in again.err


def committed(trial: Trial) -> bool:
    return any((trial.folder / "checkpoints").glob("*/MANIFEST.json"))


@stages("data", "eval-rlvr")
def test_sigterm_between_two_parts_keeps_the_parts(trial: Trial) -> None:
    process = trial.start()
    assert process.when(lambda: bool(trial.journal()))
    process.signal(signal.SIGTERM)
    done = trial.ended(process)
    assert done.code == 75
    assert len(done.complaints) == 1 and "Traceback" not in done.err
    assert trial.journals[-1]
    trial.finish()


@stages("rlvr")
def test_sigterm_during_the_imports_ends_before_anything_is_written(trial: Trial) -> None:
    process = trial.start()
    assert process.when(lambda: process.catches(signal.SIGTERM))
    process.signal(signal.SIGTERM)
    done = trial.ended(process)
    assert done.code == 75
    assert re.fullmatch(r"m2r: RLVRJob/rlvr: stopped by SIGTERM before it began; .*\n", done.err)
    assert not trial.folder.exists()


@pytest.mark.parametrize("name", ["data", "sft"])
def test_ctrl_c_in_a_terminal_stops_the_run_and_its_workers_and_the_same_command_goes_on(
    golden: Golden, m2r: M2R, tmp_path: Path, name: str
) -> None:
    files = write(manifests("data", "sft"), tmp_path / "manifests")
    arguments = ("run", "-f", files, "--store", tmp_path / "store")
    process = m2r.start(*arguments)
    assert process.until(f"/{name}  started")
    if name == "data":
        assert process.when(lambda: any((tmp_path / "store").rglob("s0/shard")))
    process.ctrl_c()
    done = process.wait()
    assert done.code == 75
    assert "Traceback" not in done.err
    assert len(done.complaints) == 1 and "stopped by SIGINT" in done.complaints[0]
    assert alone(process)
    again = m2r(*arguments, "--summary", tmp_path / "summary.json")
    assert again.code == 0, again.err
    resources = json.loads((tmp_path / "summary.json").read_text())["resources"]
    assert {r["name"]: r["digest"] for r in resources} == {
        n: golden.digests[n] for n in ("data", "sft")
    }


def test_a_second_ctrl_c_ends_at_once(m2r: M2R, tmp_path: Path) -> None:
    long = change(manifests("data", "sft"), "sft", "training.tokensPerBatch", 100_000)
    long = change(long, "data", "outputs.sft", 60)
    process = m2r.start("run", "-f", write(long, tmp_path / "m"), "--store", tmp_path / "store")
    assert process.until("/sft  started")
    process.ctrl_c()
    time.sleep(0.2)
    process.ctrl_c()
    done = process.wait()
    assert done.code in (75, 130)  # 75 where the step was over within the fifth of a second
    assert "Traceback" not in done.err
    assert len(done.complaints) == 1
    # The latter where it was told to stop before it had claimed the run.
    assert re.search("the same command goes on|run it again", done.complaints[0])


def test_workers_of_a_killed_run_end_too(m2r: M2R, tmp_path: Path) -> None:
    files = write(manifests("data"), tmp_path / "manifests")
    process = m2r.start("run", "-f", files, "--store", tmp_path / "store")
    assert process.when(lambda: any((tmp_path / "store").rglob("s0/shard")))
    process.signal(signal.SIGKILL)
    process.wait()
    assert alone(process)


def alone(process: Process) -> bool:
    """Whether what the process has started is gone, or goes within a minute."""
    deadline = time.monotonic() + 60
    while process.children and time.monotonic() < deadline:
        time.sleep(0.1)
    return process.children == []


# damage


@stages(*TRAINING)
def test_a_checkpoint_with_a_flipped_bit_is_named_and_the_run_goes_on_from_its_parent(
    trial: Trial,
) -> None:
    trial.killed_at("after-save:2")
    newest, parent = sorted(
        (path for path in (trial.folder / "checkpoints").iterdir()),
        key=lambda path: -int(path.name.partition("-s")[2]),
    )
    flip(newest / "state.safetensors")
    before = files_under(newest)
    done = trial.finish()
    named = [line for line in done.err.splitlines() if newest.name in line]
    assert len(named) == 1
    assert "state.safetensors" in named[0] and "using its parent" in named[0]
    assert f"resumed from step {parent.name.partition('-s')[2]} " in done.err
    assert files_under(newest) == before  # evidence stays


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


@stages("sft")
def test_a_head_with_a_flipped_bit_is_rebuilt_from_the_manifests(trial: Trial) -> None:
    trial.killed_at("after-save:2")
    flip(trial.folder / "HEAD")
    done = trial.finish()
    assert sum("HEAD" in line for line in done.err.splitlines()) == 1
    assert "resumed from step 6 " in done.err


def cut_off(trial: Trial, process: Process) -> None:
    """Stops a process, which is not dead, at a moment in which it holds no lock of the store.

    Whoever waits for such a lock waits for as long as its holder lives; a store that several
    machines share has none.
    """
    process.stop()
    while any(map(is_locked, trial.folder.rglob(".m2r-lock"))):
        process.signal(signal.SIGCONT)
        time.sleep(0.01)
        process.stop()


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock in this file."""
    with path.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@stages("rlvr")
def test_an_older_attempt_can_write_nothing_after_a_newer_one_has_claimed(trial: Trial) -> None:
    slow = trial.start()
    assert slow.when(lambda: committed(trial))
    cut_off(trial, slow)
    newer = trial.spec.model_copy(update={"attempt": 2})
    (trial.home / "newer.json").write_text(newer.to_json())
    done = trial.m2r("stage", "--spec", trial.home / "newer.json", "--port", 0)
    assert done.code == 0, done.err
    files = files_under(trial.folder)
    slow.signal(signal.SIGCONT)
    fenced = slow.wait()
    assert fenced.code == 76
    assert len(fenced.complaints) == 1 and "attempt 2 owns the run" in fenced.complaints[0]
    late = {n for n, d in files_under(trial.folder).items() if files.get(n) != d}
    assert all(re.match(r"(journal|checkpoints)/e1", name) for name in late), late
    trial.journals.clear()
    head = read_head(LocalStore(trial.folder))
    assert head is not None and head.result is not None
    assert head.result["digest"] == trial.golden.digests["rlvr"]
