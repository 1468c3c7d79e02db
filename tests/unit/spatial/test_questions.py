"""The worked directions of synthesis.md, the margins, and what a mirror and a scale must do."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import geometry_check
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2r_train.core.rewards import RewardConfig, score
from m2r_train.spatial import Box, Door, Frame, Margins, Scene, Sight, questions, to_sample
from m2r_train.spatial.geometry import bearing, box_distance, segment_polygon, walkable
from m2r_train.spatial.scene import mirrored, scaled
from m2r_train.spatial.tasks import IMAGE_TASKS, VIDEO_TASKS
from m2r_train.spatial.tasks.appearance import appearance_order
from m2r_train.spatial.tasks.direction import direction_easy, direction_hard, direction_medium
from m2r_train.spatial.tasks.distance import relative_distance
from m2r_train.spatial.tasks.picture import count, depth, plural
from m2r_train.spatial.tasks.room import object_count, object_size, room_size
from m2r_train.spatial.tasks.route import route_plan

M = Margins()
SEEN = Sight(pixels=900, share=1.0, rectangle=(10.0, 10.0, 40.0, 40.0))
LOOK_NORTH = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))


def box(category: str, x: float, y: float, size: float = 0.2) -> Box:
    return Box(category=category, centre=(x, y, size / 2), size=(size, size, size))


def frame(sights: dict[int, Sight], at: tuple[float, float] = (0.0, -5.0)) -> Frame:
    return Frame(
        width=100, height=100, fx=60.0, fy=60.0, cx=50.0, cy=50.0,
        rotation=LOOK_NORTH, position=(*at, 1.5), sights=sights,
    )  # fmt: skip


def scene(*boxes: Box, side: float = 10.0) -> Scene:
    half = side / 2
    outline = ((-half, -half), (half, -half), (half, half), (-half, half))
    return Scene(
        boxes=boxes,
        frames=(frame(dict.fromkeys(range(len(boxes)), SEEN), (0.0, -4.0)),),
        rooms=(outline,),
    )


@pytest.mark.parametrize(
    ("q", "angle", "easy", "medium", "hard"),
    [
        ((-1, 1), 45.0, "left", "left", "front-left"),
        ((1, -3), -161.565, "right", "back", "back-right"),
        ((-2, -1), 116.565, "left", "left", "back-left"),
    ],
)
def test_the_worked_directions(
    q: tuple[float, float], angle: float, easy: str, medium: str, hard: str
) -> None:
    assert bearing((0, 0), (0, 2), q) == pytest.approx(angle, abs=1e-3)
    here = scene(box("bed", 0, 0), box("tv", 0, 2), box("sofa", *q))
    for ask, truth in ((direction_easy, easy), (direction_medium, medium), (direction_hard, hard)):
        asked = [ask(here, Random(k), M) for k in range(60)]
        found = {a.truth for a in asked if a and a.facts["boxes"] == (0, 1, 2)}
        assert found == {truth}


@pytest.mark.parametrize(
    ("degrees", "level", "clear"),
    [
        (9.0, "Easy", False), (11.0, "Easy", True), (171.0, "Easy", False), (169.0, "Easy", True),
        (126.0, "Medium", False), (124.0, "Medium", True), (146.0, "Medium", True),
        (-126.0, "Medium", False), (179.0, "Medium", True),
        (81.0, "Hard", False), (79.0, "Hard", True), (101.0, "Hard", True), (175.0, "Hard", False),
    ],
)  # fmt: skip
def test_directions_near_a_border_are_not_asked(degrees: float, level: str, clear: bool) -> None:
    turn = math.radians(90 + degrees)
    here = scene(
        box("bed", 0, 0), box("tv", 0, 2), box("sofa", 2 * math.cos(turn), 2 * math.sin(turn))
    )
    ask = {"Easy": direction_easy, "Medium": direction_medium, "Hard": direction_hard}[level]
    asked = (ask(here, Random(k), M) for k in range(60))
    assert any(a and a.facts["boxes"] == (0, 1, 2) for a in asked) is clear


def test_an_observer_who_stands_in_a_thing_is_not_asked() -> None:
    here = scene(box("bed", 0, 0), box("tv", 0, 0.15), box("sofa", 1, 1))
    asked = [direction_easy(here, Random(k), M) for k in range(60)]
    assert not any(a and {0, 1} == set(a.facts["boxes"][:2]) for a in asked)


BOXES = st.builds(
    lambda x, y, z, w, d, h, yaw: Box(category="a", centre=(x, y, z), size=(w, d, h), yaw=yaw),
    *(st.floats(-3, 3), st.floats(-3, 3), st.floats(0, 2)),
    *(st.floats(0.1, 2), st.floats(0.1, 2), st.floats(0.1, 2), st.floats(-4, 4)),
)


@given(one=BOXES, other=BOXES)
def test_distance_of_boxes_is_that_of_sampled_points(one: Box, other: Box) -> None:
    sampled = geometry_check.gap(one, other)
    exact = box_distance(one, other)
    assert exact == pytest.approx(box_distance(other, one), abs=1e-9)
    assert exact - 1e-6 <= sampled <= exact + 0.06  # the samples lie up to 5 cm apart


def test_hand_computed_distances() -> None:
    one = Box(category="a", centre=(0, 0, 0.5), size=(1, 1, 1))
    assert box_distance(one, replace(one, centre=(4.0, 4.0, 0.5))) == pytest.approx(3 * 2**0.5)
    assert box_distance(one, replace(one, centre=(0.2, 0.0, 3.5))) == pytest.approx(2.0)
    assert box_distance(one, replace(one, centre=(4.0, 0.0, 5.5))) == pytest.approx(5.0)
    assert box_distance(one, replace(one, centre=(0.5, 0.5, 0.5), yaw=0.7)) == 0.0
    assert segment_polygon((-2, 0), (2, 0), one.footprint) == 0.0
    assert segment_polygon((-2, 1.5), (2, 1.5), one.footprint) == pytest.approx(1.0)


def test_what_is_hidden_is_not_asked_about() -> None:
    here = scene(box("bed", 0, 0))
    assert object_size(here, Random(0), M) is not None
    for sight in (
        replace(SEEN, pixels=39), replace(SEEN, share=0.59), replace(SEEN, share=None),
    ):  # fmt: skip
        hidden = replace(here, frames=(frame({0: sight}),))
        assert object_size(hidden, Random(0), M) is None


def test_counting_needs_two_or_more_all_of_them_seen() -> None:
    pair = scene(box("chair", 0, 0), box("chair", 2, 0), box("bed", 3, 3))
    asked = object_count(pair, Random(0), M)
    assert asked is not None
    assert (asked.answer, asked.reward) == ("2", "ednm")
    one_hidden = replace(pair, frames=(frame({0: SEEN, 2: SEEN}),))
    assert object_count(one_hidden, Random(0), M) is None
    assert object_count(replace(pair, complete=False), Random(0), M) is None
    assert count(replace(pair, complete=False), Random(0), M) is None
    part = replace(pair, frames=(frame({0: SEEN, 1: replace(SEEN, share=0.4)}),))
    assert count(part, Random(0), M) is None


def test_room_size_needs_the_camera_in_every_room() -> None:
    here = scene(box("bed", 0, 0))
    asked = room_size(here, Random(0), M)
    assert asked is not None
    assert asked.answer == "100.0"
    two = replace(here, rooms=(*here.rooms, ((5, -5), (8, -5), (8, 5), (5, 5))))
    assert room_size(two, Random(0), M) is None
    both = replace(two, frames=(*two.frames, frame({}, (6.0, 0.0))))
    asked = room_size(both, Random(0), M)
    assert asked is not None
    assert (asked.answer, asked.unit) == ("130.0", "m2")
    assert "100.00 + 30.00 = 130.00" in asked.thought


@pytest.mark.parametrize(("second", "clear"), [(1.75, False), (1.85, True)])
def test_the_nearest_candidate_stands_out(second: float, clear: bool) -> None:
    """The boxes are 0.2 m wide: middles at 1.5 m are 1.3 m apart."""
    here = scene(
        box("bed", 0, 0), box("a", 1.5, 0), box("b", -second, 0), box("c", 0, 3), box("d", 0, -4)
    )
    asked = [relative_distance(here, Random(k), M) for k in range(40)]
    found = {a.truth for a in asked if a and a.facts["anchor"] == 0}
    assert found == ({"a"} if clear else set())


def test_order_of_appearance_holds_for_sharp_and_strict_watchers() -> None:
    boxes = [box(c, i, 0) for i, c in enumerate("abcd")]
    full, trace = Sight(pixels=200), Sight(pixels=20)
    frames = [frame({i: full}) for i in range(4)]
    here = replace(scene(*boxes), frames=tuple(frames))
    asked = appearance_order(here, Random(0), M)
    assert asked is not None
    assert asked.truth == "a, b, c, d"
    assert len(set(asked.options or ())) == 4
    # A trace of c before b is there: a sharp-eyed watcher says a, c, b, d.
    frames[0] = frame({0: full, 2: trace})
    assert appearance_order(replace(here, frames=tuple(frames)), Random(0), M) is None


def test_a_route_goes_through_the_door_and_not_through_walls() -> None:
    west, east = ((-4, 0), (0, 0), (0, 4), (-4, 4)), ((0, 0), (4, 0), (4, 4), (0, 4))
    here = Scene(
        boxes=(box("bed", -3, 2), box("sofa", 3, 0.5), box("tv", -3, 3.5)),
        frames=(frame(dict.fromkeys(range(3), SEEN)),),
        rooms=(west, east),
        doors=(Door(one=(0, 3.5), two=(0, 2.5)),),
    )
    assert not walkable(here, (-3, 2), (3, 0.5), (0, 1), 0.25)
    assert walkable(here, (-3, 2), (0, 3), (0, 1), 0.25)
    asked = [route_plan(here, Random(k), M) for k in range(30)]
    found = {a.text: a for a in asked if a and a.facts["route"] == (0, -1, 1)}
    ((text, question),) = found.items()
    assert "Go forward until the door." in text
    # From the bed, looking north at the tv, east-north-east is a turn right; then south-east again.
    assert question.truth == "Turn Right, Turn Right"
    assert geometry_check.wrong(here, question) is None


def test_depth_is_asked_only_where_every_measure_agrees() -> None:
    near, far = box("bed", 0, 0), box("sofa", 0, 3)
    asked = depth(scene(near, far), Random(0), M)
    assert asked is not None
    assert asked.truth == "bed"
    assert depth(scene(near, box("sofa", 0, 0.4)), Random(0), M) is None
    # The sofa's middle is farther, its nearest corner closer.
    assert depth(scene(near, box("sofa", 0, 0.6, size=2.0)), Random(0), M) is None


def furnished(seed: int) -> Scene:
    rng = Random(seed)
    names = ["bed", "sofa", "tv", "lamp", "desk", "chair", "chair"]
    boxes = []
    for k, name in enumerate(names):
        boxes.append(
            Box(
                category=name,
                centre=(rng.uniform(-3, 3), rng.uniform(-3, 3), rng.uniform(0.5, 1)),
                size=(rng.uniform(0.3, 1), rng.uniform(0.3, 1), rng.uniform(0.4, 1)),
                yaw=rng.uniform(-1, 1),
            )
        )
        assert k < 7
    return scene(*boxes, side=8.0)


@given(seed=st.integers(0, 10**6))
def test_a_mirror_swaps_left_and_right_and_a_scale_multiplies(seed: int) -> None:
    here = furnished(seed)
    for name, ask in VIDEO_TASKS.items():
        one, other = ask(here, Random(seed), M), ask(mirrored(here), Random(seed), M)
        if one is None or other is None or name == "RoutePlan":
            continue
        if "Direction" in name:
            flipped = {"left": "right", "right": "left", "back": "back"}
            parts = [flipped.get(p, p) for p in one.truth.split("-")]
            assert other.truth == "-".join(parts)
        else:
            assert other.truth == one.truth
    twice = scaled(here, 2.0)
    size, double = (object_size(s, Random(seed), M) for s in (here, twice))
    assert size and double
    assert double.facts["value"] == pytest.approx(2 * size.facts["value"])
    area, fourfold = (room_size(s, Random(seed), M) for s in (here, twice))
    assert area and fourfold
    assert fourfold.facts["value"] == pytest.approx(4 * area.facts["value"])


@given(seed=st.integers(0, 10**6))
def test_every_question_keeps_its_promises(seed: int) -> None:
    here = furnished(seed)
    tasks = [*VIDEO_TASKS, *IMAGE_TASKS]
    asked = questions(here, tasks, seed, 14)
    assert asked == questions(here, tasks, seed, 14)
    assert len({q.text for q in asked}) == len(asked)
    for q in asked:
        sample = to_sample(q, "x", "s", images=(b"",))
        if q.answer_type == "choice":
            assert q.reward == "exact"
            assert q.options
            assert len(set(q.options)) == len(q.options) >= 2
        else:
            assert q.reward == "ednm"
            assert 0 < float(q.answer) < math.inf
        assert sample.chain
        reward = score(q.task, "exact", q.answer, q.answer_type, sample.chain, RewardConfig())
        assert (reward.task, reward.format) == (1.0, 1.0)


def test_plurals() -> None:
    words = {"chair": "chairs", "bench": "benches", "bookshelf": "bookshelves", "toy": "toys"}
    assert {word: plural(word) for word in words} == words
    assert plural("pony") == "ponies"
