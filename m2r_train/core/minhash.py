"""Near-duplicates among many texts: MinHash with banding, then the exact similarity.

The similarity of two texts is that of their sets of word runs (Jaccard: common / all, 0..1). A
set's signature is the least value of each of a family of hash functions over its members; two
signatures agree in a position with a probability of just that similarity (Broder 1997), so that
texts which share a whole band of positions are worth comparing. The functions are fixed: the same
texts in the same order have the same near-duplicates on every machine.
"""

from __future__ import annotations

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

    Memory: the members at 8 bytes each, and some 100 bytes for each of the `BANDS`; a set that
    comes again costs nothing.
    """

    def __init__(self, at_least: float) -> None:
        self._at_least = at_least
        self._sets: list[NDArray[np.uint64]] = []
        self._numbers: dict[bytes, int] = {}
        self._bands: dict[bytes, list[int]] = {}

    def near(self, members: set[int]) -> list[int]:
        """The numbers of the sets this similar, an equal one included, in order."""
        mine = np.array(sorted(members), np.uint64)
        candidates = {k for band in _keys(mine) for k in self._bands.get(band, ())}
        return sorted(k for k in candidates if similarity(mine, self._sets[k]) >= self._at_least)

    def add(self, members: set[int]) -> int:
        """Remember a set, at least one member large; its number, the old one if it was there."""
        mine = np.array(sorted(members), np.uint64)
        number = self._numbers.setdefault(mine.tobytes(), len(self._sets))
        if number == len(self._sets):
            self._sets.append(mine)
            for band in _keys(mine):
                self._bands.setdefault(band, []).append(number)
        return number


def _keys(members: NDArray[np.uint64]) -> list[bytes]:
    rows = signature(members).reshape(BANDS, ROWS)
    return [band.to_bytes(1, "little") + rows[band].tobytes() for band in range(BANDS)]
