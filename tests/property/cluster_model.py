"""A small cluster in plain Python: what happens to a run's objects, and the operator among it.

A `World` is one frozen moment; `Model.moves` lists everything that may happen next. What the
operator knows are snapshots that may be as old as they like, each kind of object for itself; a
snapshot leaps to the present, so events between are lost, and events that come twice change
nothing. Its writes are steps of their own, and it may die before each. It is the real `decide`.

Times do not matter but for pauses: an hour passes when somebody waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

PhaseOfPod = Literal["P", "R", "C", "H", "E", "X"]
LIVE: Final = (
    "PRCH"  # pending, started, computing (has claimed the store), hanging; ended; forced off
)
STEPS: Final = 1  # steps of the run


class Pod(NamedTuple):
    """A pod. ``asked`` and ``ended`` are ranks: how many pods of its attempt were asked or had
    ended before; -1: not yet. ``lost``: with its node; the API server hears no more of it."""

    attempt: int
    serial: int
    job: int
    index: int = 0
    phase: PhaseOfPod = "P"
    code: int = -1
    marked: bool = False
    asked: int = -1
    ended: int = -1
    lost: bool = False

    @property
    def lives(self) -> bool:
        return self.phase in LIVE


class Job(NamedTuple):
    """A Job; attempt 0 is the purge. ``broken``: the exit code that will make it fail."""

    attempt: int
    serial: int
    suspended: bool = False
    was_suspended: bool = False
    deleting: bool = False
    outcome: str = ""
    broken: int | None = None
    marked: bool = False


class Run(NamedTuple):
    """The custom resource; ``status`` is an index into `Model.statuses`."""

    status: int = 0
    suspend: bool = False
    generation: int = 1
    deleting: bool = False
    finalizer: bool = False
    gone: bool = False


class Operator(NamedTuple):
    """What an operator knows (None: not listed yet), and what it is about to write."""

    run: Run | None = None
    current: bool = False  # whether its version of the run is still the newest
    jobs: tuple[Job, ...] | None = None
    pods: tuple[tuple[Pod, bool], ...] | None = None  # and whether it is gone
    todo: tuple[tuple[object, ...], ...] = ()


class Budget(NamedTuple):
    """How often each bad thing may still happen."""

    deletions: int = 0  # of a pod, by a person, or marked: preemption, eviction
    forced: int = 0  # deletions of a pod without grace
    lost: int = 0  # nodes
    crashes: int = 0
    broken: int = 0  # permanent exit codes
    hangs: int = 0
    evictions: int = 0  # by Kueue, or a person who suspends the Job
    jobs: int = 0  # deletions of a Job by a person
    toggles: int = 0  # of spec.suspend
    removals: int = 0  # deletions of the run
    deaths: int = 0  # of an operator


class World(NamedTuple):
    """One moment."""

    run: Run
    operators: tuple[Operator, ...]
    left: Budget
    jobs: tuple[Job, ...] = ()
    pods: tuple[Pod, ...] = ()
    head: tuple[int, int] = (0, 0)  # attempt and pod that own the store
    step: int = 0
    hour: int = 0
    made: int = 0  # Jobs and pods so far; the last one's serial number


class Options(NamedTuple):
    """Which cluster, and which guard of the API server or of the trainer is off."""

    nodes: int = 1
    kueue: bool = False
    purge: bool = False
    policy: str = "Resume"
    compare_and_swap: bool = True
    fenced: bool = True
    stops_with: int = 75


Move = tuple[str, bool, World]  # what happens, whether it is no misfortune, the moment after


def spent(left: Budget, **used: int) -> Budget:
    return left._replace(**{name: getattr(left, name) - n for name, n in used.items()})


def swap(items: tuple, old: object, new: object | None) -> tuple:  # type: ignore[type-arg]
    return tuple(
        (new if item is old else item) for item in items if item is not old or new is not None
    )


def rank(world: World, pod: Pod) -> int:
    mine = [p for p in world.pods if p.attempt == pod.attempt]
    return sum(p.asked >= 0 for p in mine) + sum(p.ended >= 0 for p in mine)


def with_pod(world: World, old: Pod, **changes: object) -> World:
    return world._replace(pods=swap(world.pods, old, old._replace(**changes)))  # type: ignore[arg-type]


def asked(world: World, pod: Pod, *, marked: bool = False) -> World:
    """A deletion is asked for. A pod that has not started goes without a word."""
    if pod.asked >= 0:
        return world
    return with_pod(world, pod, asked=rank(world, pod), marked=marked or pod.marked)


def ended(world: World, pod: Pod, code: int) -> World:
    return with_pod(world, pod, phase="E", code=code, ended=rank(world, pod))


def kubelet(world: World, options: Options) -> Iterator[Move]:
    """Pods start, claim the store, compute, save when asked, and exit."""
    for pod in world.pods:
        if not pod.lives:
            continue
        if pod.phase == "P":
            if pod.asked >= 0:
                yield "never-started", True, with_pod(world, pod, phase="X")
            else:
                yield "start", True, with_pod(world, pod, phase="R")
            continue
        if pod.lost:
            yield from _zombie(world, pod, options)
            continue
        if pod.asked >= 0:
            code = 137 if pod.phase == "H" else options.stops_with
            yield "stop", True, ended(world, pod, code)
        if pod.phase != "H":
            yield from _trainer(world, pod, options)


def _trainer(world: World, pod: Pod, options: Options) -> Iterator[Move]:
    me = (pod.attempt, pod.serial)
    if pod.phase == "R":
        if world.head[0] > pod.attempt and options.fenced:
            yield "refused", True, ended(world, pod, 76)
        elif pod.index == 0:
            yield "claim", True, with_pod(world, pod, phase="C")._replace(head=me)
        elif world.step == STEPS:
            yield "finish", True, ended(world, pod, 0)
    elif world.head != me and options.fenced:
        yield "fenced", True, ended(world, pod, 76)
    elif world.step < STEPS:
        yield "commit", True, world._replace(step=world.step + 1)
    else:
        yield "finish", True, ended(world, pod, 0)
    left = world.left
    if left.crashes:
        yield "crash", False, ended(world, pod, 1)._replace(left=spent(left, crashes=1))
    if left.broken:
        yield "bad-data", False, ended(world, pod, 65)._replace(left=spent(left, broken=1))
    if left.hangs and pod.phase == "C":
        yield "hang", False, with_pod(world, pod, phase="H")._replace(left=spent(left, hangs=1))


def _zombie(world: World, pod: Pod, options: Options) -> Iterator[Move]:
    """A pod of a lost node computes on and can commit as long as nobody has claimed the store."""
    if pod.phase == "C" and world.head == (pod.attempt, pod.serial) and world.step < STEPS:
        yield "late-commit", False, world._replace(step=world.step + 1)
    yield "node-confirmed-gone", True, with_pod(world, pod, phase="X")


def disruptions(world: World) -> Iterator[Move]:
    """What the cluster and people do to pods and Jobs."""
    left = world.left
    for pod in world.pods:
        if not pod.lives or pod.lost:
            continue
        if pod.asked < 0 and left.deletions:
            after = world._replace(left=spent(left, deletions=1))
            yield "delete-pod", False, asked(after, pod)
            yield "preempt", False, asked(after, pod, marked=True)
        if left.forced:
            after = world._replace(left=spent(left, forced=1))
            yield "force", False, with_pod(after, pod, phase="X", asked=rank(after, pod))
        if pod.phase in "RC" and left.lost:
            after = world._replace(left=spent(left, lost=1))
            yield "lose-node", False, with_pod(after, pod, lost=True, asked=rank(after, pod))
    for job in world.jobs:
        if job.attempt and not job.deleting and left.jobs:
            after = world._replace(left=spent(left, jobs=1))
            jobs = swap(world.jobs, job, job._replace(deleting=True))
            yield "delete-job", False, after._replace(jobs=jobs)


def queue(world: World, options: Options) -> Iterator[Move]:
    """Kueue (or a person) suspends Jobs and releases them."""
    left = world.left
    for job in world.jobs:
        if job.outcome or job.deleting or not job.attempt:
            continue
        if job.suspended:
            yield (
                "admit",
                True,
                world._replace(jobs=swap(world.jobs, job, job._replace(suspended=False))),
            )
        elif left.evictions and (options.kueue or _untouched(world, job)):
            jobs = swap(world.jobs, job, job._replace(suspended=True))
            yield "evict", False, world._replace(jobs=jobs, left=spent(left, evictions=1))


def _untouched(world: World, job: Job) -> bool:
    """Not while a pod's end is on its way to the Job: a person who suspends and releases the Job
    within that second makes it forget the end. Kueue may (the operator then waits for the Job);
    without Kueue the store's fence has to do, see the design note."""
    return all(p.lives and p.asked < 0 for p in world.pods if p.attempt == job.attempt)


