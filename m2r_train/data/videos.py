"""The frames of a benchmark's videos: a folder of pictures, or a video file that is decoded.

``PLACE/*.jpg`` counts before ``PLACE.mp4``, and a file before a member of a ZIP archive. Each video
is looked up and decoded once, however many questions are asked of it.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from m2r_train.api.errors import ConfigError
from m2r_train.data.archives import Archives
from m2r_train.data.images import MAX_PIXELS
from m2r_train.data.media import Album
from m2r_train.data.problem import Problem
from m2r_train.data.spacing import evenly
from m2r_train.data.videoworker import BAD_VIDEO

_PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp"})


@dataclass(frozen=True, slots=True)
class Limits:
    """What one video may cost: bytes of its file, frames, pixels of one, the decoder's bytes of
    memory and seconds.
    """

    file: int = 2**30
    frames: int = 200_000  # two hours at 30 a second
    pixels: int = MAX_PIXELS
    memory: int = 4 * 2**30
    seconds: float = 300.0


@dataclass(slots=True)
class Videos:
    """Videos of one copy by their places (``dataset/scene``), ``wanted`` frames of each.

    ``once``: frames are given when a video is first asked for and none after that, so that memory
    holds those of one.
    """

    archives: Archives
    wanted: int
    limits: Limits = field(default_factory=Limits)
    once: bool = False
    _known: dict[str, tuple[bytes, ...]] = field(default_factory=dict, repr=False)

    def frames(self, place: str, album: Album) -> tuple[bytes, ...]:
        """Encoded and checked pictures, evenly spaced, in order.

        Raises Problem for a video that is missing or cannot be used, ConfigError where it would
        have to be decoded and PyAV is not installed.
        """
        if (known := self._known.get(place)) is not None:
            return known
        found = album.load(self._cells(place, album), f"video {place}")
        self._known[place] = () if self.once else found
        return found

    def _cells(self, place: str, album: Album) -> list[object]:
        folder = (album.root / place).resolve()
        if not folder.is_relative_to(album.root):
            raise Problem("image path", f"video {place}: leaves the dataset's folder")
        if beside := _pictures_in(folder):
            return [f"{place}/{beside[i].name}" for i in evenly(len(beside), self.wanted)]
        packed = [n for n in self.archives.names(place) if Path(n).suffix.lower() in _PICTURES]
        if packed:
            chosen = [packed[i] for i in evenly(len(packed), self.wanted)]
            return [{"bytes": self.archives.read(name, f"video {place}")} for name in chosen]
        return list(self._decoded(f"{place}.mp4", album))

    def _decoded(self, name: str, album: Album) -> list[bytes]:
        label = f"video {name}"
        with ExitStack() as stack:
            file = self._opened(name, label, album, stack)
            if importlib.util.find_spec("av") is None:
                raise ConfigError(
                    f"{label}: no decoder is installed; install M2R with its extra video, or write "
                    f"its frames as {name.removesuffix('.mp4')}/*.jpg"
                )
            return decode_video(file, label, self.wanted, self.limits)

    def _opened(self, name: str, label: str, album: Album, stack: ExitStack) -> BinaryIO:
        path = (album.root / name).resolve()
        if not path.is_relative_to(album.root):
            raise Problem("image path", f"{label}: leaves the dataset's folder")
        if path.is_file():  # no pipe and no device
            if path.stat().st_size > self.limits.file:
                raise _too_large(label, path.stat().st_size)
            return stack.enter_context(path.open("rb"))
        copy: BinaryIO = stack.enter_context(TemporaryFile())  # noqa: SIM115 - the stack is one
        if not self.archives.copy(name, label, copy, self.limits.file):
            raise Problem(
                "image missing",
                f"{label}: neither the file nor its frames {name.removesuffix('.mp4')}/*.jpg are "
                "there, nor in a ZIP archive; copy the benchmark again",
            )
        copy.seek(0)
        return copy


def decode_video(file: BinaryIO, label: str, wanted: int, limits: Limits) -> list[bytes]:
    """``wanted`` evenly spaced frames of an open video file, as JPEG; all of a shorter one.

    Its decoder is a process that is killed when its time is up. Raises Problem.
    """
    command = [
        *(sys.executable, "-m", "m2r_train.data.videoworker"),
        *("--frames", str(wanted)),
        *("--most-pixels", str(limits.pixels)),
        *("--most-frames", str(limits.frames)),
        *("--memory", str(limits.memory)),
        *("--seconds", str(max(1, round(limits.seconds * _THREADS)))),
    ]
    try:
        done = subprocess.run(
            command, stdin=file, capture_output=True, timeout=limits.seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise Problem(
            "image broken",
            f"{label}: not decoded within {limits.seconds:g} s; encode it again, or write its "
            "frames",
        ) from None
    if done.returncode == BAD_VIDEO:
        raise Problem("image broken", f"{label}: {_last_line(done.stderr)}")
    if done.returncode != 0:
        raise Problem(
            "image broken",
            f"{label}: its decoder ended with {done.returncode} ({_last_line(done.stderr)}); "
            "encode it again, or write its frames",
        )
    return _unpacked(done.stdout)


_THREADS = 4  # of a decoder: their CPU time adds up


def _unpacked(stream: bytes) -> list[bytes]:
    """The frames of a worker's output: length (4 bytes, big-endian), bytes."""
    frames, start = [], 0
    while start < len(stream):
        end = start + 4 + int.from_bytes(stream[start : start + 4], "big")
        frames.append(stream[start + 4 : end])
        start = end
    return frames


def _last_line(said: bytes) -> str:
    lines = said.decode("utf-8", "replace").split("\n")
    told = next((line for line in reversed(lines) if line.strip()), "it said nothing")
    return "".join(c for c in told if c.isprintable())[:200]


def _too_large(label: str, size: int) -> Problem:
    return Problem("image too large", f"{label}: {size / 2**20:.0f} MiB file; make it smaller")


def _pictures_in(folder: Path) -> Sequence[Path]:
    if not folder.is_dir():
        return []
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in _PICTURES)
