"""The operator in the model: snapshots, the real `decide`, and one write at a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from property.cluster_model import (
    Budget,
    Job,
    Move,
    Operator,
    Options,
    Pod,
    Run,
    World,
    asked,
    changed,
    disruptions,
    job_controller,
    kubelet,
    people,
    queue,
    spent,
    swap,
)

from m2r_operator import names
from m2r_operator.decide import decide
from m2r_operator.state import (
    CreateJob,
    CreatePurge,
    Decision,
    Defaults,
    DeleteJob,
    JobSeen,
    Key,
    Observed,
    PodSeen,
    Poll,
    RunSeen,
    SetFinalizer,
    Told,
)
from m2r_train.api import JobSpec, JobStatus, RLVRSpec, Storage

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
KEY: Final = Key("RLVRJob", "lab", "run")


class Facts(NamedTuple):
    """What a status says, as the laws ask for it."""

    attempt: int
    accounted: int
    charged: int
    disruptions: int
    complete: bool
    failed: str
    suspended: bool
    waits: bool  # for a pause to be over
    moved: datetime | None  # while it runs: when it began to or last moved
    blamed: str  # the pod that the last failure names


class Model:
    """All moves of a cluster with one run and its operators."""

    def __init__(self, options: Options = Options()) -> None:  # noqa: B008 - frozen
        self.options = options
        self.statuses: list[JobStatus] = []
        self.facts: list[Facts] = []
        self._ids: dict[str, int] = {}
        self._thoughts: dict[object, tuple[Decision, int | None]] = {}
        self._specs = {suspend: self._spec(suspend) for suspend in (False, True)}
        self.intern(JobStatus())

    def start(self, left: Budget, operators: int = 1) -> World:
        """A run that was just made."""
        return World(Run(), (Operator(),) * operators, left)

    def moves(self, world: World) -> Iterator[Move]:
        """Everything that may happen next."""
        yield from kubelet(world, self.options)
        yield from disruptions(world)
        yield from queue(world, self.options)
        yield from job_controller(world, self.options)
        yield from people(world)
        if self._somebody_waits(world):
            yield "hour", True, world._replace(hour=world.hour + 1)
        for number, operator in enumerate(world.operators):
            for what, fair, after in self._operator(world, operator):
                yield f"{what}#{number}", fair, after(number)

    def intern(self, status: JobStatus) -> int:
        """The number of a status."""
        text = status.model_dump_json()
        if text not in self._ids:
            self._ids[text] = len(self.statuses)
            self.statuses.append(status)
            self.facts.append(_facts(status))
        return self._ids[text]

    def facts_of(self, world: World) -> Facts:
        """What the run's status says."""
        return self.facts[world.run.status]

    # the operator

    def _operator(self, world: World, me: Operator) -> Iterator[tuple]:  # type: ignore[type-arg]
        def put(new: Operator, base: World = world):  # type: ignore[no-untyped-def]
            return lambda number: base._replace(
                operators=(*base.operators[:number], new, *base.operators[number + 1 :])
            )

        if me.todo:
            after, new = self._write(world, me)
            yield "write", True, put(new, after)
        else:
            new = self._think(world, me)
            if new != me:
                yield "think", True, put(new)
            if me.run != world.run or not me.current:
                yield "see-run", True, put(me._replace(run=world.run, current=True))
            if me.jobs != world.jobs:
                yield "see-jobs", True, put(me._replace(jobs=world.jobs))
            pods = self._pods(world, me)
            if me.pods != pods:
                yield "see-pods", True, put(me._replace(pods=pods))
        if world.left.deaths and me != Operator():
            yield "die", False, put(Operator(), world._replace(left=spent(world.left, deaths=1)))

    def _pods(self, world: World, me: Operator) -> tuple[tuple[Pod, bool], ...]:
        """The pods that are there, and those of the present attempt that are gone."""
        attempt = self.facts[world.run.status].attempt
        there = {p[:2] for p in world.pods}
        gone = [p for p, _ in me.pods or () if p[:2] not in there and p.attempt >= attempt]
        return (*((p, False) for p in world.pods), *((p, True) for p in gone))

    def _think(self, world: World, me: Operator) -> Operator:
        if me.run is None or me.jobs is None or me.pods is None or me.run.gone:
            return me
        decision, status = self.thought(me, world.hour, fresh=False)
        if decision.refresh:
            me = me._replace(
                run=world.run, current=True, jobs=world.jobs, pods=self._pods(world, me)
            )
            if world.run.gone:
                return me
            decision, status = self.thought(me, world.hour, fresh=True)
            assert not decision.refresh, "a fresh look asks for another"
        todo = [] if status is None else [("status", status)]
        todo += [self._action(a, me.jobs or ()) for a in decision.actions]
        return me._replace(todo=tuple(todo))

    def _action(self, action: object, jobs: tuple[Job, ...]) -> tuple[object, ...]:
        if isinstance(action, CreateJob):
            return ("create", action.attempt, action.queue is not None)
        if isinstance(action, DeleteJob):
            job = next(j for j in jobs if _job_uid(j) == action.uid)
            return ("delete", job.attempt, job.serial)
        if isinstance(action, CreatePurge):
            return ("create", 0, False)
        assert isinstance(action, SetFinalizer)
        return ("finalizer", action.present)

    def _write(self, world: World, me: Operator) -> tuple[World, Operator]:
        """The next write; a refused one drops the rest."""
        (what, *given), rest = me.todo[0], me.todo[1:]
        done = me._replace(todo=rest)
        if what == "create":
            return self._create(world, *given), done  # type: ignore[arg-type]
        if what == "delete":
            for job in world.jobs:
                if [job.attempt, job.serial] == given:
                    jobs = swap(world.jobs, job, job._replace(deleting=True))
                    return world._replace(jobs=jobs), done
            return world, done
        if world.run.gone or (not me.current and self.options.compare_and_swap):
            return world, me._replace(todo=())
        if what == "status":
            run = world.run._replace(status=int(given[0]))  # type: ignore[call-overload]
        else:
            run = world.run._replace(finalizer=bool(given[0]))
        return changed(world, run), done._replace(run=run, current=True)

    def _create(self, world: World, attempt: int, queued: bool) -> World:
        if world.run.gone or any(j.attempt == attempt for j in world.jobs):
            return world  # its owner is gone, so it goes at once; or the name is taken
        job = Job(attempt, world.made + 1, queued, queued)
        return world._replace(jobs=tuple(sorted((*world.jobs, job))), made=world.made + 1)

    # decisions

    def thought(self, me: Operator, hour: int, *, fresh: bool) -> tuple[Decision, int | None]:
        """What the operator decides from what it knows; remembered, since it is pure."""
        key = (me.run, me.jobs, me.pods, hour, fresh)
        known = self._thoughts.get(key)
        if known is None:
            seen, now = self.observed(me, hour, fresh=fresh), START + hour * HOUR
            decision = decide(seen, now)
            status = None if decision.status is None else self.intern(decision.status)
            known = self._thoughts[key] = decision, status
        return known

    @property
    def thoughts(self) -> int:
        """Different situations that were decided."""
        return len(self._thoughts)

    def observed(self, me: Operator, hour: int, *, fresh: bool) -> Observed:
        """What `observe` would make of a snapshot."""
        run, now = me.run, START + hour * HOUR
        assert run is not None
        hanging = [p for p, gone in me.pods or () if p.phase == "H" and not gone]
        return Observed(
            run=RunSeen(
                key=KEY,
                uid="u",
                generation=run.generation,
                resource_version="",
                spec=self._specs[run.suspend],
                status=self.statuses[run.status],
                deleting_since=now if run.deleting else None,
                finalizers=(names.FINALIZER,) if run.finalizer else (),
            ),
            jobs=tuple(_job_seen(j) for j in me.jobs or ()),
            pods=tuple(_pod_seen(p, gone, now) for p, gone in me.pods or ()),
            poll=Poll(
                attempt=hanging[0].attempt,
                pod_uid=_pod_uid(hanging[0]),
                told=Told(step=1, total_steps=9),
            )
            if hanging
            else None,
            defaults=Defaults(image="trainer:1"),
            kueue=self.options.kueue,
            fresh=fresh,
        )

    def _spec(self, suspend: bool) -> JobSpec:
        storage = Storage(
            uri="s3://lab/runs", reclaim_policy="Delete" if self.options.purge else "Retain"
        )
        return RLVRSpec.model_validate(
            {
                "model": {"uri": "s3://lab/model"},
                "dataset": {"uri": "s3://lab/data"},
                "steps": 9,
                "storage": storage,
                "suspend": suspend,
                "resources": {"nodes": self.options.nodes},
                "scheduling": {"queue": "q" if self.options.kueue else None},
                "disruption": {"policy": self.options.policy},
                "watchdog": {"stallSeconds": 60},
            }
        )

    def _somebody_waits(self, world: World) -> bool:
        """Whether time may pass: for a pause, or so that a hanging pod is found out."""
        if world.run.gone:
            return False
        facts, now = self.facts_of(world), START + world.hour * HOUR
        if facts.waits:
            failure = self.statuses[world.run.status].failure
            assert failure is not None
            assert failure.time is not None
            return now <= failure.time
        hangs = any(p.phase == "H" and not p.lost and p.asked < 0 for p in world.pods)
        return hangs and facts.moved is not None and now <= facts.moved


