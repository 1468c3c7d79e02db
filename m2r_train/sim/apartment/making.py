"""Scenes with their pictures, and samples, out of seeds: the same arguments, the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image

from m2r_train.api.errors import SpecError
from m2r_train.core.records import Sample
from m2r_train.core.rng import derive_seed
from m2r_train.sim.apartment.layout import Apartment, draw_apartment
from m2r_train.sim.apartment.painter import (
    Shot,
    aim,
    frame_of,
    picture,
    pixels_of,
    rectangle,
    share_shown,
    things_of,
)
from m2r_train.sim.apartment.smooth import smooth_picture
from m2r_train.sim.apartment.solids import model_of
from m2r_train.sim.apartment.walk import Pose, views, walk
from m2r_train.spatial import (
    IMAGE_TASKS,
    VIDEO_TASKS,
    Frame,
    Margins,
    Scene,
    Sight,
    questions,
    to_sample,
)
from m2r_train.spatial.margins import DEFAULT
from m2r_train.spatial.marking import jpeg, marked
from m2r_train.spatial.tasks import Question

SOURCE = "simulator"
_TRIES = 60
_TRIES_PER_PLACE = 4
_VIDEO_ROOMS = (1, 2, 2, 3, 3, 4)
_IMAGE_ROOMS = (1, 1, 2)
_GLANCE, _GLANCED, _LEAST_SEEN = 64, 16, 5  # pixels a side, pixels of a thing, things
_NOTICED = 3  # pixels; less than this is the jag of an edge


@dataclass(frozen=True, slots=True)
class Film:
    """A walk: the scene with what every frame sees, and the frames as JPEG."""

    scene: Scene
    frames: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Photo:
    """One view: the scene with its one frame; the picture is painted when it is wanted."""

    scene: Scene
    shot: Shot

    def picture(self) -> Image.Image:
        """RGB or RGBX, with smooth edges: painted at twice the size and averaged down."""
        return smooth_picture(self.shot)


def film(flat: Apartment, poses: Sequence[Pose], size: int, margins: Margins = DEFAULT) -> Film:
    """The frames of a walk, and how well each thing is seen where it is seen best."""
    model = model_of(flat)
    shots: list[Shot] = []
    seen: list[list[int]] = []
    encoded = []
    for pose in poses:
        shot = aim(model, pose, size)
        shots.append(shot)
        seen.append(pixels_of(shot, things_of(shot)))
        encoded.append(jpeg(picture(shot)))
    best = {i: _best(shots, seen, i, margins) for i in range(len(flat.boxes))}
    frames = tuple(
        frame_of(
            shot,
            {
                i: Sight(pixels=n, share=best[i][1] if best[i][0] == k else None)
                for i, n in enumerate(counts)
                if n >= _NOTICED
            },
        )
        for k, (shot, counts) in enumerate(zip(shots, seen, strict=True))
    )
    return Film(_scene(flat, frames), tuple(encoded))


def _best(
    shots: Sequence[Shot], seen: Sequence[Sequence[int]], index: int, margins: Margins
) -> tuple[int, float]:
    """The frame that shows the largest share of a thing (of the four with most of its pixels)."""
    order = sorted(range(len(shots)), key=lambda k: -seen[k][index])[:4]
    best = order[0], 0.0
    for k in order:
        if seen[k][index] < margins.seen * shots[k].size ** 2:
            break
        share = share_shown(shots[k], index, seen[k][index])
        if share > best[1]:
            best = k, share
        if share >= margins.share:
            break
    return best


def photo(flat: Apartment, shot: Shot, margins: Margins = DEFAULT) -> Photo:
    """One view, and what is seen of each thing in it."""
    things = things_of(shot)
    owners = np.asarray(things)
    least = margins.seen * shot.size**2
    sights = {
        i: Sight(
            pixels=n,
            # Of what is too small to be asked about, nobody wants to know it.
            share=share_shown(shot, i, n) if n >= least else None,
            rectangle=rectangle(shot, owners, i),
        )
        for i, n in enumerate(pixels_of(shot, things))
        if n >= _NOTICED
    }
    return Photo(_scene(flat, (frame_of(shot, sights),)), shot)


def _scene(flat: Apartment, frames: tuple[Frame, ...]) -> Scene:
    return Scene(
        boxes=flat.boxes,
        frames=frames,
        rooms=tuple(room.outline for room in flat.rooms),
        doors=tuple(door for _, _, door in flat.links),
    )


def draw_film(rng: Random, size: int, frames: int) -> Film | None:
    """A walk through an apartment; None where this seed makes none."""
    flat = draw_apartment(rng, rng.choice(_VIDEO_ROOMS))
    return None if flat is None else film(flat, walk(rng, flat, frames), size)


def draw_photo(rng: Random, size: int) -> Photo | None:
    """A view of a room, the one of some directions that shows most things."""
    return next(draw_photos(rng, size), None)


def draw_photos(rng: Random, size: int) -> Iterator[Photo]:
    """Views of one room, the one first that shows most things, each made when it is asked for."""
    flat = draw_apartment(rng, rng.choice(_IMAGE_ROOMS))
    if flat is None:
        return
    poses = views(rng, flat, rng.randrange(len(flat.rooms)))
    model = model_of(flat)
    shots = [aim(model, pose, size) for pose in poses]
    rich = [_things_in(shot.sized(_GLANCE)) for shot in shots]
    for k in sorted(range(len(poses)), key=lambda k: -rich[k]):
        if rich[k] < _LEAST_SEEN:
            return
        yield photo(flat, shots[k])


def _things_in(glance: Shot) -> int:
    return sum(n >= _GLANCED for n in pixels_of(glance, things_of(glance)))


def video_samples(
    tasks: Sequence[str], seed: int, index: int, wanted: int, *, image_size: int, frames: int
) -> tuple[Sample, ...]:
    """Up to ``wanted`` questions about walk number ``index``; the first task goes round ``tasks``.

    Raises SpecError for a task that is not one of videos.
    """
    _check(tasks, VIDEO_TASKS)
    name, order = derive_seed(seed, "walk", *tasks, index), _turned(tasks, index)
    for attempt in range(_TRIES):
        rng = Random(derive_seed(name, "scene", attempt))
        flat = draw_apartment(rng, rng.choice(_VIDEO_ROOMS))
        if flat is None:
            continue
        made = film(flat, walk(rng, flat, frames), image_size)
        asked = questions(made.scene, order, name, wanted)
        if asked and (asked[0].task == order[0] or attempt > _TRIES // 2):
            return tuple(
                to_sample(q, f"{q.task}-{seed}-{index}-{k}", SOURCE, video=made.frames)
                for k, q in enumerate(asked)
            )
    raise SpecError(_nothing_clear(order[0]))


def image_samples(
    tasks: Sequence[str], seed: int, index: int, wanted: int, *, image_size: int
) -> tuple[Sample, ...]:
    """As ``video_samples``, about one picture; boxes are drawn where a question speaks of them."""
    _check(tasks, IMAGE_TASKS)
    name, order = derive_seed(seed, "view", *tasks, index), _turned(tasks, index)
    for attempt in range(_TRIES):
        for made in draw_photos(Random(derive_seed(name, "scene", attempt)), image_size):
            asked = questions(made.scene, order, name, wanted)
            if asked and (asked[0].task == order[0] or attempt > _TRIES // 2):
                shown = _pictures(made, asked)
                return tuple(
                    to_sample(q, f"{q.task}-{seed}-{index}-{k}", SOURCE, images=(data,))
                    for k, (q, data) in enumerate(zip(asked, shown, strict=True))
                )
    raise SpecError(_nothing_clear(order[0]))


def _pictures(made: Photo, asked: Sequence[Question]) -> Iterator[bytes]:
    """A file for each question; those without marks share one."""
    shown = made.picture()
    plain: bytes | None = None
    for q in asked:
        if q.marks:
            yield jpeg(marked(shown, made.scene, q.marks))
        else:
            plain = plain or jpeg(shown)
            yield plain


def _turned(tasks: Sequence[str], index: int) -> tuple[str, ...]:
    lead = index % len(tasks)
    return (*tasks[lead:], *tasks[:lead])


def _check(tasks: Sequence[str], known: Mapping[str, object]) -> None:
    for task in tasks:
        if task not in known:
            raise SpecError(f"simulator.tasks: {task!r} is not one of {', '.join(known)}")


def _nothing_clear(task: str) -> str:
    return (
        f"simulator.tasks: no clear scene for {task} in {_TRIES} tries, raise imageSize or name "
        "other tasks beside it"
    )
