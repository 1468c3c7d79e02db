"""The eight benchmarks as they are published: records with their pictures or frames.

Parquet with image columns (MathVista, MathVision, MathVerse, DynaMath, We-Math, CV-Bench), JSON
beside a folder of images (LogicVista), JSON lines beside videos (VSI-Bench:
``<dataset>/<scene_name>.mp4``, or its frames as ``<dataset>/<scene_name>/*.jpg`` in the order of
their names). All of these may as well lie in ZIP archives anywhere in the folder, which are not
unpacked.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from m2r_train.api.errors import DataError
from m2r_train.benchmarks.base import PICTURE_DIGEST
from m2r_train.data.archives import Archives
from m2r_train.data.layout import find_files
from m2r_train.data.media import Album
from m2r_train.data.problem import Problem
from m2r_train.data.videos import Videos

_PICTURES = {
    "mathvista": ("decoded_image", "image"),
    "mathvision": ("decoded_image", "image"),
    "mathverse": ("image",),
    "dynamath": ("decoded_image", "image"),
    "we-math": ("image_path",),
    "logicvista": ("imagename",),
    "cv-bench": ("image",),
}
"""The columns that hold a record's picture, the first that has one counts."""

_VARIANT = re.compile(r"variant[_-]?(\d+)")
_BATCH_ROWS = 16


@dataclass(frozen=True, slots=True)
class Published:
    """A record without its pictures, its pictures (encoded), and a video's frames or None.

    ``place`` is its file and its number there, for messages.
    """

    record: dict[str, Any]
    images: tuple[bytes, ...]
    video: tuple[bytes, ...] | None = None
    place: str = ""


def read_published(name: str, folder: Path, split: str | None, frames: int) -> list[Published]:
    """All records of the benchmark called ``name``, in order of file and row.

    Of a video ``frames`` frames are taken, evenly spaced. Raises DataError for a file that cannot
    be read and for a record whose picture or frames are not there: names file, record and remedy.
    """
    return list(_each(name, folder, split, frames, hold=True))


def each_published(name: str, folder: Path, split: str | None, frames: int) -> Iterator[Published]:
    """What ``read_published`` gives, the pictures of one record in memory at a time.

    The frames of a video come with the first record that shows it, the others have none.
    """
    return _each(name, folder, split, frames, hold=False)


def _each(
    name: str, folder: Path, split: str | None, frames: int, *, hold: bool
) -> Iterator[Published]:
    """``hold``: a picture that several records show is read once and stays in memory."""
    root = folder.resolve()
    empty = True
    with closing(Archives(root)) as archives:
        pool: dict[bytes, bytes] = {}
        videos = Videos(archives, frames, once=not hold)
        for file in _files(name, root, split):
            album = Album(root, file.parent, pool=pool)
            for one in _each_of(name, file, album, archives, videos):
                yield one
                empty = False
                if not hold:
                    pool.clear()
    if empty:
        raise DataError(f"{folder}: no record of {name}; copy the benchmark again")


def _each_of(
    name: str, file: Path, album: Album, archives: Archives, videos: Videos
) -> Iterator[Published]:
    """The records of one file."""
    where, done = file.relative_to(album.root), 0
    rows = _rows(file)
    while True:
        try:
            row = next(rows, None)
            if row is None:
                return
            one = _published(name, row, file, album, archives, videos)
        except Problem as problem:
            raise DataError(f"{where} record {done + 1}: {problem}") from problem
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataError(
                f"{where}: not readable after record {done} "
                f"({' '.join(str(error).split())[:160]}); copy the benchmark again"
            ) from error
        done += 1
        yield replace(one, place=f"{where} record {done}")


def _files(name: str, root: Path, split: str | None) -> list[Path]:
    if name == "logicvista" and (named := sorted(root.rglob("dataset.json"))):
        if not all(file.resolve().is_relative_to(root) for file in named):
            raise DataError(f"{root}: dataset.json is a link that leaves the folder; copy it there")
        return named
    return find_files(root, split)


def _rows(file: Path) -> Iterator[Mapping[str, Any]]:
    if file.suffix.lower() == ".parquet":
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=_BATCH_ROWS):
                yield from batch.to_pylist()
        return
    text = file.read_text(encoding="utf-8")
    if file.suffix.lower() == ".json":
        whole = json.loads(text)
        rows = list(whole.values()) if isinstance(whole, dict) else whole
    else:
        rows = (json.loads(line) for line in text.splitlines() if line.strip())
    for row in rows:
        if not isinstance(row, dict):
            raise Problem("bad field", f"is a {type(row).__name__}; a record is a JSON object")
        yield row


def _published(
    name: str,
    row: Mapping[str, Any],
    file: Path,
    album: Album,
    archives: Archives,
    videos: Videos,
) -> Published:
    columns = _PICTURES.get(name, ())
    record = {k: v for k, v in row.items() if k not in columns or isinstance(v, str)}
    numbered = _VARIANT.search(file.relative_to(album.root).as_posix())
    if name == "dynamath" and record.get("varid") is None and numbered:
        record["varid"] = numbered.group(1)  # one split, sample_variant1..10, for each variant
    if name == "vsi-bench":
        place = f"{record.get('dataset')}/{record.get('scene_name')}"
        return Published(record, (), videos.frames(place, album))
    column = next((c for c in columns if row.get(c) is not None), None)
    if column is None:
        raise Problem("image missing", f"none of the columns {', '.join(columns)} has a picture")
    cell = row[column]
    if name == "logicvista":
        cell = _beside(str(cell), album)
    images = album.load(_unzipped(cell, column, album, archives), column)
    if name == "cv-bench":
        record[PICTURE_DIGEST] = hashlib.sha256(b"".join(images)).hexdigest()
    return Published(record, images)


def _beside(name: str, album: Album) -> str:
    """LogicVista names a file of the folder ``images`` that lies beside its JSON."""
    return f"images/{name}" if (album.beside / "images" / name).exists() else name


def _unzipped(cell: object, column: str, album: Album, archives: Archives) -> object:
    """The bytes of a path that no file has and an archive does; else the cell as it is."""
    if not isinstance(cell, str) or album.has(cell):
        return cell
    found = archives.read(cell, f"{column} {cell[:120]}")
    return cell if found is None else {"bytes": found}
