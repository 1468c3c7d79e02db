"""Pictures by themselves: rays with known hits, guards of visibility, figures read back."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image
from skimage.measure import label

from m2r_train.api.errors import SpecError
from m2r_train.sim import generate, samples
from m2r_train.sim.catalogue import COLOURS, FURNITURE, Part, parts
from m2r_train.sim.font import GLYPHS
from m2r_train.sim.rays import hit
from m2r_train.sim.render import render
from m2r_train.sim.scene import Camera, Room, Scene, Solid

EYE = (0.0, 1.2, 0.0)


def pixels(sample) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(sample.images[0])))


def part(shape: str, size: tuple[float, float, float], y: float = 0.0, yaw: float = 0.0) -> Part:
    return Part(shape, (9, 9, 9), 0.0, y, 4.0, size, yaw)


@pytest.mark.parametrize(
    ("thing", "slope", "depth"),
    [
        pytest.param(part("box", (1, 2, 1)), 0.0, 3.5, id="the front of a box"),
        pytest.param(part("box", (1, 0.4, 1)), -0.2, 4.0, id="the top of a low box: .8 / .2"),
        pytest.param(part("ball", (2.4, 2.4, 2.4)), 0.0, 2.8, id="the middle of a ball"),
        pytest.param(part("cylinder", (1, 2, 1)), 0.0, 3.5, id="the mantle of a cylinder"),
        pytest.param(part("cylinder", (1, 0.4, 1)), -0.2, 4.0, id="the lid of a cylinder"),
        pytest.param(part("cone", (2, 2.4, 2)), 0.0, 3.5, id="a cone at half its height"),
        pytest.param(part("box", (1, 1, 1), y=1.6), 0.12, 3.5, id="the front of a raised box"),
        pytest.param(part("box", (1, 0.4, 1)), 0.0, np.inf, id="over a low box"),
        pytest.param(part("cone", (1, 1.1, 1)), 0.0, np.inf, id="over a cone's tip"),
    ],
)
def test_rays_hit_at_the_depth_worked_out_by_hand(thing, slope, depth):
    near, light = hit(thing, EYE, np.array([0.0]), np.array([slope]))
    assert near[0, 0] == pytest.approx(depth)
    assert 0 <= light[0, 0] <= 1


def test_a_turned_box_shows_its_edge():
    near, _ = hit(part("box", (1, 2, 1), yaw=np.pi / 4), EYE, np.array([1e-6]), np.array([0.0]))
    assert near[0, 0] == pytest.approx(4 - np.sqrt(0.5), abs=1e-4)


def test_tops_are_lit_and_undersides_are_not():
    shelf = part("box", (1, 0.1, 1), y=2.0)
    _, below = hit(shelf, EYE, np.array([0.0]), np.array([0.2]))
    _, top = hit(part("box", (1, 0.4, 1)), EYE, np.array([0.0]), np.array([-0.2]))
    assert below[0, 0] == 0.0
    assert top[0, 0] == pytest.approx(0.8)


def test_a_cone_flatter_than_the_rays_is_refused_rather_than_drawn_wrong():
    with pytest.raises(ValueError, match="too flat"):
        hit(part("cone", (4, 0.4, 4)), EYE, np.array([0.0]), np.array([-0.8]))


def room_with(*solids: Solid) -> Scene:
    return Scene(room=Room(width=5, depth=6, height=2.5), solids=solids, camera=Camera(size=64))


def box(z: float, size: float) -> Solid:
    return Solid(
        shape="box",
        colour=(200, 0, 0),
        name="red box",
        label="red",
        x=0.0,
        z=z,
        size=(size, size, size),
    )


def test_a_solid_behind_another_is_measured_as_hidden():
    view = render(room_with(box(5.0, 0.4), box(3.0, 1.0)))
    assert view.alone[0] > 0
    assert (view.visible[0], view.hidden(0), view.hidden(1)) == (0, 1.0, 0.0)


def test_a_solid_out_of_the_picture_counts_as_hidden():
    aside = Solid(
        shape="ball", colour=(1, 1, 1), name="b", label="b", x=20.0, z=3.0, size=(1, 1, 1)
    )
    assert render(room_with(aside)).hidden(0) == 1.0


def test_nearer_surfaces_of_the_same_kind_are_brighter():
    near, far = (render(room_with(box(z, 0.8))) for z in (2.5, 5.0))
    reds = [view.image[view.ids == 0][:, 0].max() for view in (near, far)]
    assert reds[0] > 1.15 * reds[1]


def test_the_wall_light_runs_from_red_to_blue():
    image = render(room_with()).image.astype(float)
    left, right = image[:, :16].mean(axis=(0, 1)), image[:, -16:].mean(axis=(0, 1))
    assert left[0] > 1.3 * left[2]
    assert right[2] > 1.3 * right[0]
    plain = render(room_with(), light=0.0).image.astype(float)
    assert plain[:, :16].mean(axis=(0, 1))[0] < 1.1 * plain[:, :16].mean(axis=(0, 1))[2]


@pytest.mark.parametrize(
    ("guard", "value"), [("MAX_HIDDEN_SHARE", -1.0), ("MIN_VISIBLE_PIXELS", 10_000)]
)
def test_what_is_asked_about_must_be_seen(monkeypatch, guard, value):
    monkeypatch.setattr(samples, guard, value)
    monkeypatch.setattr(samples, "_TRIES", 20)
    with pytest.raises(SpecError, match="no clear scene for ObjectCount"):
        generate("ObjectCount", 0, 0)


@pytest.mark.parametrize("kind", FURNITURE)
def test_the_pieces_of_furniture_fill_its_box_and_stay_inside(kind):
    furniture = FURNITURE[kind]
    size = tuple(sum(span) / 2 for span in (furniture.width, furniture.height, furniture.depth))
    thing = Solid(shape="box", colour=(99, 99, 99), name=kind, label=kind, x=0.0, z=0.0, size=size)
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for piece in parts(thing):
        half = np.array([piece.size[0] / 2, 0.0, piece.size[2] / 2])
        bottom = np.array([piece.x, piece.y, piece.z])
        low = np.minimum(low, bottom - half)
        high = np.maximum(high, bottom + half + [0.0, piece.size[1], 0.0])
    width, height, depth = size
    assert (low >= np.array([-width / 2, 0.0, -depth / 2]) - 0.005).all()
    assert (high <= np.array([width / 2, height, depth / 2]) + 0.005).all()
    assert (high - low >= 0.93 * np.array(size)).all()


@pytest.mark.parametrize("size", [32, 64, 224])
def test_the_sum_can_be_read_off_the_picture(size):
    for index in range(12):
        sample = generate("Arithmetic", 3, index, image_size=size)
        image = pixels(sample)
        ink = (image != image[0, 0]).any(axis=-1)
        scale = size // 20
        top = np.nonzero(ink.any(axis=1))[0][0]
        first = np.nonzero(ink.any(axis=0))[0][0]
        read = next(
            text
            for indent in range(3)  # a "1" has a blank first column
            if (text := spell(ink, top, first - indent * scale, scale))
        )
        one, sign, two = re.fullmatch(r"(\d)([-+x])(\d)", read).groups()
        value = {"+": int(one) + int(two), "-": int(one) - int(two), "x": int(one) * int(two)}
        assert str(value[sign]) == sample.answer


def spell(ink: np.ndarray, top: int, left: int, scale: int) -> str | None:
    """Three glyphs from a corner on, or None where a shape is no glyph."""
    text = ""
    for place in range(3):
        start = left + place * 6 * scale
        if start < 0:
            return None
        dots = ink[top : top + 7 * scale : scale, start : start + 5 * scale : scale]
        known = [sign for sign, glyph in GLYPHS.items() if np.array_equal(glyph, dots)]
        if not known:
            return None
        text += known[0]
    return text


@pytest.mark.parametrize("size", [32, 64, 224])
def test_bars_can_be_compared_in_the_picture(size):
    for index in range(20):
        sample = generate("BarChart", 3, index, image_size=size)
        image = pixels(sample)
        heights = {
            name: int((image == colour).all(axis=-1).any(axis=1).sum())
            for name, colour in COLOURS.items()
        }
        heights = {name: height for name, height in heights.items() if height}
        assert len(set(heights.values())) == len(heights)
        if "tallest" in sample.question:
            answer = max(heights, key=lambda name: heights[name])
        elif "shortest" in sample.question:
            answer = min(heights, key=lambda name: heights[name])
        else:
            base = heights[sample.question.split()[-2]]
            answer = str(sum(height > base for height in heights.values()))
        assert answer == sample.answer


@pytest.mark.parametrize("size", [32, 64, 224])
def test_shapes_can_be_counted_in_the_picture(size):
    seen = set()
    for index in range(60):
        sample = generate("ShapeCount", 3, index, image_size=size)
        image = pixels(sample)
        counted = {
            name: label((image == colour).all(axis=-1)).max() for name, colour in COLOURS.items()
        }
        if sample.question == "How many shapes are there?":
            assert sum(counted.values()) == int(sample.answer)
            seen.add("all")
        elif found := re.fullmatch(r"How many (\w+) shapes are there\?", sample.question):
            assert counted[found[1]] == int(sample.answer)
            seen.add("colour")
    assert seen == {"all", "colour"}
