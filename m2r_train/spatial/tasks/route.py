"""RoutePlan: the turns along the shortest route over things that can be walked to straight."""

from __future__ import annotations

import heapq
import math
from itertools import pairwise, product
from random import Random

from m2r_train.spatial.geometry import bearing, walkable
from m2r_train.spatial.margins import Margins
from m2r_train.spatial.scene import Point, Scene
from m2r_train.spatial.tasks.base import Question, choice, nameable

TURNS = ("turn left", "turn right", "turn back")
_BACK_DEGREES = 135.0
_STRAIGHT_DEGREES = 45.0
_MOST_LEGS = 3
DOOR = -1  # stands for the only door among the indices of boxes


def route_plan(scene: Scene, rng: Random, margins: Margins) -> Question | None:
    """Begins at a thing, facing another; goes over one or two more to the destination."""
    able = nameable(scene, margins)
    if len(able) < 3 or not scene.rooms:
        return None
    graph = walks(scene, able, margins)
    starts = list(able)
    rng.shuffle(starts)
    for start in starts:
        routes = shortest_routes(graph, start)
        ends = [i for i in able if 3 <= len(routes.get(i, ())) <= _MOST_LEGS + 1]
        if not ends:
            ends = [i for i in able if len(routes.get(i, ())) == 2]
        rng.shuffle(ends)
        for end in ends:
            route = routes[end]
            faced = [i for i in able if i not in route]
            rng.shuffle(faced)
            for facing in faced:
                question = _question(scene, rng, margins, route, facing)
                if question is not None:
                    return question
    return None


def walks(scene: Scene, able: list[int], margins: Margins) -> dict[int, dict[int, float]]:
    """Lengths in metres of the straight walks between things, and the door if there is one."""
    graph: dict[int, dict[int, float]] = {i: {} for i in able}
    stops = able
    if len(scene.doors) == 1:  # one of several could not be named
        stops = [*able, DOOR]
        graph[DOOR] = {}
    places = {i: place_of(scene, i) for i in stops}
    for k, a in enumerate(stops):
        for b in stops[k + 1 :]:
            length = math.dist(places[a], places[b])
            if length >= margins.leg and walkable(
                scene, places[a], places[b], (a, b), margins.clearance
            ):
                graph[a][b] = graph[b][a] = length
    return graph


def place_of(scene: Scene, stop: int) -> Point:
    """Where a thing stands, or the middle of the door."""
    if stop != DOOR:
        return scene.boxes[stop].place
    door = scene.doors[0]
    return (door.one[0] + door.two[0]) / 2, (door.one[1] + door.two[1]) / 2


def shortest_routes(graph: dict[int, dict[int, float]], start: int) -> dict[int, tuple[int, ...]]:
    """The shortest route from ``start`` to every thing that can be reached (Dijkstra)."""
    found: dict[int, tuple[int, ...]] = {}
    queue: list[tuple[float, tuple[int, ...]]] = [(0.0, (start,))]
    while queue:
        length, route = heapq.heappop(queue)
        if route[-1] in found:
            continue
        found[route[-1]] = route
        for after, more in graph[route[-1]].items():
            if after not in found:
                heapq.heappush(queue, (length + more, (*route, after)))
    return found


def _turn(angle: float, margin: float) -> str | None:
    """What a bearing asks for; None where it is nearly straight on or near a border."""
    if abs(angle) < _STRAIGHT_DEGREES + margin:
        return None
    if abs(abs(angle) - _BACK_DEGREES) < margin:
        return None
    if abs(angle) > _BACK_DEGREES:
        return "turn back"
    return "turn left" if angle > 0 else "turn right"


def _question(
    scene: Scene, rng: Random, margins: Margins, route: tuple[int, ...], facing: int
) -> Question | None:
    places = [place_of(scene, i) for i in route]
    names = ["door" if i == DOOR else scene.boxes[i].category for i in route]
    ahead = scene.boxes[facing].place
    if math.dist(places[0], ahead) < margins.observer:
        return None
    turns: list[str] = []
    angles = []
    for at, after in pairwise(places):
        angle = bearing(at, ahead, after)
        turn = _turn(angle, margins.angle)
        if turn is None:
            return None
        turns.append(turn)
        angles.append(angle)
        ahead = (2 * after[0] - at[0], 2 * after[1] - at[1])  # going on straight
    steps = []
    for k, name in enumerate(names[1:]):
        steps.append(f"{2 * k + 1}. [please fill in] {2 * k + 2}. Go forward until the {name}.")
    wrong = [t for t in product(TURNS, repeat=len(turns)) if list(t) != turns]
    chosen = rng.sample(wrong, min(3, len(wrong)))
    told = " ".join(
        f"At the {names[k]} the {names[k + 1]} is about {abs(angles[k]):.0f} degrees to the "
        f"{'left' if angles[k] > 0 else 'right'}: {turn}."
        for k, turn in enumerate(turns)
    )
    facing_name = scene.boxes[facing].category
    return choice(
        "RoutePlan",
        f"You are a robot beginning at the {names[0]} facing the {facing_name}. You want to "
        f"navigate to the {names[-1]}. You will perform the following actions (Note: for each "
        f"[please fill in], choose either 'turn back,' 'turn left,' or 'turn right.'): "
        f"{' '.join(steps)} You have reached the final destination.",
        _listed(turns),
        [_listed(list(t)) for t in chosen],
        rng,
        f"I begin at the {names[0]} and face the {facing_name}. {told}",
        facts={"route": route, "facing": facing, "turns": tuple(turns)},
    )


def _listed(turns: list[str]) -> str:
    return ", ".join(turn.title() for turn in turns)
