"""What a pod tells, as it goes into the status."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.operator.builders import NOW, Life, a_job, a_pod, at, ended, poll_of, running, told

from m2r_operator.draft import Draft
from m2r_operator.observe import told_of
from m2r_operator.telling import note_progress, outputs_of, step_of
from m2r_train.api import JobStatus
from m2r_train.api.status import Failure, Progress

CHECKPOINT = {"uri": "s3://lab/runs/c", "step": 20, "time": 1767268800}


def draft_of(seconds: float = 0, **fields: Any) -> Draft:
    return Draft(JobStatus(**fields), 1, at(seconds))


def test_a_first_answer_is_told_at_once() -> None:
    draft = draft_of()
    metrics = {"rewardMean": 0.123456, "x": 1.0}
    assert note_progress(draft, told(3, metrics=metrics, last_checkpoint=CHECKPOINT)) is None
    assert (draft.progress.step, draft.progress.percent, draft.progress.time) == (3, 3, NOW)
    assert draft.metrics.reward_mean == 0.1235
    assert draft.last_checkpoint.step == 20
    assert draft.is_true("CheckpointReady")


@pytest.mark.parametrize(
    ("seconds", "step", "total", "wait"),
    [
        (1, 11, 10_000, 14),  # the same percent: every 15 s
        (14, 11, 10_000, 1),
        (15, 11, 10_000, None),
        (1, 11, 100, 4),  # another percent: every 5 s
        (5, 11, 100, None),
        (0, 4, 100, None),  # behind what was known, so a new attempt: at once
    ],
)
def test_progress_is_held_back_so_that_the_api_server_is_no_time_series_database(
    seconds: float, step: int, total: int, wait: float | None
) -> None:
    known = Progress(step=10, total_steps=total, percent=1000 // total, time=NOW)
    draft = draft_of(seconds, progress=known)
    assert note_progress(draft, told(step, total)) == wait
    assert (draft.progress.step == step) == (wait is None)


def test_the_last_words_are_not_held_back() -> None:
    draft = draft_of(1, progress=Progress(step=10, total_steps=100, percent=10, time=NOW))
    assert note_progress(draft, told(11), final=True) is None
    assert draft.progress.step == 11


def test_what_is_known_is_not_told_again() -> None:
    draft = draft_of(100, progress=Progress(step=10, total_steps=100, percent=10, time=NOW))
    assert note_progress(draft, told(10, metrics={"loss": 1.0}), final=True) is None
    assert draft.status().metrics is None


@pytest.mark.parametrize(
    ("step", "total", "said"), [(0, 0, None), (0, None, None), (0, 9, 0), (4, 0, 4)]
)
def test_a_pod_that_still_loads_its_model_is_at_no_step(
    step: int, total: int | None, said: int | None
) -> None:
    assert step_of(told(step, total)) == said  # type: ignore[arg-type]


def test_a_run_that_is_about_to_resume_is_not_set_back_to_step_0() -> None:
    draft = draft_of(100, progress=Progress(step=500, total_steps=1000, percent=50, time=NOW))
    note_progress(draft, told(0, 0))
    assert draft.progress.step == 500


def test_the_time_left_comes_from_the_pace_since_the_last_word() -> None:
    life = running().look(10, poll=poll_of(10)).look(20, poll=poll_of(20))
    assert life.status.progress is not None
    assert life.status.progress.eta_seconds == 160  # 10 steps in 20 s, 80 to go


def test_the_time_left_stays_when_only_a_checkpoint_is_new() -> None:
    life = running().look(10, poll=poll_of(10)).look(20, poll=poll_of(20))
    life.look(20, poll=poll_of(20, told=told(20, last_checkpoint=CHECKPOINT)))
    assert life.status.last_checkpoint is not None
    assert life.status.progress is not None
    assert life.status.progress.eta_seconds == 160
    assert life.status.progress.time == at(35)  # when the last step was seen, not the last word


def test_a_pause_is_no_pace() -> None:
    life = running().look(10, poll=poll_of(10))
    life.look(10, pods=(ended(75),), poll=None).look(3600)
    assert life.status.attempt == 2
    jobs = (a_job(outcome="Failed"), a_job(2))
    life.look(1, jobs=jobs, pods=(ended(75), a_pod(2)), poll=poll_of(11, attempt=2))
    assert life.status.progress is not None
    assert (life.status.progress.step, life.status.progress.eta_seconds) == (11, None)


class TestResumedFrom:
    """Where an attempt began, and what it lost."""

    @pytest.mark.parametrize(
        ("resumed", "failure", "lost"),
        [
            ({"step": 20, "lostSteps": 3}, None, 3),
            ({"step": 20, "lostSteps": None}, None, 0),
            ({"step": 20}, Failure(class_="Crash", attempt=1, step=24), 4),
            ({"step": 20}, Failure(class_="Crash", attempt=1, step=None), 0),
            ({"step": 20}, Failure(class_="Crash", attempt=1, step=8), 0),
        ],
    )
    def test_lost_steps_are_the_trainers_or_what_was_last_seen(
        self, resumed: dict[str, Any], failure: Failure | None, lost: int
    ) -> None:
        draft = draft_of(attempt=2, failure=failure)
        note_progress(draft, told(20, resumed_from=resumed))
        assert (draft.resumed_from.step, draft.resumed_from.lost_steps) == (20, lost)

    def test_the_end_of_the_same_attempt_does_not_change_what_it_began_with(self) -> None:
        draft = draft_of(attempt=2, failure=Failure(class_="Crash", attempt=2, step=50))
        note_progress(draft, told(50, resumed_from={"step": 20}))
        assert draft.resumed_from is None


class TestOnlyThePresentPodIsHeard:
    """A Job that is released by Kueue again has pods of a former stretch."""

    def test_the_last_words_of_a_former_pod_do_not_drown_the_present_one(self) -> None:
        old = ended(75, told=told(10), uid="old", gone=True)
        life = running().look(10, poll=poll_of(10)).look(5, pods=(old,), kueue=True)
        new = a_pod(created=at(60), uid="new")
        life.look(60, pods=(old, new), poll=poll_of(12, pod_uid="new"))
        assert life.status.progress is not None
        assert life.status.progress.step == 12

    def test_an_answer_of_a_former_pod_is_not_taken_for_the_present_ones(self) -> None:
        life = running().look(10, poll=poll_of(12, pod_uid="old"))
        assert life.status.progress is None


def test_scores_and_counts_become_outputs() -> None:
    outputs = outputs_of(
        {
            "modelUri": "s3://lab/m",
            "counts": {"kept": 3},
            "digest": "d",
            "scores": {
                "vsi-bench": {"overall": {"value": 41.5, "n": 10, "stderr": 0.5}, "x": {}},
                "synthetic": {"x": {"value": 1.0}},
                "we-math": {"overall": {"value": None, "n": 0, "stderr": None}},
            },
        }
    )
    assert (outputs.model_uri, outputs.counts, outputs.digest) == ("s3://lab/m", {"kept": 3}, "d")
    assert [(s.benchmark, s.value, s.n) for s in outputs.scores] == [("vsi-bench", 41.5, 10)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
NUMBERS = st.integers(-5, 2**40) | st.floats() | JSON
WORDS = st.fixed_dictionaries(
    {},
    optional={
        "step": NUMBERS,
        "totalSteps": NUMBERS,
        "metrics": JSON
        | st.dictionaries(st.sampled_from(["loss", "rewardMean", "tokensPerSecond"]), NUMBERS),
        "lastCheckpoint": JSON
        | st.fixed_dictionaries({"uri": st.text(), "step": NUMBERS, "time": NUMBERS}),
        "resumedFrom": JSON | st.fixed_dictionaries({"step": NUMBERS, "lostSteps": NUMBERS}),
        "outputs": JSON | st.fixed_dictionaries({"scores": JSON, "counts": JSON}),
        "message": JSON | st.text(min_size=5000, max_size=5000),
    },
)


@given(
    words=WORDS,
    code=st.sampled_from([0, 1, 65, 75]),
    outcome=st.sampled_from([None, "Complete", "Failed"]),
)
def test_whatever_a_pod_says_the_run_can_be_decided_about(
    words: dict[str, Any], code: int, outcome: str | None
) -> None:
    said = told_of(words)
    life: Life = running()
    life.look(20, poll=poll_of(0, told=said))
    life.look(1, pods=(ended(code, told=said),))
    life.look(
        1,
        jobs=(
            life.seen.jobs[0].__class__(
                name="run-rlvrj-1", uid="job-1", attempt=1, outcome=outcome
            ),
        ),
    )  # type: ignore[arg-type]
