"""The laws of a run's life, and the searches through the model for a moment that breaks one."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from property.cluster_model import STEPS, Budget, Operator, World
from property.operator_model import Facts, Model, pod_name


class Broken(AssertionError):  # noqa: N818 - a law, not an error of the program
    """A law is broken; the message tells the way there."""


class Search(NamedTuple):
    """How far a search went."""

    states: int
    steps: int
    decisions: int


def check(model: Model, start: World, before: World, after: World) -> None:
    """The laws of every moment and of every step; what did not change was right before."""
    if after.run.status != before.run.status:
        old, new = model.facts_of(before), model.facts_of(after)
        used = Budget(*(a - b for a, b in zip(start.left, after.left, strict=True)))
        _attempts(old, new)
        _ends(model, old, new, after, used)
    if after.pods is not before.pods or after.head != before.head:
        _one_attempt(after)


def _attempts(old: Facts, new: Facts) -> None:
    _say(old.attempt <= new.attempt <= old.attempt + 1, "attempts grow, one by one")
    _say(old.accounted <= new.accounted <= new.attempt, "what has begun ends, for good")
    ends = new.charged + new.disruptions - old.charged - old.disruptions
    _say(0 <= ends <= 1, "ends are counted one by one")
    _say(new.charged == old.charged or new.accounted > old.accounted, "an end is counted twice")
    _say(not (new.complete and new.failed), "Complete and Failed exclude each other")
    _say(new.complete >= old.complete, "Complete stays")
    _say(not old.failed or new.failed == old.failed, "Failed stays")
    if old.complete or old.failed:
        _say(new.attempt == old.attempt, "what has ended is not started again")


def _ends(model: Model, old: Facts, new: Facts, after: World, used: Budget) -> None:
    _say(not new.complete or after.step == STEPS, "Complete only after the last step")
    if (
        new.charged > old.charged and new.blamed
    ):  # unseen ends are charged, so that they are bounded
        _say(_guilty(after, new.blamed), f"{new.blamed} is charged, which did not crash")
    free = used.deletions + used.forced + used.lost + used.evictions + used.jobs
    _say(new.disruptions <= free, "more disruptions than there were")
    again = free - used.evictions + used.crashes + used.hangs + used.toggles
    if len(after.operators) == 1:
        _say(new.attempt <= 1 + again, "an attempt begins for nothing")
    if new.failed and model.options.policy == "Resume":
        _say(bool(used.broken or used.crashes or used.hangs), f"failed for nothing: {new.failed}")


def _one_attempt(after: World) -> None:
    """Lost nodes, and what a former leader makes when it wakes up, are left to the store's fence:
    no precondition on the making of a Job can ask about another object."""
    if len(after.operators) > 1:
        return
    alive = {p.attempt for p in after.pods if p.lives and not p.lost and p.attempt >= after.head[0]}
    _say(len(alive) <= 1, f"attempts {sorted(alive)} are alive together")


def _guilty(world: World, name: str) -> bool:
    """Whether a pod crashed or hung; a Stalled one may be on its way out."""
    known = [p for o in world.operators for p, _ in o.pods or ()]
    pods = [p for p in (*world.pods, *known) if pod_name(p) == name]
    return any(p.code == 1 or p.phase == "H" or (p.code == 137 and p.asked < 0) for p in pods)


def _say(holds: bool, law: str) -> None:
    if not holds:
        raise Broken(law)


def done(model: Model, world: World) -> bool:
    """Whether the run has come to its end and the cluster is at rest."""
    if any(o.todo for o in world.operators):
        return False
    if world.run.gone:
        return not world.jobs and not world.pods
    facts = model.facts_of(world)
    ended = facts.complete or bool(facts.failed)
    return ended and not any(p.lives and not p.lost for p in world.pods)


def explore(model: Model, start: World, limit: int) -> Search:
    """Every moment that can be reached, breadth first, up to ``limit`` of them; and that from
    each of them the run can come to its end without any further misfortune."""
    numbers: dict[World, int] = {start: 0}
    worlds = [start]
    came: list[tuple[int, str]] = [(-1, "start")]
    sources, targets = array("I"), array("I")
    share: dict[object, object] = {}
    at = steps = 0
    while at < len(worlds) and len(worlds) < limit:
        world = worlds[at]
        for what, fair, after in model.moves(world):
            steps += 1
            number = numbers.get(after)
            try:
                check(model, start, world, after)
            except Broken as error:
                raise Broken(f"{error}: {_way(came, at)} {what}") from None
            if number is None:
                after = World(*(share.setdefault(part, part) for part in after))  # noqa: PLW2901
                number = numbers[after] = len(worlds)
                worlds.append(after)
                came.append((at, what))
            if fair:
                sources.append(at)
                targets.append(number)
        at += 1
    _can_end(model, worlds, came, sources, targets, seen=at)
    return Search(len(worlds), steps, model.thoughts)


def _can_end(
    model: Model,
    worlds: list[World],
    came: list[tuple[int, str]],
    sources: array[int],
    targets: array[int],
    *,
    seen: int,
) -> None:
    """Moments beyond ``seen`` were not looked at any more, and count as able to end."""
    able = np.zeros(len(worlds), dtype=bool)
    able[seen:] = True
    for number in range(seen):
        able[number] = done(model, worlds[number])
    a, b = np.frombuffer(sources, dtype=np.uint32), np.frombuffer(targets, dtype=np.uint32)
    while True:
        more = a[able[b] & ~able[a]]
        if not len(more):
            break
        able[more] = True
    stuck = np.flatnonzero(~able)
    if len(stuck):
        raise Broken(f"{len(stuck)} moments from which it never ends: {_way(came, int(stuck[0]))}")


def _way(came: list[tuple[int, str]], number: int) -> str:
    words = []
    while number >= 0:
        number, what = came[number]
        words.append(what)
    return " ".join(reversed(words))


def walk(model: Model, start: World, draw: random.Random, length: int) -> Iterator[str]:
    """A way through misfortunes by chance, then on without any until the run has ended."""
    world = start
    for number in range(length + 4000):
        options = [m for m in model.moves(world) if m[1] or number < length]
        rests = (number >= length or not options) and done(model, world)
        if rests and _rests(model, world):
            return
        if not options:
            raise Broken("nothing can happen any more, but the run has not ended")
        what, _, after = draw.choice(options)
        yield what
        check(model, start, world, after)
        world = after
    raise Broken("it goes on for ever")


def _rests(model: Model, world: World) -> bool:
    """Whether an operator that sees everything has nothing to write: asked of a new one."""
    if world.run.gone:
        return True
    me = Operator(world.run, True, world.jobs, tuple((p, False) for p in world.pods))
    decision, status = model.thought(me, world.hour, fresh=True)
    return status is None and not decision.actions
