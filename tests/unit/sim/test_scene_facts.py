"""Projection, distances and questions with values worked out by hand."""

from __future__ import annotations

import math
from random import Random

import pytest

from m2r_train.sim.camera import grid, overlap, project, sight
from m2r_train.sim.geometry import centre_distance, closest_distance, footprint_distance
from m2r_train.sim.options import SimOptions
from m2r_train.sim.scene import Camera, Room, Scene, Solid
from m2r_train.sim.tasks import ROOM_TASKS, Stage
from m2r_train.sim.teacher import chain, decimal

COLOUR_WORDS = ("red", "green", "blue", "yellow")


def solid(shape="box", *, x=0.0, z=3.0, size=(1.0, 1.0, 1.0), yaw=0.0, label="red") -> Solid:
    return Solid(
        shape=shape,
        colour=(9, 9, 9),
        name=f"{label} {shape}",
        label=label,
        x=x,
        z=z,
        size=size,
        yaw=yaw,
    )


def ask(task: str, *solids: Solid, seed: int = 0, room: Room | None = None):
    scene = Scene(
        room=room or Room(width=5, depth=6, height=2.5), solids=solids, camera=Camera(size=64)
    )
    return ROOM_TASKS[task].ask(Stage.of(scene, COLOUR_WORDS, SimOptions()), Random(seed))


@pytest.mark.parametrize(
    ("point", "pixel"),
    [
        ((0, 1.2, 5), (32, 16)),  # the camera's own height lies on the horizon
        ((0, 0, 1.44), (32, 64)),  # the floor leaves the picture 1.44 m away
        ((1, 1.2, 1.8), (64, 16)),  # 57.6 / 1.8 = 32 to the right
        ((-1, 0, 3.6), (16, 35.2)),
    ],
)
def test_points_project_through_the_pinhole(point, pixel):
    assert project(Camera(size=64), *point) == pytest.approx(pixel)


def test_the_rectangle_of_a_box_spans_near_and_far_edges():
    seen = sight(Camera(size=64), solid(size=(1, 0.6, 1)))
    # widest at the near face (2.5 m), top at the far edge (3.5 m), bottom at the near edge
    assert (seen.left, seen.right) == pytest.approx((32 - 57.6 * 0.2, 32 + 57.6 * 0.2))
    assert seen.top == pytest.approx(16 + 57.6 * 0.6 / 3.5)
    assert seen.bottom == pytest.approx(16 + 57.6 * 1.2 / 2.5)
    assert (seen.column, seen.row, seen.depth) == (5, 5, 3.0)


@pytest.mark.parametrize(("pixel", "digit"), [(-3, 0), (0, 0), (6.4, 1), (63.9, 9), (70, 9)])
def test_the_grid_has_ten_cells(pixel, digit):
    assert grid(pixel, 64) == digit


def test_overlap_is_a_share_of_the_smaller_rectangle():
    camera = Camera(size=64)
    far, near = sight(camera, solid(z=5)), sight(camera, solid(z=3))
    apart = sight(camera, solid(x=2, z=5))
    assert overlap(far, far) == pytest.approx(1.0)
    assert 0.5 < overlap(far, near) <= 1.0
    assert overlap(far, apart) == 0.0


TURN = math.pi / 4


@pytest.mark.parametrize(
    ("one", "two", "closest"),
    [
        pytest.param(solid(), solid(x=3), 2.0, id="face to face"),
        pytest.param(solid(), solid(x=3, z=5), math.hypot(2, 1), id="edge to edge"),
        pytest.param(solid(), solid(x=3, yaw=TURN), 2.5 - math.sqrt(0.5), id="face to turned edge"),
        pytest.param(solid(), solid(x=0.9), 0.0, id="touching"),
        pytest.param(
            solid(size=(4, 1, 0.2)), solid(size=(0.2, 1, 4)), 0.0, id="a cross, no corner inside"
        ),
        pytest.param(solid("ball"), solid("ball", x=3), 2.0, id="equal balls"),
        pytest.param(
            solid("ball"),
            solid("ball", x=3, size=(0.4, 0.4, 0.4)),
            math.hypot(3, 0.3) - 0.7,
            id="balls of two sizes",
        ),
        pytest.param(solid("ball"), solid(x=3), 2.0, id="ball and taller box"),
        pytest.param(
            solid(x=3, size=(1, 0.2, 1)),
            solid("ball"),
            math.hypot(2.5, 0.3) - 0.5,
            id="ball over a low box",
        ),
        pytest.param(
            solid("cone"), solid("cylinder", x=3), 2.0, id="cone and cylinder at the floor"
        ),
        pytest.param(
            solid("cone"),
            solid("ball", x=3),
            # from (3, .5) to the flank (.5, 0)-(0, 1): its foot is the nearest point
            math.hypot(2.5, 0.5) - 0.5,
            id="cone and ball",
        ),
    ],
)
def test_the_distance_of_closest_points(one, two, closest):
    assert closest_distance(one, two) == pytest.approx(closest)
    assert closest_distance(two, one) == pytest.approx(closest)


