"""Near-duplicates among many texts: MinHash with banding, then the exact similarity.

The similarity of two texts is that of their sets of word runs (Jaccard: common / all, 0..1). A
set's signature is the least value of each of a family of hash functions over its members; two
signatures agree in a position with a probability of just that similarity (Broder 1997), so that
texts which share a whole band of positions are worth comparing. The functions are fixed: the same
texts in the same order have the same near-duplicates on every machine.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from m2r_train.core.rng import derive_seed

BANDS = 10
ROWS = 4
"""At a similarity of 0.8 a pair shares a band with probability 1 - (1 - 0.8^4)^10 = 0.995."""

_MULTIPLIERS = np.array(
    [derive_seed(0, "minhash", "multiplier", k) * 2 + 1 for k in range(BANDS * ROWS)], np.uint64
)
_OFFSETS = np.array(
    [derive_seed(0, "minhash", "offset", k) for k in range(BANDS * ROWS)], np.uint64
)
_BAND_MULTIPLIERS = np.array(
    [
        [derive_seed(0, "minhash", "band", b, k) * 2 + 1 for k in range(ROWS // 2)]
        for b in range(BANDS)
    ],
    np.uint64,
)

_NONE = -1  # no entry
_FIRST_SLOTS = 1024  # a power of two


def signature(members: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """(BANDS * ROWS,) least hash of the (N,) members, N >= 1, under each function."""
    mixed = members[None, :] * _MULTIPLIERS[:, None] + _OFFSETS[:, None]
    least: NDArray[np.uint32] = (mixed >> np.uint64(32)).min(axis=1).astype(np.uint32)
    return least


def similarity(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    """Jaccard similarity of two sets, each sorted and without repetition."""
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / (len(one) + len(other) - common)


class NearIndex:
    """The different sets seen so far, numbered 0, 1, ...; finds those that a set is near to.

    Memory: 8 bytes a member, and some 150 a set; a set that comes again costs nothing.
    """

    def __init__(self, at_least: float) -> None:
        self._at_least = at_least
        self._members = array("Q")  # of one set after another
        self._ends = array("Q", [0])
        self._bands = _Entries()  # number BANDS * k + b is band b of set k

    def near(self, members: set[int]) -> list[int]:
        """The numbers of the sets this similar, an equal one included, in order."""
        mine = np.array(sorted(members), np.uint64)
        found = {entry // BANDS for key in _keys(mine) for entry in self._bands.of(key)}
        return sorted(k for k in found if similarity(mine, self._set(k)) >= self._at_least)

    def add(self, members: set[int]) -> int:
        """Remember a set, at least one member large; its number, the old one if it was there."""
        mine = np.array(sorted(members), np.uint64)
        keys = _keys(mine)
        for entry in self._bands.of(keys[0]):
            if np.array_equal(self._set(entry // BANDS), mine):
                return entry // BANDS
        self._members.frombytes(mine.tobytes())
        self._ends.append(len(self._members))
        self._bands.add(keys)
        return len(self._ends) - 2

    def _set(self, k: int) -> NDArray[np.uint64]:
        return np.frombuffer(self._members[self._ends[k] : self._ends[k + 1]], np.uint64)


class _Entries:
    """Entries 0, 1, ... under keys of 32 bits, any number under each; 12 to 16 bytes an entry.

    A hash table whose slots name their last entry, and each entry the one before it: objects of
    Python's own would cost twenty times that.
    """

    def __init__(self) -> None:
        self._keys, self._before = array("I"), array("i")
        self._last = np.full(_FIRST_SLOTS, _NONE, np.int32)

    def of(self, key: int) -> Iterator[int]:
        """The entries under a key, the last one first."""
        entry = int(self._last[key & (len(self._last) - 1)])
        while entry != _NONE:
            if self._keys[entry] == key:
                yield entry
            entry = self._before[entry]

    def add(self, keys: Sequence[int]) -> None:
        """The next entries, one under each key."""
        first = len(self._keys)
        self._keys.extend(keys)
        self._before.extend([_NONE] * len(keys))
        if len(self._keys) > len(self._last):
            self._last = np.full(2 * len(self._last), _NONE, np.int32)
            first = 0
        slots = len(self._last) - 1
        for entry in range(first, len(self._keys)):
            slot = self._keys[entry] & slots
            self._before[entry] = self._last[slot]
            self._last[slot] = entry


def _keys(members: NDArray[np.uint64]) -> list[int]:
    """A key of 32 bits for each band. Those of different bands are seldom equal (multiply-shift),
    and sets that share one are compared.
    """
    halves = signature(members).view(np.uint64).reshape(BANDS, ROWS // 2)
    mixed = (halves * _BAND_MULTIPLIERS).sum(axis=1, dtype=np.uint64)
    keys: list[int] = (mixed >> np.uint64(32)).tolist()
    return keys
