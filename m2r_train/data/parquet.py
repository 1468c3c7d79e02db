"""Samples as Parquet: the layout of ``dataset/<split>/*.parquet``.

``datasets.load_dataset("parquet", data_files=...)`` loads a file as it is, pictures included: the
schema carries the metadata with which that library stores its own feature types. It is written out
here rather than taken from the library, whose import costs seconds in every process that reads a
shard; a test holds the two together.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from m2r_train.api.errors import DataError
from m2r_train.core.records import Quality, Sample

# Arrow's own allocator keeps what a writer has given back: a job's peak is 60 MiB lower without it
# and, written file after file, no longer grows (bench/bench_synthesis.py).
pa.set_memory_pool(pa.system_memory_pool())

MAX_GROUP_ROWS = 512
MAX_GROUP_BYTES = 64 * 2**20
"""A reader holds one row group in memory: rows and bytes of pictures in one are bounded."""

_PICTURE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
_PICTURES = pa.list_(pa.field("item", _PICTURE))
_QUALITY = pa.struct([pa.field(name, pa.int32()) for name in ("structure", "load", "verification")])

_COLUMNS: dict[str, pa.DataType] = {
    "id": pa.string(),
    "domain": pa.string(),
    "task": pa.string(),
    "source": pa.string(),
    "question": pa.string(),
    "options": pa.list_(pa.field("item", pa.string())),
    "answer": pa.string(),
    "answer_type": pa.string(),
    "unit": pa.string(),
    "reward": pa.string(),
    "images": _PICTURES,
    "video": _PICTURES,
    "chain": pa.string(),
    "quality": _QUALITY,
    "accuracy": pa.float64(),
    "difficulty": pa.float64(),
}

_PICTURE_COLUMNS = ("images", "video")
_REQUIRED = ("id", "domain", "task", "source", "question", "answer", "answer_type", "reward")


def _feature(kind: pa.DataType) -> dict[str, Any]:
    """The `datasets` feature (JSON) of an Arrow type; our struct of a picture is its `Image`."""
    if kind.equals(_PICTURE):
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    name = "float64" if pa.types.is_float64(kind) else str(kind)
    return {"dtype": name, "_type": "Value"}


_FEATURES = {name: _feature(kind) for name, kind in _COLUMNS.items()}
SCHEMA = pa.schema(
    list(_COLUMNS.items()),
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)


def write_shard(samples: Iterable[Sample]) -> bytes:
    """One Parquet file; equal samples in equal order give equal bytes (for one pyarrow version).

    Text is compressed with zstd; pictures are stored as they are, being compressed already.
    """
    buffer = io.BytesIO()
    _write(buffer, samples)
    return buffer.getvalue()


def write_file(path: Path, samples: Iterable[Sample]) -> None:
    """:func:`write_shard` to a new file, one row group in memory at a time; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        _write(file, samples)


def _write(file: BinaryIO, samples: Iterable[Sample]) -> None:
    with pq.ParquetWriter(
        file,
        SCHEMA,
        compression={path: "none" if path.endswith(".bytes") else "zstd" for path in _leaves()},
        compression_level={path: 3 for path in _leaves() if not path.endswith(".bytes")},
        use_dictionary=["domain", "task", "source", "answer_type", "unit", "reward"],
        write_statistics=["id", "task", "source", "accuracy", "difficulty"],
    ) as writer:
        for group in _groups(samples):
            rows = [_row(sample) for sample in group]
            writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))


def read_shard(
    data: bytes, *, name: str = "shard", pool: dict[bytes, bytes] | None = None
) -> list[Sample]:
    """The samples of a file that :func:`write_shard` made, exactly as they were.

    Equal pictures are held in memory once; pass one ``pool`` for this to reach across shards.

    Raises:
        DataError: the bytes are no Parquet file, or one of another layout; names ``name``.
    """
    try:
        return list(iter_samples(pq.ParquetFile(io.BytesIO(data)), name=name, pool=pool))
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{name}: not a readable Parquet file ({' '.join(str(error).split())[:160]}); "
            "write it again"
        ) from error


def read_dataset(folder: Path, split: str) -> list[Sample]:
    """All samples of ``<folder>/<split>/*.parquet`` in file-name order, then in file order.

    ``folder`` is the ``dataset`` folder of a run, or the run's folder itself.

    Raises:
        DataError: no such split (the splits found are listed), no file in it, a broken file.
    """
    root = folder if (folder / split).is_dir() else folder / "dataset"
    files = sorted((root / split).glob("*.parquet"))
    if not files:
        found = sorted({path.parent.name for path in folder.glob("**/*.parquet")})
        raise DataError(
            f"{folder}: no Parquet files of split {split!r}; splits found: "
            f"{', '.join(found) or 'none'}"
        )
    pool: dict[bytes, bytes] = {}
    return [
        sample
        for path in files
        for sample in read_shard(path.read_bytes(), name=str(path), pool=pool)
    ]