def test_footprints_and_centres_are_measured_on_the_floor():
    ball, box = solid("ball"), solid(x=3, size=(1, 0.2, 1))
    assert footprint_distance(ball, box) == pytest.approx(2.0)
    assert centre_distance(ball, box) == pytest.approx(3.0)


def test_questions_about_two_solids_read_as_intended():
    red, blue = solid(x=-0.8, z=2.5), solid("ball", x=1.2, z=4.5, label="blue")
    for seed in range(4):
        question = ask("RelationHorizontal", red, blue, seed=seed)
        if question.subjects == (0, 1):
            assert question.text == "Is the red box to the left or right of the blue ball?"
            assert question.thought == "at red 1 at blue 7 so left"
        else:
            assert question.thought == "at blue 7 at red 1 so right"
    depth = ask("RelativeDepth", red, blue)
    assert depth.answer == "red box"
    assert sorted(re_numbers(depth.thought)) == ["2.5", "4.5"]


def re_numbers(text: str) -> list[str]:
    return [word for word in text.split() if word[0].isdigit()]


@pytest.mark.parametrize(
    ("task", "solids"),
    [
        pytest.param(
            "RelationHorizontal",
            (solid(x=-0.2), solid(x=-0.2, z=5, label="blue")),
            id="nearly above each other",
        ),
        pytest.param(
            "RelationVertical",
            (solid(x=-1, z=4), solid(x=1, z=4, label="blue")),
            id="at the same height",
        ),
        pytest.param(
            "RelativeDepth",
            (solid(x=-1, z=3), solid(x=1, z=3.4, label="blue")),
            id="nearly as deep",
        ),
        pytest.param(
            "RelativeDepth",
            (solid(x=6.5, z=3), solid(x=0, z=4.6, label="blue")),
            id="less deep but farther away",
        ),
        pytest.param(
            "RelativeDistance",
            (solid(), solid(x=2, label="blue"), solid(x=-2, label="green")),
            id="the middle one's neighbours, equally far",
        ),
        pytest.param("RelativeDepth", (solid(), solid(x=1, z=5)), id="two of the same name"),
        pytest.param("ObjectSize", (solid(), solid(x=1, z=5)), id="no name is unique"),
        pytest.param(
            "SceneDescription",
            (solid(z=3), solid(z=5, label="blue")),
            id="one behind the other has no order",
        ),
    ],
)
def test_ambiguous_questions_are_not_asked(task, solids):
    if task == "RelativeDistance":
        asked = [ask(task, *solids, seed=seed) for seed in range(12)]
        assert all(q is None or q.subjects[0] != 0 for q in asked)
        assert any(q is None for q in asked)
    else:
        assert all(ask(task, *solids, seed=seed) is None for seed in range(8))


def test_a_room_is_only_measured_when_both_far_corners_are_in_view():
    box = solid()
    assert ask("RoomSize", box, room=Room(width=5, depth=6, height=2.5)).answer == "30"
    assert ask("RoomSize", box, room=Room(width=7, depth=6, height=2.5)) is None
    assert ask("RoomSize", box, room=Room(width=5, depth=6, height=2.5, x=2)) is None


def test_a_count_lists_its_columns_from_left_to_right_and_zero_says_so():
    pair = (solid(x=1.2, z=4), solid(x=-1.2, z=4))
    answers = {ask("ObjectCount", *pair, seed=s).thought for s in range(20)}
    assert "at red 2 at red 7 so 2" in answers
    assert "no blue so 0" in answers


def test_numbers_have_one_decimal_and_no_negative_zero():
    assert [decimal(v) for v in (2.449, -0.04, -0.5, 3)] == ["2.4", "0.0", "-0.5", "3.0"]
    assert chain("a so b", "b") == r"<think> a so b </think><answer>\boxed{b}</answer>"
