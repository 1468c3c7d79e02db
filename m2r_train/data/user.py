"""A user's own dataset: JSONL or Parquet files to samples, with every bad record named.

Records are streamed: of a record that was given out nothing stays in memory but a hash of its id.
Nothing of the dataset is ever executed: no pickles, no dataset scripts, no downloads.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq

from m2r_train.api.errors import DataError
from m2r_train.core.records import AnswerType, Domain, Sample
from m2r_train.data.columns import Places
from m2r_train.data.images import MAX_PIXELS
from m2r_train.data.layout import find_files
from m2r_train.data.media import Album
from m2r_train.data.parquet import is_own_layout, iter_samples
from m2r_train.data.problem import Problem, ProblemKind
from m2r_train.data.rows import FIELDS, to_sample
from m2r_train.data.stash import RecentFiles

MAX_LINE_BYTES = 128 * 2**20
_BATCH_ROWS = 16
_INDEX_BITS = 40
_INDEX_MASK = (1 << _INDEX_BITS) - 1


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that was left out: number ``index`` of ``file``, counted from 1.

    In a JSONL file the number is that of the line. ``kind`` is one of a closed set
    (``m2r_train.data.problem.PROBLEM_KINDS``), for counting.
    """

    index: int
    file: str
    reason: str
    kind: ProblemKind

    def __str__(self) -> str:
        return f"{self.file} record {self.index}: {self.reason}"


@dataclass(slots=True)
class LeftOut:
    """The records that were left out: how many of each kind, and the first ``most`` of them."""

    most: int = 3
    kinds: Counter[ProblemKind] = field(default_factory=Counter)
    first: list[BadRecord] = field(default_factory=list)

    def append(self, record: BadRecord) -> None:
        """One more."""
        self.kinds[record.kind] += 1
        if len(self.first) < self.most:
            self.first.append(record)

    def __len__(self) -> int:
        return self.kinds.total()


@dataclass(frozen=True, slots=True)
class Loaded:
    """The usable samples of a dataset in file order, and the records that were left out."""

    samples: list[Sample]
    bad: list[BadRecord]


def read_user_dataset(
    path: Path,
    *,
    split: str | None,
    columns: Mapping[str, str],
    max_bad_ratio: float,
    source: str,
    max_pixels: int = MAX_PIXELS,
) -> Loaded:
    """All of :func:`iter_user_dataset` in memory, equal pictures once."""
    bad = LeftOut(most=sys.maxsize)
    samples = iter_user_dataset(
        path,
        split=split,
        columns=columns,
        max_bad_ratio=max_bad_ratio,
        source=source,
        max_pixels=max_pixels,
        bad=bad,
        pool={},
    )
    return Loaded(list(samples), bad.first)


def iter_user_dataset(
    path: Path,
    *,
    split: str | None,
    columns: Mapping[str, str],
    max_bad_ratio: float,
    source: str,
    bad: LeftOut,
    max_pixels: int = MAX_PIXELS,
    pool: dict[bytes, bytes] | None = None,
) -> Iterator[Sample]:
    """Read a dataset: a JSONL or Parquet file, or a folder of them; one sample at a time.

    ``columns`` maps our field names (``m2r_train.data.rows.FIELDS``) to the dataset's own, e.g.
    ``{"question": "problem"}``. Parquet files which synthesis wrote are recognised by their schema
    and taken exactly as they are, unless ``columns`` is given. Every picture is decoded once here,
    so that no later stage meets a broken one, and kept encoded. Records that are left out are
    added to ``bad``. ``pool`` holds the pictures that passed (default: recent ones).

    Raises, when the last sample was given out:
        DataError: files, split or a column missing; more than ``max_bad_ratio`` (0..1) of the
            records bad; no usable record at all.
    """
    _check_names(columns)
    files = find_files(path, split)
    root = (path.parent if path.is_file() else path).resolve()
    seen = Places()  # of ids: the file's number and the record's, in one
    present: set[str] = set()
    pool = RecentFiles() if pool is None else pool
    names = []
    for file in files:
        name = file.name if path.is_file() else f"{root.name}/{file.relative_to(path).as_posix()}"
        names.append(name)
        album = Album(root=root, beside=file.resolve().parent, max_pixels=max_pixels, pool=pool)
        for index, row in _records(file, name, columns, present):
            try:
                if isinstance(row, Problem):
                    raise row
                if isinstance(row, Sample):
                    sample = row
                else:
                    sample = to_sample(_rename(row, columns), album, source)
                place = (len(names) - 1) << _INDEX_BITS | index
                if (first := seen.first(sample.id, place)) is not None:
                    where = _at(names[first >> _INDEX_BITS], first & _INDEX_MASK)
                    raise Problem("duplicate", f"id {sample.id!r} is that of {where} too")
            except Problem as problem:
                bad.append(BadRecord(index, name, str(problem), problem.kind))
                continue
            yield sample
    if present:
        _check_columns(path, columns, present)
    _check_share(path, len(seen), bad, max_bad_ratio)


