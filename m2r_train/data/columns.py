"""Columns of texts, and a set of ids, at a few bytes an entry.

A Python string takes fifty bytes before its first letter, an entry of a dictionary a hundred: for
millions of samples these are what fills the memory.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray


class Texts(Sequence[str]):
    """Short texts behind each other in one block: their UTF-8 bytes and twelve more each.

    What `pick` gives shares the block.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._block = bytearray()
        self._begins = array("q")
        self._sizes = array("I")
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """The next one."""
        data = text.encode("utf-8", "surrogatepass")
        self._begins.append(len(self._block))
        self._sizes.append(len(data))
        self._block += data

    def pick(self, rows: NDArray[np.int64]) -> Texts:
        """Those rows, in that order."""
        picked = Texts()
        picked._block = self._block
        picked._begins = array("q", np.frombuffer(self._begins, np.int64)[rows].tobytes())
        picked._sizes = array("I", np.frombuffer(self._sizes, np.uint32)[rows].tobytes())
        return picked

    def __len__(self) -> int:
        return len(self._begins)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[k] for k in range(*row.indices(len(self)))]
        begin = self._begins[row]
        return self._block[begin : begin + self._sizes[row]].decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        return (self[row] for row in range(len(self)))


class Names(Sequence[str]):
    """A column of few different texts: four bytes an entry."""

    def __init__(self) -> None:
        self._codes = array("I")
        self._names: list[str] = []
        self._known: dict[str, int] = {}

    def append(self, name: str) -> None:
        """The next one."""
        code = self._known.setdefault(name, len(self._names))
        if code == len(self._names):
            self._names.append(name)
        self._codes.append(code)

    def among(self, wanted: Iterable[str]) -> NDArray[np.bool_]:
        """(n,) whether each entry is one of these."""
        names = set(wanted)
        flags = np.array([name in names for name in self._names], bool)
        return flags[np.frombuffer(self._codes, np.uint32)]

    def pick(self, rows: NDArray[np.int64]) -> Names:
        """Those rows, in that order; shares the names."""
        picked = Names()
        picked._names, picked._known = self._names, self._known
        picked._codes = array("I", np.frombuffer(self._codes, np.uint32)[rows].tobytes())
        return picked

    def __len__(self) -> int:
        return len(self._codes)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self._names[code] for code in self._codes[row]]
        return self._names[self._codes[row]]


class Places:
    """Where each id was met first: a hash table with open addressing, 16 bytes a slot.

    Ids are told apart by 64-bit hashes: among ten million, two of them are taken for one with a
    probability of three in a million.
    """

    _LEAST = 1024

    def __init__(self) -> None:
        self._n = 0
        self._keys = array("Q", bytes(8 * self._LEAST))  # 0: free
        self._values = array("Q", bytes(8 * self._LEAST))

    def __len__(self) -> int:
        return self._n

    def first(self, text: str, place: int) -> int | None:
        """The place at which this id was met before; None for a new one, which is now there."""
        key = (
            int.from_bytes(
                hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(),
                "little",
            )
            or 1
        )
        slot = self._slot(key)
        if self._keys[slot]:
            return self._values[slot]
        self._keys[slot], self._values[slot] = key, place
        self._n += 1
        if 3 * self._n > 2 * len(self._keys):
            self._grow()
        return None

    def _slot(self, key: int) -> int:
        mask = len(self._keys) - 1
        slot = key & mask
        while self._keys[slot] not in (0, key):
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        keys, values = self._keys, self._values
        self._keys = array("Q", bytes(16 * len(keys)))
        self._values = array("Q", bytes(16 * len(keys)))
        for key, value in zip(keys, values, strict=True):
            if key:
                slot = self._slot(key)
                self._keys[slot], self._values[slot] = key, value
