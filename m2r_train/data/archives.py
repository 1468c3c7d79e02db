"""Pictures inside the ZIP archives of a dataset, read one by one and never unpacked.

An archive is data of strangers: members are found by their whole name, in memory, so no name can
lead out of the folder; what a member says of its size is held against a limit before and while it
is read, so a bomb costs no more than one picture.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO

from m2r_train.data.media import MAX_FILE_BYTES
from m2r_train.data.problem import Problem

MAX_MEMBERS = 2_000_000
_PART_BYTES = 2**20


@dataclass(slots=True)
class Archives:
    """The members of all ``.zip`` files of a folder, by name; the first file that has one counts.

    A member is found by its name, or without its first folder: archives of ``images`` come with
    that folder and without it.
    """

    root: Path
    _members: dict[str, tuple[Path, str]] | None = field(default=None, repr=False)
    _folders: dict[str, list[str]] | None = field(default=None, repr=False)
    _open: dict[Path, zipfile.ZipFile] = field(default_factory=dict, repr=False)

    def names(self, folder: str) -> list[str]:
        """Members directly inside ``folder``, in the order of their names."""
        if self._folders is None:
            self._folders = {}
            for name in sorted(self._index()):
                self._folders.setdefault(name.rpartition("/")[0], []).append(name)
        return self._folders.get(folder.rstrip("/"), [])

    def read(self, name: str, label: str) -> bytes | None:
        """A member's bytes; None where there is none of that name.

        Raises:
            Problem: it is encrypted, damaged or too large.
        """
        found = io.BytesIO()
        return found.getvalue() if self.copy(name, label, found, MAX_FILE_BYTES) else None

    def copy(self, name: str, label: str, to: BinaryIO, most: int) -> bool:
        """Write a member of at most ``most`` bytes to a file; False where none has that name.

        Raises:
            Problem: as ``read``.
        """
        place = self._index().get(name)
        if place is None:
            return False
        file, member = place
        try:
            info = self._archive(file).getinfo(member)
            if info.flag_bits & 1:
                raise Problem("image broken", f"{label}: is encrypted in {file.name}")
            if info.file_size > most:
                raise Problem("image too large", f"{label}: {info.file_size / 2**20:.0f} MiB file")
            with self._archive(file).open(info) as data:
                size = _copied(data, to, most)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, OSError) as error:
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise Problem("image broken", f"{label}: {file.name}: {reason}") from error
        if size > most:
            raise Problem("image too large", f"{label}: more than its archive says")
        return True

    def close(self) -> None:
        """Close the files that were read."""
        for archive in self._open.values():
            archive.close()
        self._open.clear()

    def _index(self) -> dict[str, tuple[Path, str]]:
        if self._members is None:
            self._members = {}
            shorter: dict[str, tuple[Path, str]] = {}
            for file in _files(self.root):
                for name in self._names_of(file):
                    self._members.setdefault(name, (file, name))
                    shorter.setdefault(name.partition("/")[2], (file, name))
                    if len(self._members) > MAX_MEMBERS:
                        raise Problem("image path", f"{file.name}: too many members in archives")
            for name, place in shorter.items():
                if name:
                    self._members.setdefault(name, place)
        return self._members

    def _names_of(self, file: Path) -> list[str]:
        try:
            infos = self._archive(file).infolist()
        except (zipfile.BadZipFile, OSError) as error:
            raise Problem(
                "image broken", f"{file.name}: is no ZIP archive; copy it again"
            ) from error
        return [info.filename for info in infos if not info.is_dir()]

    def _archive(self, file: Path) -> zipfile.ZipFile:
        if file not in self._open:
            self._open[file] = zipfile.ZipFile(file)
        return self._open[file]


def _copied(data: IO[bytes], to: BinaryIO, most: int) -> int:
    """Copy to the end, or until more than ``most`` bytes came; returns how many came."""
    size = 0
    while size <= most and (part := data.read(min(_PART_BYTES, most + 1 - size))):
        to.write(part)
        size += len(part)
    return size


def _files(root: Path) -> list[Path]:
    """The ZIP files of a folder that are inside it, links followed, in order of their path."""
    found = [f for f in root.rglob("*.zip") if f.is_file() and f.resolve().is_relative_to(root)]
    return sorted(found, key=lambda file: file.relative_to(root).as_posix())
