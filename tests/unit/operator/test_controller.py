"""The loop: what makes it look, what it skips, and that one bad run stops no other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

from fakeapi import FakeApi
from operator_objects import job, pod, rlvr, sft
from simtime import sim_now, simulate, until

from m2r_operator.client import Client
from m2r_operator.controller import Controller
from m2r_operator.metrics import Metrics
from m2r_operator.state import CreateJob, Decision, Defaults, Key, Observed
from m2r_train.api import JobStatus, Storage

Decide = Callable[[Observed, datetime], Decision]
STORE = Storage(uri="s3://bucket/p")


class World:
    """A server and a controller whose decisions the test makes."""

    def __init__(self, api: FakeApi, client: Client, decide: Decide) -> None:
        self.api = api
        self.looks: list[Observed] = []
        self.metrics = Metrics()

        def noted(seen: Observed, now: datetime) -> Decision:
            self.looks.append(seen)
            return decide(seen, now)

        self.controller = Controller(
            client, Defaults(), self.metrics, identity="me", poll_seconds=5, decide=noted,
            now=sim_now,
        )  # fmt: skip

    def add(self, body: dict[str, object]) -> None:
        meta = dict(body["metadata"])  # type: ignore[call-overload]
        del meta["resourceVersion"]
        kind = str(body["kind"])
        plural = {"SFTJob": "sftjobs", "RLVRJob": "rlvrjobs"}[kind]
        self.controller.runs.put(kind, self.api.put(plural, {**body, "metadata": meta}))

    def names(self) -> list[str]:
        return [seen.run.key.name for seen in self.looks]


def play(test: Callable[[World], Awaitable[None]], decide: Decide) -> None:
    async def main() -> None:
        async with FakeApi().serve() as api:
            client = Client(api.credentials)
            world = World(api, client, decide)
            world.controller.queue.start()
            try:
                await test(world)
            finally:
                await world.controller.queue.stop(1)
                await client.close()

    simulate(main)


def idle(seen: Observed, now: datetime) -> Decision:
    return Decision(status=None)


def test_a_run_that_has_not_changed_is_not_decided_again() -> None:
    async def test(world: World) -> None:
        world.add(sft())
        await asyncio.sleep(1)
        for _ in range(10):
            world.controller.queue.add(Key("SFTJob", "ns", "ci"))
            await asyncio.sleep(1)
        assert world.names() == ["ci"]
        assert world.api.requests == []

    play(test, idle)


def test_a_decision_is_made_again_when_it_is_due() -> None:
    async def test(world: World) -> None:
        world.add(sft())
        await asyncio.sleep(65)
        assert world.names() == ["ci"] * 3

    play(test, lambda seen, now: Decision(status=None, requeue=30.0))


def test_children_and_references_make_a_run_dirty() -> None:
    async def test(world: World) -> None:
        world.add(sft())
        world.add(rlvr(model={"from": {"kind": "SFTJob", "name": "ci"}}))
        await asyncio.sleep(1)
        world.looks.clear()
        world.controller.children.put_job(job())
        await asyncio.sleep(1)
        world.controller.children.put_pod(pod())
        await asyncio.sleep(1)
        assert world.names() == ["ci", "ci"]
        assert (len(world.looks[-1].jobs), len(world.looks[-1].pods)) == (1, 1)
        world.looks.clear()
        gone = sft(version=1000)
        gone["metadata"]["uid"] = world.controller.runs.get(Key("SFTJob", "ns", "ci")).uid  # type: ignore[union-attr]
        world.controller.runs.remove("SFTJob", gone)
        await asyncio.sleep(1)
        assert world.names() == ["rl"]
        assert world.looks[-1].dependencies[0].reason == "DependencyMissing"

    play(test, idle)


def test_kueue_coming_and_going_is_looked_at_once_each() -> None:
    async def test(world: World) -> None:
        world.add(sft())
        await asyncio.sleep(1)
        for installed in (True, True, False):
            world.controller.set_kueue(installed)
            await asyncio.sleep(1)
        assert [seen.kueue for seen in world.looks] == [False, True, False]

    play(test, idle)


def test_a_run_whose_decision_fails_stops_no_other_and_is_tried_again() -> None:
    broken = True

    def decide(seen: Observed, now: datetime) -> Decision:
        if seen.run.key.name == "bad" and broken:
            raise ZeroDivisionError
        return Decision(status=JobStatus(attempt=1))

    async def test(world: World) -> None:
        nonlocal broken
        world.add(sft("bad"))
        world.add(sft("good"))
        await asyncio.sleep(5)
        assert (world.api.get("sftjobs", "good") or {})["status"]["attempt"] == 1
        assert world.names().count("bad") > 2
        errors = b'm2r_reconcile_errors_total{kind="SFTJob"} '
        assert errors in world.metrics.exposition()
        broken = False
        await until(lambda: (world.api.get("sftjobs", "bad") or {})["status"].get("attempt"))

    play(test, decide)


def test_a_conflict_is_decided_again_from_what_is_there_now() -> None:
    def decide(seen: Observed, now: datetime) -> Decision:
        if seen.run.status.attempt:
            return Decision(status=None)
        assert seen.run.spec is not None
        phase = "Suspended" if seen.run.spec.suspend else "Running"
        return Decision(status=JobStatus(attempt=1, phase=phase))

    async def test(world: World) -> None:
        world.add(sft())
        world.api.change("sftjobs", "ci", spec={"suspend": True})  # nobody has told us yet
        await asyncio.sleep(2)
        status = (world.api.get("sftjobs", "ci") or {})["status"]
        assert status == {"attempt": 1, "phase": "Suspended"}

    play(test, decide)


def test_a_refusal_is_seen_by_the_next_decision_and_cleared_by_what_works() -> None:
    make = CreateJob(attempt=1, storage=STORE, image="i", inputs={})

    def decide(seen: Observed, now: datetime) -> Decision:
        if seen.jobs:
            return Decision(status=JobStatus(attempt=1, phase="Running"))
        phase = "Queued" if seen.rejected else "Pending"
        return Decision(status=JobStatus(attempt=1, phase=phase), actions=(make,), requeue=30.0)

    async def test(world: World) -> None:
        quota = world.api.fail(
            "POST .*/jobs", status=403, body={"message": "exceeded quota"}, times=1000
        )
        world.add(sft())
        await asyncio.sleep(2)
        assert world.looks[-1].rejected == "exceeded quota"
        assert (world.api.get("sftjobs", "ci") or {})["status"]["phase"] == "Queued"
        tries = len(world.api.writes("/jobs"))
        await asyncio.sleep(20)
        assert len(world.api.writes("/jobs")) == tries, "a refusal is not repeated at full speed"
        quota.times = 0
        await until(lambda: world.api.all("jobs"), seconds=35)
        await asyncio.sleep(2)
        assert world.looks[-1].rejected == ""
        assert (world.api.get("sftjobs", "ci") or {})["status"]["phase"] == "Running"

    play(test, decide)


def test_a_decision_that_needs_proof_is_made_from_a_fresh_look() -> None:
    def decide(seen: Observed, now: datetime) -> Decision:
        if not seen.fresh:
            return Decision(status=None, refresh=True)
        return Decision(status=JobStatus(attempt=len(seen.jobs) * 10 + len(seen.pods)))

    async def test(world: World) -> None:
        world.controller.children.put_pod(pod(index=7))  # a cache that lags: it is gone for long
        ghost = job(attempt=9)
        world.controller.children.put_job(ghost)
        world.add(sft())
        uid = (world.api.get("sftjobs", "ci") or {})["metadata"]["uid"]
        made = world.api.put("jobs", {**job(owner=uid), "metadata": {
            **job(owner=uid)["metadata"], "resourceVersion": None}})  # fmt: skip
        child = pod(owner=made["metadata"]["uid"])
        world.api.put("pods", child)
        await asyncio.sleep(1)
        fresh = world.looks[1]
        assert fresh.fresh
        assert [j.name for j in fresh.jobs] == ["ci-sftj-1"]
        assert [(p.name, p.gone) for p in fresh.pods] == [
                ("ci-sftj-1-0", False), ("ci-sftj-1-7", True)]  # fmt: skip
        reads = [r.path.rsplit("/", 1)[1] for r in world.api.requests if r.method == "GET"]
        assert reads[:3] == ["ci", "jobs", "pods"], "the run first, its pods last"

    play(test, decide)


def test_a_run_that_a_fresh_look_does_not_find_is_forgotten() -> None:
    async def test(world: World) -> None:
        world.add(sft())
        world.api.remove("sftjobs", "ci", quietly=True)
        await asyncio.sleep(2)
        assert world.controller.runs.get(Key("SFTJob", "ns", "ci")) is None
        assert len(world.looks) == 1
        assert world.controller._memories == {}

    play(test, lambda seen, now: Decision(status=None, refresh=not seen.fresh))
