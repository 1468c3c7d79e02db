"""Which files make up a dataset, and which split each belongs to."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from m2r_train.api.errors import DataError

JSONL_SUFFIXES = frozenset({".jsonl", ".jsonlines", ".json-lines", ".ndjson"})
SUFFIXES = JSONL_SUFFIXES | {".parquet"}

# Hugging Face names shards train-00000-of-00003.parquet, older ones with a hash behind. A short
# counter is part of the name: level_1 and level_2 are two splits.
_COUNTER = re.compile(r"-\d{5,}(-of-\d{5,}(-[0-9a-f]{16})?)?$")


def find_files(path: Path, split: str | None) -> list[Path]:
    """The JSONL and Parquet files of a dataset, in order of their path.

    ``path`` is one file (then ``split`` is not looked at), or a folder that is searched to any
    depth; hidden files and linked folders are passed over. See :func:`split_of` for what names a
    split. Without ``split`` all files of the folder are taken.

    Raises:
        DataError: nothing there, no such split (the splits found are listed), or a data file that
            is a link out of the folder.
    """
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise DataError(f"{path}: not a .jsonl or .parquet file; convert it to one of them")
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder; check dataset.uri")
    files = _data_files(path)
    if not files:
        raise DataError(f"{path}: no .jsonl or .parquet file in this folder; check dataset.uri")
    root = path.resolve()
    for file in files:
        if not file.resolve().is_relative_to(root):
            raise DataError(f"{file}: a link that leaves the dataset folder; copy the file into it")
    if split is None:
        return files
    splits = {file: split_of(PurePosixPath(file.relative_to(path).as_posix())) for file in files}
    chosen = [file for file in files if splits[file] == split]
    if not chosen:
        found = ", ".join(sorted(set(splits.values())))
        raise DataError(f"{path}: no split {split!r}; splits found: {found}; set dataset.split")
    return chosen


def split_of(relative: PurePosixPath) -> str:
    """The split that a file's path inside the dataset folder names.

    ``train.jsonl``, ``train-00000-of-00003.parquet``, ``train/any/name.jsonl`` are all "train",
    and so is each of them inside a first folder called ``dataset`` (our results) or ``data``
    (Hugging Face's).
    """
    parts = relative.parts
    if len(parts) > 1 and parts[0] in {"dataset", "data"}:
        parts = parts[1:]
    if len(parts) > 1:
        return parts[0]
    return _COUNTER.sub("", PurePosixPath(parts[0]).stem)


def _data_files(folder: Path) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(folder, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(parent, name)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        ]
    return sorted(found, key=lambda file: file.relative_to(folder).as_posix())
