"""Samples on this machine's disk: what lets a job make more of them than its memory holds.

The file has no name, so that nothing is left of it however the process ends. Of each sample eight
bytes stay in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from m2r_train.api.errors import ConfigError
from m2r_train.core.records import Quality, Sample

RECENT_BYTES = 8 * 2**20
RECENT_PICTURES = 4096
_TEXTS = [f.name for f in fields(Sample) if f.name not in ("images", "video", "quality")]


class RecentFiles(dict[bytes, bytes]):
    """A pool of encoded pictures for ``read_shard`` and ``Album`` that forgets the oldest.

    Questions about one picture mostly come together: they share it, and memory stays bounded.
    """

    def __init__(self, most_bytes: int | None = None) -> None:
        super().__init__()
        self._most = RECENT_BYTES if most_bytes is None else most_bytes
        self._held = 0

    def __setitem__(self, key: bytes, value: bytes) -> None:
        if key not in self:
            self._held += len(value)
        super().__setitem__(key, value)
        while self._held > self._most and len(self) > 1:
            oldest = next(iter(self))
            self._held -= len(self.pop(oldest))

    def setdefault(self, key: bytes, default: bytes) -> bytes:
        """The value of a key that is there, else ``default``, which is then there."""
        if key not in self:
            self[key] = default
        return self.get(key, default)


class Stash:
    """Samples by number, in the order in which they were put.

    A picture that a sample shares with one shortly before is stored once.
    """

    def __init__(self, folder: Path) -> None:
        """Raises ConfigError where ``folder`` cannot be written."""
        self._folder = folder
        self._at = array("q")  # where the sample's record begins
        self._end = 0
        self._known: OrderedDict[bytes, tuple[int, int]] = OrderedDict()  # hash -> (at, bytes)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._no_room(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._at)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._end

    @property
    def remembered(self) -> int:
        """Pictures of which it is known where they lie."""
        return len(self._known)

    def put(self, sample: Sample) -> int:
        """The number under which the sample is kept."""
        self._at.append(self._write(sample))
        return len(self._at) - 1

    def replace(self, number: int, sample: Sample) -> None:
        """Keeps another sample under a number that is there."""
        self._at[number] = self._write(sample)

    def __getitem__(self, number: int) -> Sample:
        at = self._at[number]
        size = int.from_bytes(self._read(at, 8), "little")
        record: dict[str, Any] = json.loads(self._read(at + 8, size))
        record["images"] = tuple(self._read(*place) for place in record["images"])
        if record["video"] is not None:
            record["video"] = tuple(self._read(*place) for place in record["video"])
        if record["options"] is not None:
            record["options"] = tuple(record["options"])
        if record["quality"] is not None:
            record["quality"] = Quality(**record["quality"])
        return Sample(**record)

    def those(self, numbers: Iterable[int]) -> Iterator[Sample]:
        """The samples with these numbers, one in memory at a time."""
        return (self[n] for n in numbers)

    def _write(self, sample: Sample) -> int:
        record = {name: getattr(sample, name) for name in _TEXTS}
        record["images"] = [self._picture(data) for data in sample.images]
        record["video"] = None if sample.video is None else [*map(self._picture, sample.video)]
        quality = sample.quality
        record["quality"] = None
        if quality is not None:
            record["quality"] = {f.name: getattr(quality, f.name) for f in fields(quality)}
        text = json.dumps(record).encode()
        return self._append(len(text).to_bytes(8, "little") + text)

    def _picture(self, data: bytes) -> tuple[int, int]:
        key = hashlib.blake2b(data, digest_size=16).digest()
        if (place := self._known.get(key)) is None:
            place = self._known[key] = self._append(data), len(data)
            if len(self._known) > RECENT_PICTURES:
                self._known.popitem(last=False)
        return place

    def _append(self, data: bytes) -> int:
        at, left = self._end, memoryview(data)
        try:
            while left:
                written = os.pwrite(self._file.fileno(), left, self._end)
                self._end += written
                left = left[written:]
        except OSError as error:
            raise self._no_room(error) from error
        return at

    def _read(self, at: int, size: int) -> bytes:
        data = os.pread(self._file.fileno(), size, at)
        while len(data) < size:  # a single read gives at most 2 GiB
            more = os.pread(self._file.fileno(), size - len(data), at + len(data))
            if not more:
                raise AssertionError(f"{self._folder}: samples kept there are cut off")
            data += more
        return data

    def _no_room(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"{self._folder}: samples cannot be kept there ({error.strerror}); set M2R_CACHE to a "
            "folder on a disk with room for the whole dataset"
        )