def _facts(status: JobStatus) -> Facts:
    conditions = {c.type: c for c in status.conditions}
    holds = {c.type for c in status.conditions if c.status == "True"}
    failed, running = conditions.get("Failed"), conditions.get("Running")
    moved = [running.last_transition_time] if running else []
    if status.progress is not None and status.progress.time is not None:
        moved.append(status.progress.time)
    return Facts(
        attempt=status.attempt,
        accounted=(status.failure.attempt or 0) if status.failure else 0,
        charged=status.restarts.charged if status.restarts else 0,
        disruptions=status.restarts.disruptions if status.restarts else 0,
        complete="Complete" in holds,
        failed=failed.reason if failed is not None and failed.status == "True" else "",
        suspended="Suspended" in holds,
        waits=running is not None and running.reason == "Backoff",
        moved=max(moved) if "Running" in holds else None,
        blamed=(status.failure.pod or "") if status.failure else "",
    )


def _job_uid(job: Job) -> str:
    return f"j{job.attempt}.{job.serial}"


def _pod_uid(pod: Pod) -> str:
    return f"p{pod.attempt}.{pod.serial}.{pod.index}"


def pod_name(pod: Pod) -> str:
    """What a pod is called."""
    return f"run-{pod.attempt}-{pod.serial}"


