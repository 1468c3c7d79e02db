"""What makes painting fast changes nothing: each short cut against the long way round."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from PIL import Image, ImageDraw

from m2r_train.sim.apartment import furnishing
from m2r_train.sim.apartment.layout import draw_apartment
from m2r_train.sim.apartment.making import photo
from m2r_train.sim.apartment.painter import (
    Shot,
    aim,
    inks_of,
    picture,
    pixels_of,
    rectangle,
    share_shown,
    things_of,
)
from m2r_train.sim.apartment.smooth import smooth_picture
from m2r_train.sim.apartment.solids import model_of
from m2r_train.sim.apartment.walk import Pose, views, walk
from m2r_train.spatial.geometry import polygon_distance, polygons_apart
from m2r_train.spatial.margins import DEFAULT
from m2r_train.spatial.scene import Box


def shots(count: int, size: int = 96, rooms: int = 3) -> list[Shot]:
    flat = next(f for s in range(50) if (f := draw_apartment(Random(s), rooms)))
    model = model_of(flat)
    return [aim(model, pose, size) for pose in walk(Random(1), flat, count)]


def polygon(shot: Shot, face: int) -> list[float]:
    """A face cut at the near plane corner by corner, and projected."""
    corners = shot.model.corners[:, slice(*shot.model.starts[face : face + 2])].T
    eye = np.array([shot.pose.x, shot.pose.y, shot.pose.z])
    seen = [np.array(shot.pose.rotation).T @ (corner - eye) for corner in corners]
    out: list[float] = []
    for one, other in zip(seen, [*seen[1:], seen[0]], strict=True):
        kept = [one] if one[2] > 0.05 else []
        if (one[2] > 0.05) != (other[2] > 0.05):
            kept.append(one + (0.05 - one[2]) / (other[2] - one[2]) * (other - one))
        for x, y, z in kept:
            out += [shot.size * (0.5 + 0.62 * x / z), shot.size * (0.5 + 0.62 * y / z)]
    return out


def test_things_are_where_painting_every_face_one_by_one_puts_them() -> None:
    clipped = 0
    for shot in shots(12):
        canvas = Image.new("I", (shot.size, shot.size))
        for face in shot.sequence.tolist():
            clipped += bool(shot.behind[face])
            ImageDraw.Draw(canvas).polygon(
                polygon(shot, face), fill=int(shot.model.owners[face]) + 1
            )
        away = np.asarray(canvas) != np.asarray(things_of(shot))
        assert np.count_nonzero(away) <= 2  # a corner may be rounded to the other side of a pixel
    assert clipped > 10


def test_a_shot_of_another_size_is_as_it_would_be_aimed() -> None:
    for small, large in zip(shots(6, 80), shots(6, 160), strict=True):
        assert np.array_equal(small.sequence, large.sequence)
        assert picture(small.sized(160)).tobytes() == picture(large).tobytes()


def test_smooth_pictures_are_averages_of_all_pixels_however_many_colours() -> None:
    colours = []
    for seed in range(30):
        flat = draw_apartment(Random(seed), 1 + seed % 2)
        if flat is None:
            continue
        model = model_of(flat)
        motley = np.random.default_rng(seed).uniform(0, 300, model.colours.shape)
        for painted in (model, replace(model, colours=motley)):
            for pose in views(Random(seed), flat, 0)[:1]:
                shot = aim(painted, pose, 80)
                smooth = smooth_picture(shot).convert("RGB")
                assert smooth.tobytes() == picture(shot.sized(160)).reduce(2).tobytes()
                colours.append(len(np.unique(inks_of(shot))))
    assert min(colours) <= 255 < max(colours)


def test_rectangles_are_those_of_all_pixels_of_a_thing() -> None:
    model, behind = shots(1)[0].model, 0
    over = zip(model.things.x.tolist(), model.things.y.tolist(), strict=True)
    close = [
        aim(model, Pose(x + 0.3, y, 1.5, turn, 0.9), 96)
        for x, y in over
        for turn in (0.5, 2.0, 3.5, 5.0)
    ]
    for shot in [*shots(6), *close]:
        owners = np.asarray(things_of(shot))
        for index, n in enumerate(pixels_of(shot, things_of(shot))):
            if n:
                rows, columns = np.nonzero(owners == index + 1)
                whole = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
                assert rectangle(shot, owners, index) == whole
                if shot.behind[shot.model.owners == index].any():
                    assert share_shown(shot, index, n) == 0.0
                    behind += 1
    assert behind  # what reaches behind the camera was among them


def test_shares_are_measured_of_all_that_can_be_asked_about() -> None:
    flat = next(f for s in range(50) if (f := draw_apartment(Random(s), 1)))
    (shot, *_) = [aim(model_of(flat), pose, 224) for pose in walk(Random(1), flat, 4)]
    sights = photo(flat, shot).scene.frames[0].sights
    least = DEFAULT.seen * 224**2
    for index, sight in sights.items():
        wanted = share_shown(shot, index, sight.pixels) if sight.pixels >= least else None
        assert sight.share == wanted
    assert {sight.share is None for sight in sights.values()} == {True, False}


def test_every_thing_lies_in_its_box_and_stands_on_its_floor() -> None:
    flat = next(f for s in range(50) if (f := draw_apartment(Random(s), 3)))
    model = model_of(flat)
    owner = np.repeat(model.owners, np.diff(model.starts))
    for index, box in enumerate(flat.boxes):
        points = model.corners[:, owner == index] - np.array([box.centre]).T
        own = (points[0] + 1j * points[1]) * np.exp(-1j * box.yaw)
        # A handle may stick out a little.
        assert 0.9 < np.abs(own.real).max() / (box.size[0] / 2) < 1 + 1e-9
        assert 0.9 < np.abs(own.imag).max() / (box.size[1] / 2) < 1.04
        assert points[2].min() == pytest.approx(-box.size[2] / 2)
        assert points[2].max() <= box.size[2] / 2 + 1e-9


def test_more_things_than_a_byte_tells_apart_are_refused() -> None:
    shot = shots(1)[0]
    many = replace(shot.model, shapes=shot.model.shapes[:1] * 256)
    with pytest.raises(ValueError, match="256 things in an apartment; at most 255"):
        things_of(replace(shot, model=many))


def test_an_apartment_without_a_thing_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert draw_apartment(Random(2), 1) is not None
    monkeypatch.setattr(furnishing, "_fits", lambda filling, box, hung: False)
    assert draw_apartment(Random(2), 1) is None


def test_polygons_are_apart_as_their_distance_says() -> None:
    rng = Random(3)
    found = set()
    for _ in range(2000):
        one, other = (
            Box(
                category="box",
                centre=(rng.uniform(-1, 1), rng.uniform(-1, 1), 0.5),
                size=(rng.uniform(0.1, 1), rng.uniform(0.1, 1), 1),
                yaw=rng.choice((0.0, rng.uniform(0, 7))),
            )
            for _ in range(2)
        )
        gap = rng.choice((0.015, 0.1, 0.5))
        far = polygon_distance(one.footprint, other.footprint) >= gap
        assert polygons_apart(one.footprint, other.footprint, gap) == far
        found.add(far)
    assert found == {True, False}