def job_controller(world: World, options: Options) -> Iterator[Move]:
    """Makes pods, asks them to go, judges, and lets go of what it has counted."""
    for job in world.jobs:
        pods = [p for p in world.pods if (p.attempt, p.job) == (job.attempt, job.serial)]
        if not job.attempt:
            if not job.outcome:
                yield (
                    "purged",
                    True,
                    world._replace(jobs=swap(world.jobs, job, job._replace(outcome="Complete"))),
                )
        elif job.deleting or world.run.gone:
            yield from _take_down(world, job, pods)
        elif job.outcome:
            yield from _clean(world, job, pods)
        elif job.suspended and not any(p.code > 0 and p.asked < 0 for p in pods):
            yield from _hold(world, job, pods)
        else:
            yield from _drive(world, job, pods, options)


def _take_down(world: World, job: Job, pods: list[Pod]) -> Iterator[Move]:
    if not pods:
        yield "job-gone", True, world._replace(jobs=swap(world.jobs, job, None))
    for pod in pods:
        if pod.lives and pod.asked < 0:
            yield "ask", True, asked(world, pod)
        elif not pod.lives:
            yield "pod-gone", True, world._replace(pods=swap(world.pods, pod, None))


def _clean(world: World, job: Job, pods: list[Pod]) -> Iterator[Move]:
    for pod in pods:
        if pod.lives and pod.asked < 0:
            yield "ask", True, asked(world, pod)
        elif not pod.lives and pod.asked >= 0:
            yield "pod-gone", True, world._replace(pods=swap(world.pods, pod, None))


