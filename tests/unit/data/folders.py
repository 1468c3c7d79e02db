"""Datasets on disk, as users have them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from unit.data.photos import photo_file

from m2r_train.data.user import Loaded, read_user_dataset

GOOD = {"question": "How many cats are there?", "answer": "1", "image": "photos/cat.jpg"}


def maths_folder(parent: Path, *rows: Mapping[str, Any] | bytes) -> Path:
    """``maths/train.jsonl`` with the rows (bytes: a raw line), and ``maths/photos/cat.jpg``."""
    folder = parent / "maths"
    (folder / "photos").mkdir(parents=True)
    (folder / "photos" / "cat.jpg").write_bytes(photo_file("chelsea", "JPEG"))
    write_lines(folder / "train.jsonl", rows)
    return folder


def write_lines(path: Path, rows: Sequence[Mapping[str, Any] | bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")


def write_table(path: Path, rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def read(path: Path, **changes: Any) -> Loaded:
    settings: dict[str, Any] = {
        "split": None,
        "columns": {},
        "max_bad_ratio": 0.0,
        "source": "maths",
    }
    return read_user_dataset(path, **(settings | changes))
