"""The operator's decisions in a modelled cluster: walks by chance, and every moment there is.

What a `Broken` says is the way to the moment that breaks the law. Each guard is switched off in
turn as well, to show that the laws would notice.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

import pytest
from property.cluster_model import Budget, Options
from property.model_laws import Broken, Search, explore, walk
from property.operator_model import Model

from m2r_operator import attempt, decide, finish
from m2r_operator.plan import Plan
from m2r_operator.state import Observed

WALKS = 150
CLUSTERS = {
    "one pod": (Options(), 1),
    "a gang of two": (Options(nodes=2), 1),
    "Kueue": (Options(kueue=True), 1),
    "Kueue and a gang": (Options(kueue=True, nodes=2), 1),
    "the folder goes with the run": (Options(purge=True), 1),
    "disruptions end the run": (Options(policy="Fail"), 1),
    "two operators": (Options(), 2),
    "two operators, Kueue, a gang, a purge": (Options(kueue=True, purge=True, nodes=2), 2),
}


def misfortunes(draw: random.Random) -> Budget:
    """A few bad things, mostly of some kinds only, so that they are near each other."""
    left = Budget(*(draw.choice((0, 0, 1, 2)) for _ in Budget._fields))
    return left._replace(removals=draw.choice((0, 0, 0, 1)), deaths=draw.choice((0, 1, 3)))


def stroll(model: Model, operators: int, seeds: range) -> int:
    """Walks from the start until the run has ended; the steps in all."""
    steps = 0
    for seed in seeds:
        draw = random.Random(seed)
        start = model.start(misfortunes(draw), operators)
        steps += sum(1 for _ in walk(model, start, draw, draw.choice((30, 80, 150))))
    return steps


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_no_walk_through_misfortunes_breaks_a_law_and_each_comes_to_its_end(cluster: str) -> None:
    options, operators = CLUSTERS[cluster]
    assert stroll(Model(options), operators, range(WALKS)) > 20 * WALKS


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("cluster", CLUSTERS)
def test_thousands_of_walks(cluster: str) -> None:
    options, operators = CLUSTERS[cluster]
    stroll(Model(options), operators, range(WALKS, 2000))


@pytest.mark.parametrize(
    ("options", "left", "least"),
    [
        (Options(), Budget(crashes=1, deaths=1), 10_000),
        (Options(), Budget(hangs=1, deaths=1), 10_000),
        (Options(kueue=True), Budget(evictions=1, deaths=1), 20_000),
    ],
    ids=["a crash", "a hanging pod", "an eviction"],
)
def test_every_moment_with_one_misfortune_and_one_death_of_the_operator_obeys_the_laws(
    options: Options, left: Budget, least: int
) -> None:
    found = everything(options, left, limit=200_000)
    assert least < found.states < 200_000  # all there are


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_million_moments_with_three_misfortunes_obey_the_laws() -> None:
    left = Budget(deletions=1, crashes=1, toggles=1, deaths=1)
    found = everything(Options(), left, limit=1_000_000)
    assert found.states >= 1_000_000


def everything(options: Options, left: Budget, *, limit: int) -> Search:
    model = Model(options)
    found = explore(model, model.start(left), limit)
    print(f"\n{found.states:,} moments, {found.steps:,} steps, {found.decisions:,} decisions")  # noqa: T201
    return found


# --- the laws notice when a guard is off -------------------------------------------------------


class Guard(NamedTuple):
    """A guard: where it may be missed, how it is switched off, what the laws then say."""

    law: str
    off: Callable[[pytest.MonkeyPatch], None] = lambda _: None
    options: Options = Options()
    left: Budget = Budget()
    operators: int = 1


def _trust_caches(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Plan, "lacks_proof", lambda _: False)


def _account_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Plan, "accounted", property(lambda _: False))


def _ignore_live_pods(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decide, "alive", lambda pods, now: [])


def _forget_the_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Plan, "ended", property(lambda _: False))


def _act_on_dead_pods(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        attempt,
        "_gang_is_gone",
        lambda plan, job, living: bool(plan.seen.newest_of(job.attempt)) and not living,
    )


def _stop_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decide, "stop_jobs", lambda plan, before=None: None)


def _leave_jobs_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(finish, "is_quiet", lambda seen, job: True)


def _make_jobs_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(attempt, "was_made", lambda plan: plan.draft.job is not None)


def _take_history_for_evidence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Observed, "newest_of", Observed.pods_of)


def _take_any_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decide, "has_finished", lambda plan, job: job.outcome == "Failed")
    patch.setattr(decide, "succeed", lambda plan: plan.draft.set("Complete", True, "Finished"))


GUARDS = {
    "the API server refuses a write about an old version": Guard(
        "attempts grow, one by one", options=Options(compare_and_swap=False), operators=2,
    ),
    "what cannot be taken back is decided from a fresh look": Guard(
        "more disruptions than there were", _trust_caches, left=Budget(deaths=1),
    ),
    "an end is accounted once": Guard(
        "counted twice", _account_again, left=Budget(crashes=1),
    ),
    "no attempt begins while a pod lives": Guard(
        "alive together", _ignore_live_pods, left=Budget(toggles=1),
    ),
    "an ended run stays ended": Guard(
        "not started again", _forget_the_end, left=Budget(broken=1),
    ),
    "the death of pods is no end where Kueue may have suspended the Job": Guard(
        "begins for nothing", _act_on_dead_pods, options=Options(kueue=True),
        left=Budget(evictions=1),
    ),
    "the death of pods is no end before each of the gang was seen": Guard(
        "begins for nothing", _act_on_dead_pods, options=Options(nodes=2),
    ),
    "a Job is told to stop again where the operator died before it was": Guard(
        "never ends", _stop_once, left=Budget(hangs=1, deaths=1),
    ),
    "a Job that may still make pods is not left alone": Guard(
        "never ends", _leave_jobs_alone, left=Budget(hangs=1, deaths=1),
    ),
    "a Job that was there is not made again under its number": Guard(
        "never ends", _make_jobs_twice, left=Budget(jobs=1),
    ),
    "a pod of a former stretch is no evidence": Guard(
        "more disruptions than there were", _take_history_for_evidence,
        options=Options(kueue=True), left=Budget(evictions=1, crashes=1),
    ),
    "a pod that was asked to stop does not exit 0": Guard(
        "only after the last step", options=Options(stops_with=0), left=Budget(deletions=1),
    ),
    "a run is complete when its Job is": Guard(
        "only after the last step", _take_any_end, left=Budget(deletions=1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GUARDS)
def test_the_laws_notice_when_a_guard_is_off(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = GUARDS[name]
    guard.off(monkeypatch)
    with pytest.raises(Broken, match=guard.law):
        explore_with(guard, limit=60_000)


def explore_with(guard: Guard, *, limit: int) -> None:
    model = Model(guard.options)
    explore(model, model.start(guard.left, guard.operators), limit)
