"""Several pods share one synthesis or evaluation: same bytes, whoever dies, and nothing hangs."""

from __future__ import annotations

import json
import signal

import pytest
from runs import KILLED, Process
from trials import Trial, stages, without_torch


def shared_by(trial: Trial, nodes: int) -> list[Process]:
    """Starts all pods of the trial's run, the owner first."""
    trial.change("resources.nodes", nodes)
    return [trial.start_pod(index) for index in range(nodes)]


def all_end(trial: Trial, *pods: Process) -> None:
    """Every pod ends well, and the result is that of one process."""
    for done in [trial.ended(pod) for pod in pods]:
        assert done.code == 0, done.err
    if len(pods) > 1:  # on a busy machine the owner may lose patience with a helper, and make
        trial.journals.clear()  # its part as well: then something is rightly paid twice
    trial.check()


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [2, 3])
@stages("data", "curriculum", "eval-rlvr")
def test_several_pods_make_of_a_spec_what_one_process_makes(trial: Trial, nodes: int) -> None:
    all_end(trial, *shared_by(trial, nodes))


@stages("data")
def test_helpers_make_their_share_and_leave_it_to_the_owner(trial: Trial) -> None:
    trial.change("resources.nodes", 3)
    for index in (1, 2):
        assert trial.start_pod(index).wait().code == 0
    assert trial.journal() == {(0, f"s{k}/shard") for k in (1, 2, 4, 5)}
    assert not (trial.folder / "HEAD").exists()
    owner = trial.start_pod(0)
    all_end(trial, owner)
    words = json.loads((trial.home / "termination-log-0").read_text())
    assert words["outputs"]["digest"] == trial.golden.digests["data"]


@stages("data")
def test_a_helper_that_is_killed_in_mid_shard_goes_on_after_it(trial: Trial) -> None:
    trial.change("resources.nodes", 2)
    helper = trial.start_pod(1, M2R_KILL_AT="before-journal:2")
    assert trial.ended(helper).code == KILLED
    assert trial.journal() == {(0, "s1/shard")}
    all_end(trial, trial.start_pod(0), trial.start_pod(1))


@stages("data", "eval-rlvr")
def test_the_owner_makes_the_share_of_a_helper_that_never_comes(trial: Trial) -> None:
    trial.change("resources.nodes", 2)
    all_end(trial, trial.start_pod(0))


@stages("data")
def test_an_owner_that_is_killed_finds_what_helpers_have_made_since(trial: Trial) -> None:
    trial.change("resources.nodes", 2)
    assert trial.ended(trial.start_pod(0, M2R_KILL_AT="before-journal:2")).code == KILLED
    assert trial.ended(trial.start_pod(1)).code == 0
    assert trial.journal() == {(1, "s0/shard"), *((0, f"s{k}/shard") for k in (1, 3, 5))}
    all_end(trial, trial.start_pod(0))


@stages("data")
def test_a_helper_of_a_finished_run_ends_at_once(trial: Trial) -> None:
    trial.finish()
    trial.change("resources.nodes", 2)
    done = trial.start_pod(1, **without_torch(trial.home)).wait(120)
    assert (done.code, "done before" in done.err) == (0, True)
    trial.check()


@stages("eval-rlvr")
def test_sigterm_ends_a_helper_without_waiting_for_its_part(trial: Trial) -> None:
    """An untrained model hardly ever ends a completion: each part would take minutes."""
    trial.change("resources.nodes", 2)
    trial.change("model", {"preset": "tiny", "uri": None, "from": None})
    trial.change("generation.maxCompletionTokens", 4000)
    trial.change("generation.samplesPerQuestion", 64)
    helper = trial.start_pod(1)
    assert helper.until("  started  ")
    helper.signal(signal.SIGTERM)
    done = trial.ended(helper)
    assert (done.code, len(done.complaints)) == (75, 1)
    assert trial.journal() == set()


@stages("sft")
def test_training_on_several_nodes_asks_where_they_meet(trial: Trial) -> None:
    trial.change("resources.nodes", 2)
    done = trial.start_pod(1).wait()
    assert (done.code, len(done.err.splitlines())) == (78, 1)
    assert "MASTER_ADDR" in done.err


@stages("data")
def test_an_index_beyond_the_nodes_is_refused(trial: Trial) -> None:
    done = trial.start_pod(3).wait()
    assert (done.code, len(done.err.splitlines())) == (78, 1)
    assert "JOB_COMPLETION_INDEX" in done.err
