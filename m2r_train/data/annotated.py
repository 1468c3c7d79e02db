"""Real scenes with annotations (docs/annotated-scenes.md) to samples.

One JSON file a scene, beside or above its pictures. A file is taken whole or not at all: what
is wrong with it is one line that names the file, the field and what to do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from m2r_train.api.errors import DataError
from m2r_train.core.records import Sample
from m2r_train.core.rng import derive_seed
from m2r_train.data.images import decode
from m2r_train.data.media import Album
from m2r_train.data.problem import Problem
from m2r_train.data.sceneform import Pictured, Trouble, parse_scene
from m2r_train.data.stash import RecentFiles
from m2r_train.spatial import IMAGE_TASKS, VIDEO_TASKS, Scene, questions, to_sample
from m2r_train.spatial.marking import jpeg, marked
from m2r_train.spatial.visibility import with_sights

SUFFIX = "scene.json"
MAX_FILE_BYTES = 64 * 2**20


def ask_about_scenes(
    folder: Path,
    tasks: Sequence[str],
    seed: int,
    source: str,
    *,
    wanted: int,
    most_frames: int,
    part: range | None = None,
    names: dict[str, str] | None = None,
) -> Iterator[Sample]:
    """Questions about the scenes of a folder, in the order of their paths: all, or those with the
    numbers of ``part``, whose questions do not depend on which others are in it.

    Tasks of videos are asked about the frames of a scene, up to ``wanted`` of them; tasks of
    images about each of its frames, up to ``wanted`` each. A scene with more than ``most_frames``
    frames is thinned evenly. ``names`` is told the file of each scene by its name.

    Raises:
        DataError: no scene, a scene that is not as described, two of one name; none that a
            question suits, unless it is a part.
    """
    root = folder.resolve()
    found = False
    files = scene_files(folder)
    pool = RecentFiles()
    names = {} if names is None else names
    for file in files if part is None else files[part.start : part.stop]:
        label = file.relative_to(folder).as_posix() if folder.is_dir() else file.name
        album = Album(root=root, beside=file.resolve().parent, pool=pool)
        try:
            pictured = thinned(parse_scene(_json(file)), most_frames)
            if (other := names.setdefault(pictured.name, label)) != label:
                raise same_name(pictured.name, other)
            frames = _pictures(pictured, album)
        except Trouble as trouble:
            raise DataError(f"{label}: {trouble}") from trouble
        scene = with_sights(pictured.scene)
        for sample in _asked(scene, frames, pictured.name, tasks, seed, source, wanted):
            found = True
            yield sample
    if not found and part is None:
        raise no_question(len(files), tasks)


def same_name(name: str, other: str) -> Trouble:
    """Two scenes of one name would have samples of one id."""
    return Trouble("name", f"{name!r} is that of {other} too; rename one")


def no_question(scenes: int, tasks: Sequence[str]) -> DataError:
    """Nothing can be asked about any scene."""
    return DataError(
        f"{scenes} scenes, and no clear question of {', '.join(tasks)}; see the margins in "
        "docs/spatial-tasks.md, and name other tasks or add annotations"
    )


def _asked(
    scene: Scene,
    frames: tuple[bytes, ...],
    name: str,
    tasks: Sequence[str],
    seed: int,
    source: str,
    wanted: int,
) -> Iterator[Sample]:
    of_video = [task for task in tasks if task in VIDEO_TASKS]
    of_image = [task for task in tasks if task in IMAGE_TASKS]
    if of_video:
        for k, q in enumerate(questions(scene, of_video, derive_seed(seed, "scene", name), wanted)):
            yield to_sample(q, f"{source}-{name}-{q.task}-{k}", source, video=frames)
    for number, (frame, data) in enumerate(zip(scene.frames, frames, strict=True)):
        if not of_image:
            break
        one = replace(scene, frames=(frame,))
        for k, q in enumerate(
            questions(one, of_image, derive_seed(seed, "frame", name, number), wanted)
        ):
            picture = jpeg(marked(decode(data), one, q.marks)) if q.marks else data
            label = f"{source}-{name}-{number}-{q.task}-{k}"
            yield to_sample(q, label, source, images=(picture,))


def thinned(pictured: Pictured, most: int) -> Pictured:
    """At most so many frames, evenly spaced, the first among them."""
    n = len(pictured.images)
    if n <= most:
        return pictured
    kept = [k * n // most for k in range(most)]
    frames = pictured.scene.frames
    return replace(
        pictured,
        scene=replace(pictured.scene, frames=tuple(frames[k] for k in kept)),
        images=tuple(pictured.images[k] for k in kept),
        places=tuple(pictured.places[k] for k in kept),
    )


def scene_files(folder: Path) -> list[Path]:
    """The scenes of a folder (or the one that is a file), in the order of their paths.

    Raises DataError where there is none.
    """
    if not folder.exists():
        raise DataError(f"{folder}: no such folder; check scenes.uri")
    found = [folder] if folder.is_file() else sorted(folder.rglob(f"*{SUFFIX}"))
    if not found:
        raise DataError(
            f"{folder}: no file named {SUFFIX} or ending in .{SUFFIX}; check scenes.uri"
        )
    root = folder.resolve()
    for file in found:
        if not file.resolve().is_relative_to(root):
            raise DataError(f"{file}: a link that leaves the folder; copy the file into it")
    return found


def _json(file: Path) -> object:
    if file.stat().st_size > MAX_FILE_BYTES:
        raise Trouble("", f"larger than {MAX_FILE_BYTES >> 20} MiB; split the scene")
    try:
        return json.loads(file.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Trouble("", "not UTF-8 text; save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise Trouble(
            "", f"not JSON ({error.msg} at line {error.lineno}); mend it there"
        ) from error
    except (ValueError, RecursionError) as error:
        raise Trouble("", "JSON beyond what can be read; simplify it") from error


def _pictures(pictured: Pictured, album: Album) -> tuple[bytes, ...]:
    out = []
    for place, image, frame in zip(
        pictured.places, pictured.images, pictured.scene.frames, strict=True
    ):
        try:
            (data,) = album.load(image, "image")
        except Problem as problem:
            raise Trouble(place, f"{problem}; mend the picture or leave the frame out") from problem
        width, height = decode(data).size
        if (width, height) != (frame.width, frame.height):
            raise Trouble(
                place,
                f"{image} has {width} x {height} pixels, its camera {frame.width} x "
                f"{frame.height}; give the camera of the picture's own size",
            )
        out.append(data)
    return tuple(out)
