"""The pictures of a user's record: paths inside the dataset folder, or bytes; nothing else.

A dataset is data of strangers, and a path in it is an instruction to read a file. So a path may
name only regular files inside the dataset's own folder, after links are followed, and an address
on the network is never fetched.
"""

from __future__ import annotations

import base64
import binascii
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from m2r_train.data.images import MAX_PIXELS, BadImage, ImageTooLarge, decode
from m2r_train.data.problem import Problem

MAX_FILE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Album:
    """Where the pictures of one data file are looked up: beside the file, then in ``root``.

    Both are resolved folders, ``beside`` inside ``root``; nothing outside ``root`` is ever read.
    ``pool`` holds every picture that passed: many questions share a scene, which is then checked
    once and held in memory once.
    """

    root: Path
    beside: Path
    max_pixels: int = MAX_PIXELS
    pool: dict[bytes, bytes] = field(default_factory=dict, repr=False)

    def load(self, cell: object, name: str) -> tuple[bytes, ...]:
        """Encoded and checked pictures of a cell: one picture, a list of them, or None.

        A picture is a relative path, bytes, or ``{"bytes": ..., "path": ...}`` with bytes or their
        base64 text (Hugging Face's image struct). ``name`` is the column, for the messages.

        Raises:
            Problem: any picture that cannot be used.
        """
        if cell is None:
            return ()
        pictures = list(cell) if isinstance(cell, list | tuple) else [cell]
        return tuple(self._picture(picture, name) for picture in pictures)

    def has(self, path: str) -> bool:
        """Whether a file of this relative path is there, whatever it is."""
        if "\0" in path:
            return False
        try:
            return any((folder / path).exists() for folder in (self.beside, self.root))
        except OSError:  # a name too long
            return False

    def _picture(self, cell: object, name: str) -> bytes:
        label = name
        path = None
        if isinstance(cell, Mapping):
            path, cell = cell.get("path"), cell.get("bytes")
            cell = _from_base64(cell, name) if isinstance(cell, str) else cell
        elif isinstance(cell, str):
            path, cell = cell, None
        if cell is None and isinstance(path, str):
            label = f"{name} {path[:120] if path[:120].isprintable() else ascii(path[:120])}"
            cell = self._read(path, label)
        if not isinstance(cell, bytes):
            raise Problem(
                "bad field", f'{name}: not a path, bytes or {{"bytes": ...}} but {_kind(cell)}'
            )
        if (known := self.pool.get(cell)) is not None:
            return known
        if len(cell) > MAX_FILE_BYTES:
            raise Problem("image too large", f"{label}: {len(cell) / 2**20:.0f} MiB file")
        try:
            decode(cell, max_pixels=self.max_pixels)
        except ImageTooLarge as error:
            raise Problem("image too large", f"{label}: {error}") from error
        except BadImage as error:
            raise Problem("image broken", f"{label}: {error}") from error
        self.pool[cell] = cell
        return cell

    def _read(self, path: str, label: str) -> bytes:
        file = self._locate(path, label)
        try:
            status = file.stat()
            if not stat.S_ISREG(status.st_mode):  # a pipe or device would block or never end
                raise Problem("image path", f"{label}: not a regular file")
            if status.st_size > MAX_FILE_BYTES:
                raise Problem("image too large", f"{label}: {status.st_size / 2**20:.0f} MiB file")
            return file.read_bytes()
        except OSError as error:
            raise Problem("image missing", f"{label}: {error.strerror}") from error

    def _locate(self, path: str, label: str) -> Path:
        """The file that a path names, links followed, inside ``root`` for certain."""
        if "://" in path or path.startswith("data:"):
            raise Problem("image path", f"{label}: an address; put the file into the folder")
        if not path or "\0" in path:
            raise Problem("image path", f"{label}: not a path")
        windows = PureWindowsPath(path)
        if PurePosixPath(path).is_absolute() or windows.drive or windows.root:
            raise Problem("image path", f"{label}: absolute path; make it relative to the dataset")
        if ".." in windows.parts:  # splits at both kinds of slash
            raise Problem("image path", f"{label}: `..` is not allowed")
        for folder in dict.fromkeys((self.beside, self.root)):
            try:
                file = (folder / path).resolve(strict=True)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, RuntimeError, ValueError) as error:
                # A loop of links, a name too long, half of a surrogate pair.
                raise Problem("image path", f"{label}: cannot be resolved") from error
            if not file.is_relative_to(self.root):
                raise Problem("image path", f"{label}: a link that leaves the dataset folder")
            return file
        raise Problem("image missing", f"{label}: no such file")


def _from_base64(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem("image broken", f"{name}: bytes are not valid base64") from error


def _kind(cell: object) -> str:
    return "null" if cell is None else type(cell).__name__
