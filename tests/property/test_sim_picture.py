"""The renderer against a second, slower way to see: stepping along every ray."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2r_train.sim.camera import look
from m2r_train.sim.catalogue import Part, parts
from m2r_train.sim.options import SimOptions
from m2r_train.sim.placement import draw_scene, palette
from m2r_train.sim.render import BACKGROUND, photograph, render
from m2r_train.sim.scene import Camera, Room, Scene, Solid, mirrored, scaled

STEP = 0.01  # metres between two looks along a ray


def drawn(seed: int, style: str, size: int) -> Scene:
    rng, options = Random(seed), SimOptions(image_size=size, style=style)
    while True:
        scene = draw_scene(rng, options, rng.sample(palette(options), rng.randint(1, 4)))
        if scene is not None:
            return scene


def crowd(seed: int) -> Scene:
    """Solids of all shapes thrown into a room, so that many hide one another."""
    rng = Random(seed)
    solids = []
    for _ in range(6):
        shape = rng.choice(["box", "ball", "cone", "cylinder"])
        width = rng.uniform(0.5, 0.9)
        height = width if shape == "ball" else rng.uniform(0.5, 1.2)
        solids.append(
            Solid(
                shape=shape,
                colour=(200, 100, 50),
                name="thing",
                label="thing",
                x=rng.uniform(-1, 1),
                z=rng.uniform(2, 4.5),
                size=(width, height, rng.uniform(0.4, 0.9) if shape == "box" else width),
                yaw=rng.uniform(-3, 3),
            )
        )
    return Scene(
        room=Room(width=6, depth=6, height=2.6), solids=tuple(solids), camera=Camera(size=32)
    )


def inside(part: Part, x, y, z):
    """Whether points are inside a primitive: its definition, no ray in sight."""
    x, y, z = x - part.x, y - part.y, z - part.z
    width, height, depth = part.size
    level = (y >= 0) & (y <= height)
    if part.shape == "box":
        cos, sin = math.cos(part.yaw), math.sin(part.yaw)
        x, z = cos * x - sin * z, sin * x + cos * z
        return level & (np.abs(x) <= width / 2) & (np.abs(z) <= depth / 2)
    if part.shape == "ball":
        return x**2 + (y - height / 2) ** 2 + z**2 <= (height / 2) ** 2
    if part.shape == "cylinder":
        return level & (np.hypot(x, z) <= width / 2)
    return level & (np.hypot(x, z) <= width / 2 * (1 - y / height))


def marched(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Ids and depths (S, S) by walking along every ray until it is inside something."""
    camera = scene.camera
    middle = np.arange(camera.size) + 0.5
    dx = ((middle - camera.size / 2) / (0.9 * camera.size))[None, :]
    dy = ((camera.size / 4 - middle) / (0.9 * camera.size))[:, None]
    ids = np.full((camera.size, camera.size), BACKGROUND)
    depth = np.full(ids.shape, np.inf)
    for t in np.arange(0.5, scene.room.depth, STEP):
        for index, solid in enumerate(scene.solids):
            for part in parts(solid):
                here = inside(part, camera.x + t * dx, camera.height + t * dy, t)
                new = here & (ids == BACKGROUND)
                ids[new], depth[new] = index, t
    return ids, depth


def edges(ids: np.ndarray) -> np.ndarray:
    """Pixels with another id next to them, where a step may miss a sliver."""
    found = np.zeros(ids.shape, dtype=bool)
    for axis in (0, 1):
        for shift in (1, -1):
            found |= np.roll(ids, shift, axis) != ids
    return found


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["crowd", "solids", "furniture"]))
def test_the_id_and_depth_maps_agree_with_a_brute_force_z_buffer(seed, kind):
    scene = crowd(seed) if kind == "crowd" else drawn(seed, kind, 32)
    view = render(scene)
    ids, depth = marched(scene)
    differ = ids != view.ids
    assert not (differ & ~edges(view.ids) & ~edges(ids)).any()
    assert differ.mean() < 0.03
    both = ~differ & (ids != BACKGROUND)
    step_behind = depth[both] - view.depth[both]
    assert np.quantile(step_behind, 0.02) > -1e-6
    assert np.quantile(step_behind, 0.98) < 1.5 * STEP


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_visible_pixels_are_the_pixels_of_the_id_map_and_alone_is_without_the_others(seed):
    scene = crowd(seed)
    view = render(scene)
    for index, solid in enumerate(scene.solids):
        single = render(Scene(room=scene.room, solids=(solid,), camera=scene.camera))
        assert view.visible[index] == (view.ids == index).sum()
        assert view.alone[index] == single.visible[0] == single.alone[0]
        assert 0 <= view.hidden(index) <= 1


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["solids", "furniture"]))
def test_a_solid_stays_inside_its_rectangle(seed, style):
    scene = drawn(seed, style, 64)
    ids = render(scene).ids
    for index, sight in enumerate(look(scene)):
        rows, columns = np.nonzero(ids == index)
        if not rows.size:
            continue
        assert sight.left - 1 <= columns.min()
        assert columns.max() <= sight.right
        assert sight.top - 1 <= rows.min()
        assert rows.max() <= sight.bottom


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["solids", "furniture"]))
def test_mirrored_scenes_give_mirrored_maps_and_scaled_ones_the_same(seed, style):
    scene = drawn(seed, style, 64)
    ids = render(scene).ids
    assert (render(mirrored(scene)).ids == ids[:, ::-1]).mean() > 0.999
    assert np.array_equal(render(scaled(scene, 2.0)).ids, ids)


@pytest.mark.parametrize("style", ["solids", "furniture"])
def test_photographs_have_the_size_asked_for(style):
    view = photograph(drawn(3, style, 64))
    assert view.image.shape == (64, 64, 3)
    assert view.image.dtype == np.uint8
    assert view.image.std() > 10
