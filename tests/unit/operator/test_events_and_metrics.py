"""Events that are told once, and the operator's series."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from fakeapi import FakeApi
from operator_objects import done, rlvr, seen, sft
from prometheus_client.parser import text_string_to_metric_families
from simtime import cancelled, simulate, until

from m2r_operator import events
from m2r_operator.client import Client
from m2r_operator.events import Recorder, manifest
from m2r_operator.metrics import FINISHED, OPERATOR_SERIES, UNFINISHED, Metrics
from m2r_operator.state import Event, Measured, RunSeen

STARTED = Event(reason="Started", message="attempt 1", attempt=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_telling_the_same_again_makes_no_second_line() -> None:
    async def main() -> None:
        async with FakeApi().serve() as api:
            client = Client(api.credentials)
            for _ in range(2):  # the second one is a restarted operator
                recorder = Recorder(client, "me")
                recorder.tell(seen(sft()), STARTED)
                await recorder.flush()
                assert recorder.dropped == 0
            recorder.tell(seen(sft()), Event(reason="Started", message="again", attempt=2))
            recorder.tell(seen(rlvr()), STARTED)
            await recorder.flush()
            assert len(api.all("events")) == 3
            await client.close()

    simulate(main)


def test_events_that_cannot_be_sent_hold_up_nothing() -> None:
    async def main() -> None:
        async with FakeApi().serve() as api:
            client = Client(api.credentials)
            recorder = Recorder(client, "me")
            task = asyncio.create_task(recorder.run())
            api.fail("POST .*/events", status=403)
            recorder.tell(seen(sft("a")), STARTED)
            recorder.tell(seen(sft("b")), STARTED)
            await until(lambda: api.all("events"))
            assert (len(api.all("events")), recorder.dropped) == (1, 1)
            recorder.tell(seen(sft("c")), STARTED)
            await until(lambda: len(api.all("events")) == 2)
            assert not task.done()
            await cancelled(task)
            await client.close()

    simulate(main)


def test_the_events_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        recorder = Recorder(None, "me")  # type: ignore[arg-type]
        for n in range(events.WAITING + 10):
            recorder.tell(seen(sft(f"r{n}")), STARTED)
        assert recorder.dropped == 10
        assert len(recorder._queue) == events.WAITING

    simulate(main)


def test_an_event_is_as_kubernetes_wants_it() -> None:
    long = Event(reason="Failed", message="é" * 1024, attempt=2, warning=True)
    body = manifest(seen(sft()), long, "me", NOW)
    assert body["metadata"]["name"].startswith("ci.")
    assert len(body["note"].encode()) <= 1024
    assert (body["type"], body["regarding"]["kind"]) == ("Warning", "SFTJob")
    assert body["eventTime"] == "2026-01-01T00:00:00.000000Z"


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    text = metrics.exposition().decode()
    return {
        (s.name, tuple(v for _, v in sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def shown(*runs: RunSeen) -> Metrics:
    metrics = Metrics()
    metrics.show(lambda: runs, leads=lambda: True, depth=lambda: 3)
    return metrics


def finished(name: str, second: int = 0, **more: Any) -> RunSeen:
    status = {**done(modelUri="s3://m"), "progress": {"step": 7, "totalSteps": 7},
              "metrics": {"rewardMean": 0.5, "score": 40.0}, "activeSeconds": 60, **more,
              "completionTime": f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z"}  # fmt: skip
    return seen(rlvr(name, status=status))


def test_runs_are_counted_by_kind_and_phase_as_they_are_now() -> None:
    found = samples(shown(seen(sft()), seen(sft("b", status={"phase": "Running"})), finished("c")))
    assert found["m2r_jobs", ("SFTJob", "Pending")] == 1
    assert found["m2r_jobs", ("SFTJob", "Running")] == 1
    assert found["m2r_jobs", ("RLVRJob", "Succeeded")] == 1
    assert found["m2r_jobs", ("EvalJob", "Failed")] == 0
    assert (found["m2r_leader", ()], found["m2r_queue_depth", ()]) == (1, 3)


def test_the_last_facts_of_finished_runs_stay_while_the_resource_does() -> None:
    found = samples(shown(finished("c"), seen(rlvr("live", status={"phase": "Running"}))))
    key = ("RLVRJob", "ns", "c")
    assert found["m2r_run_phase", ("RLVRJob", "ns", "Succeeded", "c")] == 1
    assert found["m2r_run_steps", key] == 7
    assert found["m2r_run_reward_mean", key] == 0.5
    assert found["m2r_run_score_ratio", key] == 0.4
    assert found["m2r_run_active_seconds", key] == 60
    assert found["m2r_run_completion_timestamp_seconds", key] == 1767225600
    assert not any("live" in labels for _, labels in found)
    assert not any(name.startswith("m2r_run_") for name, _ in samples(shown()))


def test_the_facts_of_finished_runs_are_bounded_to_the_newest() -> None:
    runs = [finished(f"r{n}", second=n) for n in range(FINISHED + 5)]
    found = samples(shown(*runs))
    kept = {labels[2] for name, labels in found if name == "m2r_run_steps"}
    assert len(kept) == FINISHED
    assert kept == {f"r{n}" for n in range(5, FINISHED + 5)}


def begun(name: str, disruptions: int = 0) -> RunSeen:
    status = {"phase": "Running", "attempt": 1 + disruptions,
              "restarts": {"charged": 1, "disruptions": disruptions}}  # fmt: skip
    return seen(rlvr(name, status=status))


def disruptions_shown(*runs: RunSeen) -> dict[str, float]:
    found = samples(shown(*runs))
    return {key[2]: value for (name, key), value in found.items() if name == "m2r_run_disruptions"}


def test_disruptions_are_told_of_runs_that_have_begun_and_not_ended() -> None:
    first = seen(rlvr("first", status={"phase": "Running", "attempt": 1}))
    waiting = seen(rlvr("waiting"))
    found = disruptions_shown(first, begun("again", 3), finished("c"), waiting)
    assert found == {"first": 0, "again": 3}


def test_the_disruptions_told_are_bounded_to_the_most_disrupted_runs() -> None:
    found = disruptions_shown(*(begun(f"r{n}", n) for n in range(UNFINISHED + 5)))
    assert set(found) == {f"r{n}" for n in range(5, UNFINISHED + 5)}


def test_what_is_counted_has_closed_labels_whatever_comes() -> None:
    metrics = Metrics()
    metrics.request("patch", "sftjobs/status", "2xx")
    metrics.request("sing", "songs", "??")
    metrics.reconciled("SFTJob", 0.01)
    metrics.failed("SFTJob")
    metrics.polled(True)
    metrics.relisted("pods")
    for class_ in ("Crash", "InventedLater"):
        labels = {"kind": "SFTJob", "class": class_}
        metrics.measured(Measured(series="m2r_restarts_total", labels=labels))
    metrics.measured(Measured(series="m2r_recovery_seconds", value=4.0))
    found = samples(metrics)
    assert found["m2r_api_requests_total", ("2xx", "sftjobs/status", "patch")] == 1
    assert found["m2r_api_requests_total", ("error", "other", "other")] == 1
    assert found["m2r_restarts_total", ("Crash", "SFTJob")] == 1
    assert found["m2r_restarts_total", ("other", "SFTJob")] == 1
    assert found["m2r_recovery_seconds_count", ()] == 1
    assert found["m2r_reconcile_errors_total", ("SFTJob",)] == 1


def test_everything_that_is_shown_is_declared() -> None:
    metrics = shown(finished("c"))
    declared = {one.name for one in OPERATOR_SERIES}
    text = metrics.exposition().decode()
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert names <= declared
    for promised in (
        "m2r_jobs",
        "m2r_reconcile_seconds",
        "m2r_reconcile_errors_total",
        "m2r_restarts_total",
        "m2r_recovery_seconds",
        "m2r_api_requests_total",
    ):
        assert promised in declared  # fmt: skip
