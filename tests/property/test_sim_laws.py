"""Laws of the simulator's ground truth: mirrors, scales, translations, distances, margins."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2r_train.sim.camera import look, overlap
from m2r_train.sim.geometry import centre_distance, closest_distance, footprint_distance
from m2r_train.sim.options import SimOptions
from m2r_train.sim.placement import (
    CLOSEST_METRES,
    FARTHEST_FURNITURE_METRES,
    FARTHEST_METRES,
    FRAME_SHARE,
    GAP_METRES,
    NEAREST_METRES,
    OVERLAP_FURNITURE_SHARE,
    OVERLAP_SHARE,
    draw_scene,
    palette,
)
from m2r_train.sim.scene import Scene, Solid, mirrored, scaled, translated
from m2r_train.sim.tasks import ROOM_TASKS, Question, Stage
from m2r_train.sim.tasks.depth import DEPTH_MARGIN
from m2r_train.sim.tasks.distance import DISTANCE_MARGIN
from m2r_train.sim.tasks.relation import HORIZONTAL_MARGIN, VERTICAL_MARGIN
from m2r_train.sim.tasks.size import longest_side

SOLIDS = SimOptions(image_size=64)
FURNITURE = SimOptions(image_size=64, style="furniture")
CENTRES = SimOptions(image_size=64, distance="centre")


def drawn(seed: int, count: int, options: SimOptions) -> Scene:
    """The first scene that a seed gives."""
    rng = Random(seed)
    while True:
        scene = draw_scene(rng, options, rng.sample(palette(options), count))
        if scene is not None:
            return scene


def stage_of(scene: Scene, options: SimOptions) -> Stage:
    return Stage.of(scene, palette(options), options)


def asked(task: str, scene: Scene, options: SimOptions, seed: int) -> Question | None:
    return ROOM_TASKS[task].ask(stage_of(scene, options), Random(seed))


every_options = st.sampled_from([SOLIDS, FURNITURE, CENTRES])
seeds = st.integers(0, 2**32)
law = settings(max_examples=60, deadline=None)  # a shared machine is no reason to fail
counts = st.integers(2, 4)


@law
@given(seeds, counts, every_options, seeds)
def test_a_mirror_swaps_left_and_right(seed, count, options, choice):
    scene = drawn(seed, count, options)
    question = asked("RelationHorizontal", scene, options, choice)
    reflected = asked("RelationHorizontal", mirrored(scene), options, choice)
    if question is None:
        assert reflected is None
    else:
        assert reflected is not None
        assert question.text == reflected.text
        assert {question.answer, reflected.answer} == {"left", "right"}


@law
@given(seeds, counts, every_options, seeds)
def test_a_mirror_leaves_every_other_answer(seed, count, options, choice):
    scene = drawn(seed, count, options)
    for task in ROOM_TASKS:
        if task in ("RelationHorizontal", "SceneDescription", "ObjectLocation"):
            continue  # these speak of columns
        question, reflected = (asked(task, s, options, choice) for s in (scene, mirrored(scene)))
        assert (question and question.answer) == (reflected and reflected.answer), task


@law
@given(seeds, counts, every_options, st.floats(0.3, 4.0))
def test_scaling_multiplies_lengths_and_squares_areas(seed, count, options, factor):
    scene = drawn(seed, count, options)
    larger = scaled(scene, factor)
    one, two = scene.solids[:2]
    big_one, big_two = larger.solids[:2]
    for measure in (closest_distance, centre_distance, footprint_distance):
        assert measure(big_one, big_two) == pytest.approx(factor * measure(one, two))
    assert big_one.height == pytest.approx(factor * one.height)
    assert longest_side(big_one) == pytest.approx(factor * longest_side(one))
    assert larger.room.area == pytest.approx(factor**2 * scene.room.area)
    for here, there in zip(look(scene), look(larger), strict=True):
        assert (there.u, there.v) == pytest.approx((here.u, here.v))


@law
@given(seeds, counts, every_options, st.floats(-50, 50), seeds)
def test_moving_room_solids_and_camera_sideways_changes_no_answer(
    seed, count, options, offset, choice
):
    scene = drawn(seed, count, options)
    for task in ROOM_TASKS:
        before = asked(task, scene, options, choice)
        after = asked(task, translated(scene, offset), options, choice)
        assert (before and before.answer) == (after and after.answer), task


@law
@given(seeds, st.sampled_from([SOLIDS, FURNITURE]), st.integers(2, 4))
def test_drawn_scenes_keep_every_margin(seed, options, count):
    scene = drawn(seed, count, options)
    sights, size = look(scene), scene.camera.size
    farthest = FARTHEST_FURNITURE_METRES if options.furniture else FARTHEST_METRES
    shared = OVERLAP_FURNITURE_SHARE if options.furniture else OVERLAP_SHARE
    for i, (one, here) in enumerate(zip(scene.solids, sights, strict=True)):
        assert NEAREST_METRES <= one.z <= farthest
        assert abs(one.x - scene.room.x) + one.radius < scene.room.width / 2
        assert one.z + one.radius < scene.room.depth
        assert here.left >= FRAME_SHARE * size
        assert here.right <= (1 - FRAME_SHARE) * size
        assert here.top >= 0
        assert here.bottom <= size
        for two, there in zip(scene.solids[:i], sights[:i], strict=True):
            assert footprint_distance(one, two) >= GAP_METRES
            assert closest_distance(one, two) >= CLOSEST_METRES
            assert overlap(here, there) <= shared


@law
@given(seeds, counts, every_options, seeds)
def test_no_question_is_asked_within_its_margin(seed, count, options, choice):
    scene = drawn(seed, count, options)
    stage = stage_of(scene, options)
    size, level = scene.camera.size, stage.level
    assert level == count - 2
    measure = centre_distance if options.distance == "centre" else closest_distance

    question = asked("RelationHorizontal", scene, options, choice)
    if question:
        (_, one), (_, two) = stage.seen(*question.subjects)
        assert abs(one.u - two.u) >= HORIZONTAL_MARGIN[level] * size
        assert one.column != two.column
    question = asked("RelationVertical", scene, options, choice)
    if question:
        (_, one), (_, two) = stage.seen(*question.subjects)
        assert abs(one.v - two.v) >= VERTICAL_MARGIN[level] * size
        assert one.row != two.row
    question = asked("RelativeDepth", scene, options, choice)
    if question:
        (_, one), (_, two) = stage.seen(*question.subjects)
        assert abs(one.depth - two.depth) >= DEPTH_MARGIN[level]
        straight = math.hypot(one.x, one.depth) - math.hypot(two.x, two.depth)
        assert straight * (one.depth - two.depth) > 0
    question = asked("RelativeDistance", scene, options, choice)
    if question:
        anchor, one, two = (scene.solids[i] for i in question.subjects)
        assert abs(measure(one, anchor) - measure(two, anchor)) >= DISTANCE_MARGIN[level]


@law
@given(seeds, counts, every_options, seeds)
def test_numbers_are_finite_positive_and_within_rounding_of_the_truth(seed, count, options, choice):
    scene = drawn(seed, count, options)
    measure = centre_distance if options.distance == "centre" else closest_distance
    question = asked("AbsoluteDistance", scene, options, choice)
    one, two = (scene.solids[i] for i in question.subjects)
    assert 0 < float(question.answer) < math.inf
    assert float(question.answer) == pytest.approx(measure(one, two), abs=0.0501)
    question = asked("ObjectSize", scene, options, choice)
    (solid,) = (scene.solids[i] for i in question.subjects)
    truth = longest_side(solid) if options.furniture else solid.height
    assert float(question.answer) == pytest.approx(truth, abs=0.0501)
    question = asked("RoomSize", scene, options, choice)
    assert float(question.answer) == pytest.approx(scene.room.area, abs=0.501)


def surface(solid: Solid, steps: int) -> np.ndarray:
    """Points (n, 3) of a solid: its volume sampled on a grid, outside points dropped."""
    a = np.linspace(-0.5, 0.5, steps)
    x, y, z = (axis.ravel() for axis in np.meshgrid(a, a + 0.5, a, indexing="ij"))
    if solid.shape == "ball":
        keep = x**2 + (y - 0.5) ** 2 + z**2 <= 0.25
    elif solid.shape == "cone":
        keep = np.hypot(x, z) <= 0.5 * (1 - y)
    elif solid.shape == "cylinder":
        keep = np.hypot(x, z) <= 0.5
    else:
        keep = np.maximum(np.abs(x), np.maximum(np.abs(y - 0.5), np.abs(z))) == 0.5
    x, y, z = x[keep] * solid.size[0], y[keep] * solid.size[1], z[keep] * solid.size[2]
    cos, sin = math.cos(solid.yaw), math.sin(solid.yaw)
    return np.stack([cos * x + sin * z + solid.x, y, -sin * x + cos * z + solid.z], axis=-1)


@st.composite
def solids(draw) -> Solid:
    shape = draw(st.sampled_from(["box", "ball", "cone", "cylinder"]))
    width = draw(st.floats(0.3, 1.0))
    height = width if shape == "ball" else draw(st.floats(0.3, 1.5))
    depth = draw(st.floats(0.3, 1.0)) if shape == "box" else width
    return Solid(
        shape=shape,
        colour=(1, 2, 3),
        name="thing",
        label="thing",
        x=draw(st.floats(-2, 2)),
        z=draw(st.floats(-2, 2)),
        size=(width, height, depth),
        yaw=draw(st.floats(-3, 3)) if shape == "box" else 0.0,
    )


@settings(max_examples=25, deadline=None)
@given(solids(), solids())
def test_the_closest_distance_is_that_of_sampled_points(one, two):
    truth = closest_distance(one, two)
    assert truth == pytest.approx(closest_distance(two, one), abs=1e-9)
    ours, theirs = surface(one, 13), surface(two, 13)
    sampled = math.sqrt(min(((theirs - point) ** 2).sum(axis=1).min() for point in ours))
    assert truth <= sampled + 1e-9  # no sampled pair can be closer than the closest
    assert sampled - truth < 0.2  # two grids of at most 1.5 / 12 m
