"""Apartments: walks and pictures are pure functions of the seed, and their labels are true."""

from __future__ import annotations

import io
from dataclasses import replace
from random import Random

import geometry_check
import numpy as np
import pytest
from PIL import Image

from m2r_train.api.errors import SpecError
from m2r_train.api.sources import PICTURE_TASKS, WALK_TASKS, Source
from m2r_train.data.parquet import read_shard
from m2r_train.sim.apartment import image_samples, video_samples
from m2r_train.sim.apartment.layout import draw_apartment
from m2r_train.sim.apartment.making import draw_film, draw_photo, film
from m2r_train.sim.apartment.orders import Prism, order_of
from m2r_train.sim.apartment.painter import aim, picture, pixels_of, things_of
from m2r_train.sim.apartment.solids import model_of
from m2r_train.sim.apartment.walk import Pose, walk
from m2r_train.spatial import (
    IMAGE_TASKS,
    VIDEO_TASKS,
    Box,
    Door,
    Frame,
    Scene,
    questions,
)
from m2r_train.spatial.geometry import inside, polygon_distance
from m2r_train.spatial.visibility import with_sights
from m2r_train.stages.making import make_shard


def flats(count: int, rooms: int = 3):
    made = (draw_apartment(Random(seed), rooms) for seed in range(100))
    return [flat for flat in made if flat is not None][:count]


def test_the_api_names_the_tasks_that_are_there() -> None:
    assert set(WALK_TASKS) == set(VIDEO_TASKS)
    assert set(PICTURE_TASKS) == set(IMAGE_TASKS)
    assert len(VIDEO_TASKS) + len(IMAGE_TASKS) == 14


def test_things_stand_apart_inside_their_rooms_and_clear_of_doors() -> None:
    for flat in flats(6):
        assert len(flat.links) == len(flat.rooms) - 1
        for box, home in zip(flat.boxes, flat.homes, strict=True):
            assert all(inside(corner, flat.rooms[home].outline) for corner in box.footprint)
            assert box.top < flat.height
        for i, one in enumerate(flat.boxes):
            for other in flat.boxes[i + 1 :]:
                assert polygon_distance(one.footprint, other.footprint) > 0.01
        for _, _, door in flat.links:
            assert np.hypot(door.one[0] - door.two[0], door.one[1] - door.two[1]) > 0.85


def test_a_walk_visits_every_room_in_as_many_frames_as_asked_for() -> None:
    for flat in flats(4):
        poses = walk(Random(1), flat, 32)
        assert len(poses) == 32
        for room in flat.rooms:
            assert any(inside((pose.x, pose.y), room.outline) for pose in poses)


def test_what_the_painter_shows_is_what_rays_meet() -> None:
    """Rays at solid boxes and walls, which is another method, see as much of what is solid."""
    solid = ("wardrobe", "cabinet", "refrigerator", "stove", "washing machine", "bathtub", "tv")
    compared = 0
    for flat in flats(3):
        made = film(flat, walk(Random(2), flat, 6), 160)
        empty = tuple(replace(frame, sights={}) for frame in made.scene.frames)
        for k, painted in enumerate(made.scene.frames):
            for i, box in enumerate(flat.boxes):
                seen = painted.sights[i].pixels if i in painted.sights else 0
                if seen <= 150:
                    continue
                # Alone in the apartment: only walls can hide it.
                bare = replace(made.scene, boxes=(box,), frames=(empty[k],))
                sights = with_sights(bare).frames[0].sights
                alone = sights[0].pixels if sights else 0
                assert seen <= 1.15 * alone + 100, (box.category, k)
                share = painted.sights[i].share
                if box.category in solid and share is not None and share > 0.98:
                    assert seen >= 0.85 * alone - 100, (box.category, k)
                    compared += 1
    assert compared >= 3


def test_rays_do_not_see_through_a_wall_what_hangs_on_its_other_side() -> None:
    west, east = ((-4, 0), (0, 0), (0, 4), (-4, 4)), ((0, 0), (4, 0), (4, 4), (0, 4))
    look_east = Pose(-3.0, 2.0, 1.5, 0.0, 0.0)
    mirror = Box(category="mirror", centre=(0.04, 2.0, 1.5), size=(0.04, 0.6, 0.9))
    bare = Frame(
        width=160, height=160, fx=99, fy=99, cx=80, cy=80,
        rotation=look_east.rotation, position=(-3.0, 2.0, 1.5),
    )  # fmt: skip
    here = Scene(boxes=(mirror,), frames=(bare,), rooms=(west, east))
    assert with_sights(here).frames[0].sights == {}
    near = replace(here, boxes=(replace(mirror, centre=(-0.01, 2.0, 1.5)),))
    assert with_sights(near).frames[0].sights[0].share == 1.0
    through = replace(here, doors=(Door(one=(0, 2.5), two=(0, 1.5)),))
    assert with_sights(through).frames[0].sights[0].share == 1.0


def test_prisms_are_painted_from_the_back() -> None:
    near = Prism(((0, 0), (1, 0), (1, 1), (0, 1)), 0, 1)
    far = Prism(((0, 2), (1, 2), (1, 3), (0, 3)), 0, 1)
    order = order_of([near, far])
    assert order.back_to_front(np.array([0.5, -2, 1.0])) == [1, 0]
    assert order.back_to_front(np.array([0.5, 5, 1.0])) == [0, 1]