def is_own_layout(schema: pa.Schema) -> bool:
    """Whether a Parquet schema is that of :func:`write_shard` (order and types of all columns)."""
    return bool(schema.remove_metadata().equals(SCHEMA.remove_metadata()))


def iter_samples(
    file: pq.ParquetFile, *, name: str, pool: dict[bytes, bytes] | None = None
) -> Iterator[Sample]:
    """Stream the samples of an open file of our own layout, one row group in memory at a time.

    Raises:
        DataError: another layout, or a row that is no sample; names ``name`` and the record.
    """
    if not is_own_layout(file.schema_arrow):
        raise DataError(f"{name}: columns {file.schema_arrow.names} are not those of a sample file")
    pool = {} if pool is None else pool
    number = 0
    for index in range(file.num_row_groups):
        table = file.read_row_group(index)
        for at in range(table.num_rows):
            number += 1
            try:
                yield _sample(table.slice(at, 1).to_pylist()[0], pool)
            except (TypeError, ValueError) as error:
                raise DataError(
                    f"{name} record {number}: not a sample ({error}); write the file again"
                ) from error


def text_rows(file: pq.ParquetFile, group: int) -> list[dict[str, Any]]:
    """The rows of a row group without their pictures, of which ``path`` alone is read (None)."""
    columns = [name for name in _COLUMNS if name not in _PICTURE_COLUMNS]
    columns += [f"{name}.list.element.path" for name in _PICTURE_COLUMNS]
    rows: list[dict[str, Any]] = file.read_row_group(group, columns=columns).to_pylist()
    return rows


def one_sample(file: pq.ParquetFile, group: int, at: int) -> Sample:
    """Row ``at`` of a row group, with its pictures; that group is in memory for the time."""
    return _sample(file.read_row_group(group).slice(at, 1).to_pylist()[0], {})


def _leaves() -> list[str]:
    """Parquet's dotted paths of the columns that hold values, e.g. ``images.list.element.bytes``.

    Compression is set by these names, in full: a column left out is stored uncompressed.
    """

    def walk(path: str, kind: pa.DataType) -> Iterator[str]:
        if pa.types.is_list(kind):
            yield from walk(f"{path}.list.element", kind.value_type)
        elif pa.types.is_struct(kind):
            for field in kind:
                yield from walk(f"{path}.{field.name}", field.type)
        else:
            yield path

    return [leaf for name, kind in _COLUMNS.items() for leaf in walk(name, kind)]


def _groups(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    """Cut into row groups: a new one starts before a bound would be passed."""
    group: list[Sample] = []
    size = 0
    for sample in samples:
        weight = sum(map(len, sample.images)) + sum(map(len, sample.video or ()))
        if group and (len(group) == MAX_GROUP_ROWS or size + weight > MAX_GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(sample)
        size += weight
    if group:
        yield group


def _row(sample: Sample) -> dict[str, Any]:
    row = {name: getattr(sample, name) for name in _COLUMNS}
    row["images"] = _pictures(sample.images)
    row["video"] = None if sample.video is None else _pictures(sample.video)
    if sample.quality is not None:
        row["quality"] = {
            "structure": sample.quality.structure,
            "load": sample.quality.load,
            "verification": sample.quality.verification,
        }
    return row


def _pictures(files: Sequence[bytes]) -> list[dict[str, Any]]:
    return [{"bytes": data, "path": None} for data in files]


def _sample(row: dict[str, Any], pool: dict[bytes, bytes]) -> Sample:
    for name in _REQUIRED:
        if row[name] is None:
            raise ValueError(f"{name} is null")
    row["images"] = _files(row["images"], pool)
    if row["video"] is not None:
        row["video"] = _files(row["video"], pool)
    if row["options"] is not None:
        row["options"] = tuple(row["options"])
    if row["quality"] is not None:
        row["quality"] = Quality(**row["quality"])
    return Sample(**row)


def _files(pictures: list[dict[str, Any]], pool: dict[bytes, bytes]) -> tuple[bytes, ...]:
    files = tuple(picture["bytes"] for picture in pictures)
    if any(data is None for data in files):
        raise ValueError("a picture without bytes")
    return tuple(pool.setdefault(data, data) for data in files)