def _records(
    file: Path, name: str, columns: Mapping[str, str], present: set[str]
) -> Iterator[tuple[int, dict[str, object] | Sample | Problem]]:
    """(number from 1, record) of a file; what is no record comes as the problem it is.

    The names of the columns met are added to ``present``.
    """
    if file.suffix.lower() != ".parquet":
        for number, row in _lines(file):
            if isinstance(row, dict):
                present.update(row)
            yield number, row
        return
    try:
        with pq.ParquetFile(file, memory_map=True) as parquet:
            present.update(parquet.schema_arrow.names)
            if is_own_layout(parquet.schema_arrow) and not columns:
                yield from enumerate(iter_samples(parquet, name=name), start=1)
            else:
                yield from enumerate(_rows(parquet, columns), start=1)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{name}: not a readable Parquet file ({' '.join(str(error).split())[:160]}); "
            "replace the file"
        ) from error


def _rows(
    parquet: pq.ParquetFile, columns: Mapping[str, str]
) -> Iterator[dict[str, object] | Problem]:
    wanted = {columns.get(name, name) for name in FIELDS}
    names = [name for name in parquet.schema_arrow.names if name in wanted]
    for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=names):
        for index in range(batch.num_rows):
            try:
                yield batch.slice(index, 1).to_pylist()[0]
            except (ValueError, OverflowError) as error:  # text that is not UTF-8, a wild date
                yield Problem("broken line", f"unreadable values ({type(error).__name__})")


def _lines(file: Path) -> Iterator[tuple[int, dict[str, object] | Problem]]:
    with file.open("rb") as stream:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                while line and not line.endswith(b"\n"):
                    line = stream.readline(MAX_LINE_BYTES)
                yield number, Problem("broken line", f"longer than {MAX_LINE_BYTES >> 20} MiB")
            elif line.strip():
                yield number, _parse(line)


def _parse(line: bytes) -> dict[str, object] | Problem:
    try:
        value = json.loads(line.decode("utf-8-sig").strip())
    except UnicodeDecodeError:
        return Problem("broken line", "not UTF-8 text")
    except json.JSONDecodeError as error:
        return Problem("broken line", f"not JSON ({error.msg} at column {error.colno})")
    except (ValueError, RecursionError):  # a number of thousands of digits; nested too deeply
        return Problem("broken line", "JSON beyond what can be read")
    if not isinstance(value, dict):
        return Problem("broken line", f"not a JSON object but {type(value).__name__}")
    return value


def _rename(row: Mapping[str, object], columns: Mapping[str, str]) -> dict[str, object]:
    """The record under our names; a field that ``columns`` does not map is looked up by its name.

    Names which other datasets use for other things must not spoil them: beside a mapped `images`
    the column `image` is not ours (and vice versa), nor is an unmapped `answer_type` or `domain`
    that holds none of our values.
    """
    named = {name: row.get(columns.get(name, name)) for name in FIELDS}
    for one, other in (("image", "images"), ("images", "image")):
        if one in columns and other not in columns:
            named[other] = None
    for name, values in (("answer_type", get_args(AnswerType)), ("domain", get_args(Domain))):
        if name not in columns and named[name] not in values:
            named[name] = None
    return named


def _at(file: str, index: int) -> str:
    return f"{file} record {index}"


def _check_names(columns: Mapping[str, str]) -> None:
    for name in columns:
        if name not in FIELDS:
            raise DataError(
                f"dataset.columns: no field {name!r}{_hint(name, FIELDS)}; "
                f"fields: {', '.join(FIELDS)}"
            )


def _check_columns(path: Path, columns: Mapping[str, str], present: set[str]) -> None:
    """Every mapped column, and question and answer, must stand in some record of the dataset."""
    for name in dict.fromkeys((*columns, "question", "answer")):
        column = columns.get(name, name)
        if column not in present:
            raise DataError(
                f"{path}: no column {column!r} for {name}{_hint(column, present)}; columns "
                f"present: {_listed(present)}; set dataset.columns.{name}"
            )


def _listed(names: set[str]) -> str:
    shown = [name if name.isprintable() else ascii(name) for name in sorted(names)[:20]]
    return ", ".join(shown) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _hint(word: str, names: tuple[str, ...] | set[str]) -> str:
    close = difflib.get_close_matches(word, sorted(names), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _check_share(path: Path, good: int, bad: LeftOut, max_bad_ratio: float) -> None:
    total = good + len(bad)
    if total == 0:
        raise DataError(f"{path}: no records; check dataset.uri and dataset.split")
    if good and len(bad) <= max_bad_ratio * total:
        return
    counts = ", ".join(f"{n} {kind}" for kind, n in bad.kinds.most_common())
    first = "; ".join(map(str, bad.first[:3]))
    remedy = (
        f"more than the {max_bad_ratio:.1%} of dataset.maxBadRatio: fix them or raise it"
        if good
        else "none is usable: fix them"
    )
    raise DataError(f"{path}: {len(bad)} of {total} records are bad ({counts}), {remedy}. {first}")