def test_every_pixel_of_a_room_is_painted() -> None:
    for flat in flats(3):
        for pose in walk(Random(3), flat, 8):
            shot = aim(model_of(flat), pose, 96)
            bare = np.count_nonzero(~np.asarray(picture(shot)).any(axis=2))
            assert bare <= 0.002 * 96 * 96
            things = things_of(shot)
            assert sum(pixels_of(shot, things)) == np.count_nonzero(np.asarray(things))


def test_labels_are_true_by_other_means() -> None:
    """`make bench-sim` does the same with 10 000 questions."""
    asked = set()
    for seed in range(1, 40):
        photo = draw_photo(Random(seed), 112)
        if photo is not None:
            for q in questions(photo.scene, list(IMAGE_TASKS), seed, 8):
                assert geometry_check.wrong(photo.scene, q) is None, q
                asked.add(q.task)
        made = draw_film(Random(seed), 112, 32) if seed % 8 == 0 else None
        if made is not None:
            for q in questions(made.scene, list(VIDEO_TASKS), seed, 40):
                assert geometry_check.wrong(made.scene, q) is None, q
                asked.add(q.task)
    assert asked == {*VIDEO_TASKS, *IMAGE_TASKS}


def test_the_second_opinion_sees_a_wrong_label() -> None:
    photo = next(p for s in range(1, 40) if (p := draw_photo(Random(s), 112)))
    (q, *_) = questions(photo.scene, ["Count"], 0, 1)
    letters = [x for x in "ABCD" if x != q.answer]
    object.__setattr__(q, "answer", letters[0])
    assert geometry_check.wrong(photo.scene, q) is not None


def test_the_second_opinion_sees_what_a_renderer_would_overlook() -> None:
    """A thing that it does not report, and frames that it confuses, make labels that are wrong."""
    photos = (draw_photo(Random(seed), 112) for seed in range(1, 40))
    for photo in filter(None, photos):
        asked = [q for q in questions(photo.scene, ["Count"], 0, 1) if q.facts["value"] > 1]
        if asked:
            break
    category, frame = asked[0].facts["category"], photo.scene.frames[0]
    lost = next(i for i in frame.sights if photo.scene.boxes[i].category == category)
    blind = replace(frame, sights={i: s for i, s in frame.sights.items() if i != lost})
    poor = replace(photo.scene, frames=(blind,))
    told = [q for k in range(40) for q in questions(poor, ["Count"], k, 1)]
    faults = {q.facts["category"]: geometry_check.wrong(poor, q) is not None for q in told}
    assert faults[category]
    assert not any(fault for own, fault in faults.items() if own != category)

    made = next(filter(None, (draw_film(Random(seed), 112, 32) for seed in range(8, 99, 8))))
    frames = made.scene.frames
    turned = [replace(f, sights=g.sights) for f, g in zip(frames, reversed(frames), strict=True)]
    confused = replace(made.scene, frames=tuple(turned))
    (q, *_) = questions(confused, ["AppearanceOrder"], 0, 1)
    assert geometry_check.wrong(confused, q) is not None


def test_samples_repeat_to_the_byte_and_are_of_the_size_asked_for() -> None:
    one = video_samples(["RoomSize", "ObjectSize"], 5, 1, 3, image_size=96, frames=8)
    assert one == video_samples(["RoomSize", "ObjectSize"], 5, 1, 3, image_size=96, frames=8)
    assert one[0].task == "ObjectSize"
    assert one[0].question.startswith("These are frames of a video.")
    assert one[0].video
    assert len(one[0].video) == 8
    assert Image.open(io.BytesIO(one[0].video[0])).size == (96, 96)
    (two, *_) = image_samples(["Depth"], 5, 0, 2, image_size=128)
    assert two == image_samples(["Depth"], 5, 0, 2, image_size=128)[0]
    assert two.video is None
    colours = np.asarray(Image.open(io.BytesIO(two.images[0])).convert("RGB")).reshape(-1, 3)
    red = (colours[:, 0] > 200) & (colours[:, 1] < 70) & (colours[:, 2] < 70)
    blue = (colours[:, 2] > 140) & (colours[:, 0] < 110)
    assert min(np.count_nonzero(red), np.count_nonzero(blue)) > 20


def test_a_task_of_another_kind_is_refused() -> None:
    with pytest.raises(SpecError, match="'Depth' is not one of ObjectCount"):
        video_samples(["Depth"], 0, 0, 1, image_size=64, frames=8)


@pytest.mark.parametrize(
    "simulator",
    [
        {"tasks": ["RoomSize", "RelativeDirectionEasy"], "video": True, "frames": 8},
        {"tasks": ["Count", "Depth"]},
    ],
    ids=["walks", "pictures"],
)
def test_shards_of_apartments_have_chains_that_verify(simulator: dict[str, object]) -> None:
    source = Source.model_validate(
        {
            "name": "flats",
            "simulator": {**simulator, "scenes": 3, "imageSize": 112, "questionsPerScene": 2},
        }
    )
    whole, counts = make_shard(source, 3, 0, 3)
    parts = [make_shard(source, 3, a, b)[0] for a, b in ((0, 1), (1, 3))]
    samples = read_shard(whole)
    assert [s for part in parts for s in read_shard(part)] == samples
    assert counts["kept"] == counts["made"] == len(samples) >= 3
