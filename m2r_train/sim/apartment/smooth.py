"""Pictures with smooth edges: painted at twice the size and averaged down.

Most blocks of 2 x 2 pixels show one colour. So colours are painted by number, a byte each, and only
blocks that show several are averaged; where there are more colours than a byte tells apart, all
blocks are. Both give the same picture.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from m2r_train.sim.apartment.painter import MOST_BYTES, Shot, fill, inks_of, picture

_LANES = np.dtype("<u2")  # a channel of a sum of four colours; four of them are one "<u8"


def smooth_picture(shot: Shot) -> Image.Image:
    """``picture`` of a shot at twice the size, averaged down to its own (RGB or RGBX)."""
    large = shot.sized(2 * shot.size)
    inks, numbers = np.unique(inks_of(large), return_inverse=True)
    if len(inks) > MOST_BYTES:
        return picture(large).reduce(2)
    canvas = Image.new("L", (large.size, large.size))
    fill(canvas, large, large.sequence, (numbers + 1).tolist())
    inks = np.concatenate([np.zeros(1, dtype="<u4"), inks])
    pixels = _averaged(np.asarray(canvas), inks)
    return Image.frombuffer("RGBX", (shot.size, shot.size), pixels, "raw", "RGBX", 0, 1)


def _averaged(
    numbers: npt.NDArray[np.uint8], inks: npt.NDArray[np.uint32]
) -> npt.NDArray[np.uint32]:
    """(s, s) packed colours of (2 s, 2 s) numbers, rounded as ``Image.reduce`` does."""
    pairs = numbers.view("<u2")  # left + 256 * right
    upper, lower = pairs[0::2], pairs[1::2]
    left = upper & 255
    several = np.flatnonzero((upper != lower) | (left != upper >> 8))
    pixels: npt.NDArray[np.uint32] = inks.take(left)
    channels = inks.view(np.uint8).astype(_LANES).view("<u8")
    one, two = upper.ravel()[several], lower.ravel()[several]
    total = channels[one & 255] + channels[one >> 8] + channels[two & 255] + channels[two >> 8]
    mean = (total.view(_LANES) + 2) >> 2
    pixels.ravel()[several] = mean.astype(np.uint8).view("<u4")
    return pixels
