"""Reading objects: every fact that decisions need, and nothing that an object holds can raise."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_objects import job, pod, rlvr, sft, uid

from m2r_operator.observe import (
    job_seen,
    labelled_run,
    owner_uid,
    pod_seen,
    run_seen,
    told_of,
    version_of,
)
from m2r_operator.state import Key, Told
from m2r_operator.telling import outputs_of
from m2r_train.api.status import Condition

TIME = "2026-01-02T03:04:05Z"
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


def test_a_run_is_read() -> None:
    body = sft(version=7, status={"attempt": 2, "phase": "Running"})
    body["metadata"] |= {
        "deletionTimestamp": TIME, "finalizers": ["f"], "labels": {"a": "b"}, "generation": 3,
        "creationTimestamp": TIME,
    }  # fmt: skip
    run = run_seen("SFTJob", body)
    assert (run.key, run.uid, run.generation) == (Key("SFTJob", "ns", "ci"), uid("ci"), 3)
    assert (run.resource_version, run.deleting_since, run.created) == ("7", AT, AT)
    assert (run.finalizers, run.labels) == (("f",), {"a": "b"})
    assert run.spec is not None
    assert run.spec.resources.nodes == 1
    assert (run.status.attempt, run.status.phase) == (2, "Running")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"model": {"preset": "tiny"}}, "spec.dataset: is required"),
        ({"model": {"preset": "huge"}, "dataset": {"uri": "s3://lab/d", "split": "sft"}},
         "spec.model.preset"),
        (None, "spec"),
        ([1, 2], "spec"),
        ("text", "spec"),
        ({"from": "the future"}, "spec.from: unknown field"),
    ],
)  # fmt: skip
def test_a_spec_that_cannot_be_read_says_why_and_stops_nobody(spec: Any, says: str) -> None:
    run = run_seen("SFTJob", {**sft(), "spec": spec})
    assert run.spec is None
    assert says in run.unreadable
    assert "\n" not in run.unreadable
    assert len(run.unreadable) <= 1024


def test_of_a_damaged_status_the_rest_survives() -> None:
    good = {"type": "Complete", "status": "True", "reason": "F", "lastTransitionTime": TIME}
    newer = {**good, "status": "Perhaps"}
    status = {"attempt": 3, "conditions": [newer, good], "restarts": "broken", "future": 1}
    run = run_seen("SFTJob", sft(status=status))
    assert run.status.attempt == 3
    assert run.status.restarts is None
    assert run.status.conditions == (Condition.model_validate(good),)


@pytest.mark.parametrize(
    ("status", "outcome", "reason"),
    [
        ({}, None, ""),
        ({"conditions": [{"type": "Complete", "status": "False"}]}, None, ""),
        ({"conditions": [{"type": "SuccessCriteriaMet", "status": "True"}]}, None, ""),
        ({"conditions": [{"type": "Complete", "status": "True"}]}, "Complete", ""),
        ({"conditions": [{"type": "Failed", "status": "True", "reason": "PodFailurePolicy"}]},
         "Failed", "PodFailurePolicy"),
    ],
)  # fmt: skip
def test_a_job_is_over_when_it_says_so(
    status: dict[str, Any], outcome: str | None, reason: str
) -> None:
    seen = job_seen(job(attempt=4, status=status))
    assert (seen.outcome, seen.reason, seen.attempt) == (outcome, reason, 4)


def test_a_job_is_read() -> None:
    condition = {"type": "Failed", "status": "True", "message": "m", "lastTransitionTime": TIME}
    body = job(status={"active": 2, "conditions": [condition]}, deletionTimestamp=TIME)
    body["spec"] = {"suspend": True}
    seen = job_seen(body)
    assert (seen.suspended, seen.deleting, seen.active) == (True, True, 2)
    assert (seen.message, seen.finished) == ("m", AT)
    assert (owner_uid(body), labelled_run(body)) == (uid("ci"), Key("SFTJob", "ns", "ci"))


def container(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "trainer", "state": state}]}


def test_a_running_pod_is_read() -> None:
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    status = {"phase": "Running", "podIP": "10.1.2.3", **ready,
              **container(running={"startedAt": TIME})}  # fmt: skip
    seen = pod_seen(pod(index=3, attempt=2, status=status))
    assert (seen.index, seen.attempt, seen.ip, seen.node) == (3, 2, "10.1.2.3", "n")
    assert (seen.ready, seen.live, seen.started) == (True, True, AT)


def test_an_ended_pod_is_read() -> None:
    words = json.dumps({"step": 7, "totalSteps": 10, "reason": "Preempted"})
    ended = {"exitCode": 75, "finishedAt": TIME, "startedAt": TIME, "message": words}
    mark = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
            "message": "m"}  # fmt: skip
    status = {"phase": "Failed", "conditions": [mark], **container(terminated=ended)}
    seen = pod_seen(pod(status=status, deletionTimestamp=TIME, deletionGracePeriodSeconds=65))
    assert (seen.exit_code, seen.finished, seen.live) == (75, AT, False)
    assert (seen.disruption, seen.disruption_message) == ("PreemptionByScheduler", "m")
    assert seen.delete_by == AT
    assert seen.deleting_since == datetime(2026, 1, 2, 3, 3, 0, tzinfo=UTC)
    assert seen.told == Told(step=7, total_steps=10, reason="Preempted")


@pytest.mark.parametrize(
    ("status", "waiting"),
    [
        (container(waiting={"reason": "ContainerCreating"}), ""),
        (container(waiting={"reason": "ImagePullBackOff", "message": "m"}), "ImagePullBackOff"),
        ({"initContainerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}],
          **container(waiting={"reason": "PodInitializing"})}, "ErrImagePull"),
        ({"containerStatuses": [{"name": "sidecar", "state": {"waiting": {"reason": "X"}}}]}, ""),
    ],
)  # fmt: skip
def test_why_a_container_does_not_start_is_seen(status: dict[str, Any], waiting: str) -> None:
    assert pod_seen(pod(status=status)).waiting == waiting


def test_an_out_of_memory_kill_and_a_pod_without_room_are_seen() -> None:
    killed = pod_seen(pod(status=container(terminated={"exitCode": 137, "reason": "OOMKilled"})))
    assert (killed.oom_killed, killed.exit_code, killed.told) == (True, 137, None)
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                 "message": "0/1 nodes"}  # fmt: skip
    stuck = pod_seen(pod(status={"phase": "Pending", "conditions": [scheduled]}))
    assert stuck.unschedulable == "0/1 nodes"


@pytest.mark.parametrize(
    "words", [None, "", "not json", "[1]", "17", '"text"', b"\xff\xfe", "{" * 100_000, 12, ["x"]]
)
def test_words_that_make_no_sense_are_none(words: object) -> None:
    assert told_of(words) is None


def test_of_words_only_what_fits_is_taken() -> None:
    told = told_of(
        {
            "step": -1, "totalSteps": True, "reason": 7, "message": "m" * 5000,
            "metrics": {"loss": float("nan"), "rewardMean": 1, "x": "y", "z": True},
            "lastCheckpoint": {"uri": "s3://a", "step": "4"},
            "resumedFrom": {"step": 2.0, "lostSteps": "many"},
            "outputs": {"scores": {"b": 3}},
        }
    )  # fmt: skip
    assert told is not None
    assert (told.step, told.total_steps, told.reason) == (None, None, "7")
    assert len(told.message) == 1024
    assert told.metrics == {"rewardMean": 1.0}
    assert told.last_checkpoint is None
    assert told.resumed_from == {"step": 2, "lostSteps": None}
    assert told.outputs is None


def test_good_words_are_taken_whole() -> None:
    saved = {"uri": "s3://a/b", "step": 4, "time": 1767322845}
    scores = {"bench": {"overall": {"value": 40.5, "n": 10, "stderr": 1.5}}}
    outputs = {"modelUri": "s3://m", "digest": "d", "scores": scores, "counts": {"sft": 3}}
    told = told_of(json.dumps({"step": 4, "lastCheckpoint": saved, "outputs": outputs}))
    assert told is not None
    assert told.last_checkpoint == saved
    assert told.outputs == outputs
    assert outputs_of(told.outputs).scores[0].value == 40.5


@given(json_values)
def test_no_words_can_raise(words: Any) -> None:
    told = told_of(words)
    if told is not None and told.outputs is not None:
        outputs_of(told.outputs)
    try:
        text = json.dumps(words)
    except ValueError:
        return
    assert told_of(text) == told or told is not None


@given(
    st.sampled_from(["metadata", "spec", "status"]),
    st.sampled_from(["name", "labels", "conditions", "containerStatuses", "ownerReferences",
                     "deletionTimestamp", "annotations", "podIP", "resourceVersion", "attempt",
                     "generation", "finalizers", "active", "uid", "restarts"]),
    json_values,
)  # fmt: skip
def test_no_object_can_raise(part: str, name: str, value: Any) -> None:
    for make, read in ((sft, "SFTJob"), (rlvr, "RLVRJob")):
        body = make(status={"attempt": 1})
        for broken in (
            {**body, part: value},
            {**body, part: {**body[part], name: value}},
        ):
            run_seen(read, broken)
    for make, parse in ((job, job_seen), (pod, pod_seen)):
        body = make()
        for broken in ({**body, part: value}, {**body, part: {**body[part], name: value}}):
            parse(broken)
            owner_uid(broken)
            labelled_run(broken)
            version_of(broken)
