"""A perceptual hash: pictures that look the same have hashes that differ in few bits.

The signs of the low frequencies of a small grey version (the well-known pHash, with 16 x 16
frequencies instead of 8 x 8: line drawings on white differ in little else). A copy that was encoded
again, scaled or trimmed by a few pixels keeps nearly all of them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SIDE = 64  # of the grey version, in pixels
FREQUENCIES = 16  # a side
BITS = FREQUENCIES * FREQUENCIES
WORDS = BITS // 64

Hashes = NDArray[np.uint64]
"""(N, WORDS): one hash a row."""


def picture_hash(grey: NDArray[np.uint8]) -> Hashes | None:
    """The hash of a grey version (SIDE, SIDE) as one row (WORDS,); None for a picture of one tone.

    A blank picture has no features: it would be a copy of every other blank picture.
    """
    values = grey.astype(np.float64)
    if values.std() < 2.0:
        return None
    basis = _cosines()
    spectrum = basis @ values @ basis.T  # (FREQUENCIES, FREQUENCIES)
    flat = spectrum.ravel()
    bits = flat > np.median(flat)
    packed: Hashes = np.packbits(bits).view(">u8").astype(np.uint64)
    return packed


def distances(hashes: Hashes, one: Hashes) -> NDArray[np.int64]:
    """(N,) bits in which each of (N, WORDS) differs from ``one``."""
    differing: NDArray[np.int64] = np.bitwise_count(hashes ^ one).sum(axis=1, dtype=np.int64)
    return differing


@lru_cache(1)
def _cosines() -> NDArray[np.float64]:
    """(FREQUENCIES, SIDE): the cosine transform's rows 1 to 16; row 0 is the tone."""
    k = np.arange(1, FREQUENCIES + 1)[:, None]
    n = np.arange(SIDE)[None, :]
    return np.cos(np.pi * k * (2 * n + 1) / (2 * SIDE))