def _hold(world: World, job: Job, pods: list[Pod]) -> Iterator[Move]:
    """Suspended: pods are deleted and not counted; the condition comes with the first deletion."""
    if not job.was_suspended:
        after = world
        for pod in pods:
            current = next(p for p in after.pods if p[:2] == pod[:2])
            after = asked(after, current) if current.lives else after
        jobs = swap(world.jobs, job, job._replace(was_suspended=True))
        yield "suspended", True, after._replace(jobs=jobs)
        return
    for pod in pods:
        if pod.lives and pod.asked < 0:
            yield "ask", True, asked(world, pod)
        elif not pod.lives:
            yield "pod-gone", True, world._replace(pods=swap(world.pods, pod, None))


def _drive(world: World, job: Job, pods: list[Pod], options: Options) -> Iterator[Move]:  # noqa: PLR0912 - a controller, case by case
    stopping = [p for p in pods if job.was_suspended and p.asked >= 0 and job.broken is None]
    if stopping:  # released before all pods of the former stretch were gone
        for pod in stopping:
            if not pod.lives:
                yield "pod-gone", True, world._replace(pods=swap(world.pods, pod, None))
        return
    failed = [p for p in pods if not p.lives and p.code != 0]
    if job.broken is None and failed:
        first = min(failed, key=lambda p: (not p.marked, p.ended if p.ended >= 0 else p.asked))
        broken = job._replace(broken=first.code, marked=first.marked)
        yield "counted", True, world._replace(jobs=swap(world.jobs, job, broken))
        return
    if job.broken is not None:
        if any(p.lives and p.asked < 0 for p in pods):
            for pod in pods:
                if pod.lives and pod.asked < 0:
                    yield "ask", True, asked(world, pod)
        elif not any(p.lives for p in pods):
            jobs = swap(world.jobs, job, job._replace(outcome="Failed"))
            yield "job-failed", True, world._replace(jobs=jobs)
        for pod in pods:
            if not pod.lives and pod.asked >= 0:
                yield "pod-gone", True, world._replace(pods=swap(world.pods, pod, None))
        return
    there = {p.index for p in pods}
    for index in range(options.nodes):
        if index not in there:
            made = world.made + 1
            new = Pod(job.attempt, made, job.serial, index)
            yield "make-pod", True, world._replace(pods=(*world.pods, new), made=made)
            break
    if len(there) == options.nodes and all(p.code == 0 for p in pods):
        jobs = swap(world.jobs, job, job._replace(outcome="Complete"))
        yield "job-complete", True, world._replace(jobs=jobs)


def people(world: World) -> Iterator[Move]:
    """The owner of the run pauses it, lets it go on, deletes it."""
    run, left = world.run, world.left
    if run.gone:
        if world.jobs and all(not j.attempt for j in world.jobs):
            yield "purge-gone", True, world._replace(jobs=())
        return
    if run.deleting:
        if not run.finalizer:
            yield "run-gone", True, changed(world, run._replace(gone=True))
        return
    toggled = run._replace(suspend=not run.suspend, generation=run.generation + 1)
    if run.suspend:
        yield "go-on", True, changed(world, toggled)
    elif left.toggles:
        yield "pause", False, changed(world, toggled)._replace(left=spent(left, toggles=1))
    if left.removals:
        after = changed(world, run._replace(deleting=True))
        yield "delete-run", False, after._replace(left=spent(left, removals=1))


def changed(world: World, run: Run) -> World:
    """The run is another: whoever knows the former version can write no more."""
    operators = tuple(o._replace(current=False) for o in world.operators)
    return world._replace(run=run, operators=operators)