def _job_seen(job: Job) -> JobSeen:
    message = ""
    if job.outcome == "Failed":
        known = job.broken in (64, 65, 75, 76, 78, 143)
        message = (
            "Pod lab/run has condition DisruptionTarget matching FailJob rule at index 0"
            if job.marked
            else f"Container trainer for pod lab/run failed with exit code {job.broken} matching"
            if known
            else "Job has reached the specified backoff limit"
        )
    name = names.job_name(KEY.kind, KEY.name, job.attempt)
    return JobSeen(
        name=name if job.attempt else names.purge_name(KEY.kind, KEY.name),
        uid=_job_uid(job),
        attempt=job.attempt,
        deleting=job.deleting,
        suspended=job.suspended,
        was_suspended=job.was_suspended,
        outcome=job.outcome or None,  # type: ignore[arg-type]
        message=message,
    )


def _pod_seen(pod: Pod, gone: bool, now: datetime) -> PodSeen:
    def at(number: int) -> datetime | None:
        return None if number < 0 else START + timedelta(seconds=number)

    phase = {"P": "Pending", "E": "Succeeded" if pod.code == 0 else "Failed"}
    late = -HOUR if pod.lost else HOUR
    return PodSeen(
        name=pod_name(pod),
        uid=_pod_uid(pod),
        attempt=pod.attempt,
        index=pod.index,
        phase=phase.get(pod.phase, "Failed" if pod.phase == "X" and not pod.lost else "Running"),
        ready=pod.phase in "RCH",
        gone=gone,
        delete_by=now + late if pod.asked >= 0 else None,
        deleting_since=at(pod.asked),
        created=START + timedelta(seconds=pod.serial),
        finished=at(pod.ended),
        exit_code=pod.code if pod.phase == "E" else None,
        disruption="PreemptionByScheduler" if pod.marked else "",
    )


__all__ = ["KEY", "START", "Budget", "Model", "Options", "World", "asked"]
