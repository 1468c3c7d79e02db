"""Carrying decisions out: order, conflicts, adoption, refusals, and how many writes it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fakeapi import FakeApi
from operator_objects import KEY, job, owned, rlvr, sft
from simtime import simulate

from m2r_operator import names
from m2r_operator.apply import Applier, difference, plain
from m2r_operator.children import Children
from m2r_operator.client import Client
from m2r_operator.errors import ApiError, Unreachable
from m2r_operator.events import Recorder
from m2r_operator.runs import Runs
from m2r_operator.state import (
    Action,
    CreateJob,
    CreatePurge,
    Decision,
    Defaults,
    DeleteJob,
    DeleteRun,
    Event,
    Key,
    Measured,
    RunSeen,
    SetFinalizer,
)
from m2r_train.api import JobStatus, Storage
from m2r_train.api.status import Restarts

STORE = Storage(uri="s3://bucket/p")
MAKE = CreateJob(attempt=1, storage=STORE, image="i:1", inputs={})
TOLD = Event(reason="Started", message="attempt 1", attempt=1)
COUNTED = Measured(series="m2r_restarts_total", labels={"kind": "SFTJob", "class": "Crash"})


class World:
    """A server, caches and an applier."""

    def __init__(self, api: FakeApi, client: Client) -> None:
        self.api = api
        self.measured: list[Measured] = []
        self.runs = Runs(lambda key: None)
        self.children = Children(lambda key: None)
        self.recorder = Recorder(client, "me")
        self.applier = Applier(
            client, self.runs, self.children, self.recorder, Defaults(), self.measured.append
        )

    def add(self, body: dict[str, Any]) -> RunSeen:
        """A run that the API server has and we know."""
        del body["metadata"]["resourceVersion"]
        self.runs.put(body["kind"], self.api.put(names.PLURALS[body["kind"]], body))
        return self.run(Key(body["kind"], "ns", body["metadata"]["name"]))

    def run(self, key: Key = KEY) -> RunSeen:
        run = self.runs.get(key)
        assert run is not None
        return run

    @property
    def jobs(self) -> list[str]:
        return [j["metadata"]["name"] for j in self.api.all("jobs")]

    @property
    def status(self) -> dict[str, Any]:
        return dict((self.api.get("sftjobs", "ci") or {}).get("status") or {})


def play(test: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        async with FakeApi().serve() as api:
            client = Client(api.credentials)
            try:
                await test(World(api, client))
            finally:
                await client.close()

    simulate(main)


def first(*actions: Action) -> Decision:
    return Decision(
        status=JobStatus(attempt=1, phase="Pending"),
        actions=actions,
        events=(TOLD,),
        measured=(COUNTED,),
    )


def test_status_then_job_then_event_and_no_read_before_a_write() -> None:
    async def test(world: World) -> None:
        run = world.add(sft())
        applied = await world.applier.apply(run, first(MAKE))
        await world.recorder.flush()
        assert applied.acted
        made = [(r.method, r.path.rsplit("/", 1)[1]) for r in world.api.requests]
        assert made == [("PATCH", "status"), ("POST", "jobs"), ("POST", "events")]
        assert world.status == {"attempt": 1, "phase": "Pending"} | EMPTY
        assert world.jobs == ["ci-sftj-1"]
        assert world.measured == [COUNTED]
        assert world.run().status.attempt == 1, "the answer is in the cache at once"
        assert [j.name for j in world.children.of(run)[0]] == ["ci-sftj-1"]

    play(test)


EMPTY: dict[str, Any] = {}  # lists that are empty by default are equal on both sides: not sent


def test_a_run_that_has_changed_is_left_alone_and_read_again() -> None:
    async def test(world: World) -> None:
        run = world.add(sft())
        world.api.change("sftjobs", "ci", spec={"suspend": True})
        applied = await world.applier.apply(run, first(MAKE))
        assert (applied.conflict, applied.acted) == (True, False)
        assert (world.jobs, world.status, world.measured) == ([], {}, [])
        spec = world.run().spec
        assert spec is not None
        assert spec.suspend

    play(test)


def test_what_a_written_status_says_is_told_though_the_action_after_it_fails() -> None:
    async def test(world: World) -> None:
        run = world.add(sft())
        world.api.fail("POST .*/jobs", status=500)
        with pytest.raises(ApiError):
            await world.applier.apply(run, first(MAKE))
        await world.recorder.flush()
        assert [e["reason"] for e in world.api.all("events")] == ["Started"]
        assert world.measured == [COUNTED]

    play(test)


def test_a_run_that_is_gone_is_forgotten() -> None:
    async def test(world: World) -> None:
        run = world.add(sft())
        world.api.remove("sftjobs", "ci", quietly=True)
        assert (await world.applier.apply(run, first(MAKE))).conflict
        assert world.runs.get(KEY) is None
        assert world.jobs == []

    play(test)


def test_two_operators_count_an_attempt_once() -> None:
    """The same decision from the same version, twice: one is written, the other does nothing."""

    async def test(world: World) -> None:
        run = world.add(sft())
        one = await world.applier.apply(run, first(MAKE))
        two = await world.applier.apply(run, first(MAKE))
        assert (one.conflict, two.conflict) == (False, True)
        assert world.status["attempt"] == 1
        assert world.jobs == ["ci-sftj-1"]

    play(test)


def test_a_job_that_an_earlier_try_has_made_is_adopted() -> None:
    async def test(world: World) -> None:
        run = world.add(sft())
        world.api.fail("POST .*/jobs", lose=True)
        with pytest.raises(Unreachable):
            await world.applier.apply(run, first(MAKE))
        assert (world.jobs, world.status["attempt"]) == (["ci-sftj-1"], 1)
        again = await world.applier.apply(world.run(), Decision(status=None, actions=(MAKE,)))
        assert again.acted
        assert world.jobs == ["ci-sftj-1"]
        assert [j.owned for j in world.children.of(run)[0]] == [True]

    play(test)


def test_a_job_of_somebody_else_is_not_touched() -> None:
    async def test(world: World) -> None:
        run = world.add(sft())
        body = job(owner="somebody")
        world.api.put("jobs", body)
        applied = await world.applier.apply(run, first(MAKE))
        assert "Job ci-sftj-1 belongs to somebody else; delete it" in applied.rejected
        assert not applied.acted
        assert (world.api.get("jobs", "ci-sftj-1") or {})["metadata"]["ownerReferences"] == owned(
            "somebody"
        )

    play(test)


@pytest.mark.parametrize(
    ("status", "body", "terminating"),
    [
        (403, {"message": "exceeded quota: gpus"}, False),
        (403, {"message": "ns is being terminated",
               "details": {"causes": [{"reason": "NamespaceTerminating"}]}}, True),
        (422, {"message": "Job is invalid: spec.x"}, False),
        (413, {"message": "too large"}, False),
    ],
)  # fmt: skip
def test_a_refusal_is_told_and_is_no_failure(
    status: int, body: dict[str, Any], terminating: bool
) -> None:
    async def test(world: World) -> None:
        run = world.add(sft())
        world.api.fail("POST .*/jobs", status=status, body=body)
        applied = await world.applier.apply(run, first(MAKE))
        await world.recorder.flush()
        assert (applied.rejected, applied.terminating) == (body["message"], terminating)
        assert world.status["attempt"] == 1, "the attempt is counted: it will be made later"
        assert len(world.api.all("events")) == 1

    play(test)


def test_a_child_that_cannot_be_rendered_is_a_refusal() -> None:
    async def test(world: World) -> None:
        run = world.add(sft())
        huge = {f"f{n}": {"uri": "s3://b/" + "x" * 1000} for n in range(400)}
        make = CreateJob(attempt=1, storage=STORE, image="i", inputs=huge)  # type: ignore[arg-type]
        from m2r_train.api import RunInput

        make = CreateJob(
            attempt=1, storage=STORE, image="i",
            inputs={k: RunInput(uri=v["uri"]) for k, v in huge.items()},
        )  # fmt: skip
        applied = await world.applier.apply(run, first(make))
        assert applied.rejected
        assert "\n" not in applied.rejected
        assert world.jobs == []

    play(test)


@pytest.mark.parametrize("how", [{"status": 500}, {"status": 503, "times": 9}, {"delay": 99.0}])
def test_trouble_that_may_pass_is_raised_and_the_status_stays_the_memory(
    how: dict[str, Any],
) -> None:
    async def test(world: World) -> None:
        run = world.add(sft())
        world.api.fail("POST .*/jobs", **how)
        with pytest.raises((ApiError, Unreachable)):
            await world.applier.apply(run, first(MAKE))
        assert world.status["attempt"] == 1

    play(test)


def test_several_nodes_meet_by_a_service_that_is_made_before_the_job() -> None:
    async def test(world: World) -> None:
        run = world.add(rlvr(resources={"nodes": 2}))
        make = CreateJob(attempt=1, storage=STORE, image="i:1", inputs={})
        await world.applier.apply(run, first(make))
        assert [r.path.rsplit("/", 1)[1] for r in world.api.writes()] == [
            "status", "services", "jobs",
        ]  # fmt: skip
        second = CreateJob(attempt=2, storage=STORE, image="i:1", inputs={})
        key = Key("RLVRJob", "ns", "rl")
        assert (await world.applier.apply(world.run(key), first(second))).acted
        assert len(world.api.all("services")) == 1
        assert world.jobs == ["rl-rlvrj-1", "rl-rlvrj-2"]

    play(test)


def test_a_job_is_deleted_with_its_pods_and_only_if_it_is_the_one() -> None:
    async def test(world: World) -> None:
        run = world.add(sft())
        made = world.api.put("jobs", job(owner=run.uid))
        uid = made["metadata"]["uid"]
        world.api.put("pods", {"metadata": {"name": "p", "ownerReferences": owned(uid)}})
        world.children.put_job(made)
        wrong = DeleteJob(name="ci-sftj-1", uid="another")
        assert (await world.applier.apply(run, Decision(status=None, actions=(wrong,)))).acted
        assert world.jobs == ["ci-sftj-1"]
        right = DeleteJob(name="ci-sftj-1", uid=uid)
        await world.applier.apply(run, Decision(status=None, actions=(right,)))
        (seen,) = world.children.of(run)[0]
        assert seen.deleting, "it stays until its pods are gone"
        world.api.remove("pods", "p")
        world.api.remove("jobs", "ci-sftj-1")
        await world.applier.apply(run, Decision(status=None, actions=(right,)))
        assert world.children.of(run)[0] == ()

    play(test)


def test_the_finalizer_is_set_before_the_job_and_nobody_elses_is_lost() -> None:
    async def test(world: World) -> None:
        body = sft()
        body["metadata"]["finalizers"] = ["theirs"]
        run = world.add(body)
        await world.applier.apply(run, first(SetFinalizer(present=True), MAKE))
        assert [r.method for r in world.api.writes()] == ["PATCH", "PATCH", "POST"]
        assert world.run().finalizers == ("theirs", names.FINALIZER)
        await world.applier.apply(
            world.run(), Decision(status=None, actions=(SetFinalizer(present=False),))
        )
        assert world.run().finalizers == ("theirs",)

    play(test)


def test_a_purge_is_made_and_the_run_deleted_when_asked() -> None:
    async def test(world: World) -> None:
        run = world.add(sft())
        purge = CreatePurge(storage=STORE, image="i:1")
        await world.applier.apply(run, Decision(status=None, actions=(purge,)))
        assert world.jobs == ["ci-sftj-purge"]
        await world.applier.apply(run, Decision(status=None, actions=(DeleteRun(),)))
        assert world.api.get("sftjobs", "ci") is None

    play(test)


def test_a_status_that_does_not_differ_is_not_written() -> None:
    async def test(world: World) -> None:
        run = world.add(sft(status={"attempt": 1, "phase": "Pending"}))
        await world.applier.apply(run, Decision(status=JobStatus(attempt=1, phase="Pending")))
        assert world.api.writes() == []

    play(test)


def test_only_what_differs_is_written_and_what_is_newer_than_us_stays() -> None:
    async def test(world: World) -> None:
        run = world.add(sft(status={"attempt": 1, "invented": {"later": 1}, "phase": "Queued"}))
        status = JobStatus(attempt=1, restarts=Restarts(charged=1))
        await world.applier.apply(run, Decision(status=status))
        (write,) = world.api.writes()
        assert write.body["status"] == {"phase": None, "restarts": {"charged": 1, "disruptions": 0}}
        assert world.status["invented"] == {"later": 1}
        assert "phase" not in world.status

    play(test)


@pytest.mark.parametrize(
    ("old", "new", "patch"),
    [
        ({}, {}, {}),
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {}, {"a": None}),
        ({}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, {"a": {"c": None}}),
        ({"a": [1, 2]}, {"a": [1]}, {"a": [1]}),
        ({"a": {"b": 1}}, {"a": [1]}, {"a": [1]}),
        ({"a": 0}, {"a": False}, {}),
    ],
)
def test_the_difference_is_a_merge_patch(
    old: dict[str, Any], new: dict[str, Any], patch: dict[str, Any]
) -> None:
    assert difference(old, new) == patch


def test_a_status_is_plain_without_what_is_not_set() -> None:
    found = plain(JobStatus(attempt=2))
    assert found["attempt"] == 2
    assert "phase" not in found
