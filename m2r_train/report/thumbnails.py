"""Pictures for a page: small, re-encoded, as data URIs; clips as one strip of frames.

Nothing of the original file reaches the page: no metadata, and no bytes that a browser might take
for something else than pixels.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from PIL import Image

from m2r_train.api.errors import DataError
from m2r_train.data.images import decode

MAX_SIDE = 320
STRIP_FRAMES = 8
STRIP_COLUMNS = 4
_FRAME = (192, 144)  # pixels of a frame, at most
_GAP = 4
_QUALITY = 80


def thumbnail(data: bytes) -> str:
    """A data URI of at most ``MAX_SIDE`` pixels a side; "" for what is no picture."""
    try:
        picture = decode(data)
    except DataError:
        return ""
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    return _uri(picture)


def strip(frames: Sequence[bytes]) -> str:
    """Up to ``STRIP_FRAMES`` frames, evenly spaced, the first and the last among them.

    They stand in rows of ``STRIP_COLUMNS``, as text is read.
    """
    small = []
    for place in evenly(len(frames), STRIP_FRAMES):
        try:
            picture = decode(frames[place])
        except DataError:
            continue
        picture.thumbnail(_FRAME)
        small.append(picture)
    if not small:
        return ""
    across, down = (max(side) + _GAP for side in zip(*(p.size for p in small), strict=True))
    columns = min(STRIP_COLUMNS, len(small))
    rows = -(-len(small) // columns)
    whole = Image.new("RGB", (columns * across - _GAP, rows * down - _GAP), (255, 255, 255))
    for place, picture in enumerate(small):
        row, column = divmod(place, columns)
        whole.paste(picture, (column * across, row * down))
    return _uri(whole)


def evenly(count: int, wanted: int) -> list[int]:
    """Places of ``wanted`` of ``count`` things, from the first to the last; all, if fewer."""
    if count <= wanted:
        return list(range(count))
    return [round(i * (count - 1) / (wanted - 1)) for i in range(wanted)]


def _uri(picture: Image.Image) -> str:
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
