"""Real photographs for the tests: those which scikit-image ships inside its wheel."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from typing import Any

import skimage.data
from PIL import Image

NAMES = ("astronaut", "coffee", "chelsea", "rocket")


@functools.cache
def photograph(name: str = "chelsea", width: int = 120) -> Image.Image:
    """An RGB photograph, made smaller to be quick, at its own aspect ratio."""
    image = Image.fromarray(getattr(skimage.data, name)())
    assert image.mode == "RGB"
    return image.resize((width, round(image.height * width / image.width)))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo_file(name: str = "chelsea", kind: str = "JPEG", **options: Any) -> bytes:
    return encoded(photograph(name), kind, **options)


def png_of_zeros(width: int, height: int) -> bytes:
    """A valid one-bit PNG, all black, made without ever holding its pixels."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND")
    )


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds next to nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(b""))


def jpeg_that_claims(width: int, height: int) -> bytes:
    """A real JPEG whose frame header declares another size."""
    data = bytearray(photo_file("rocket", "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_that_claims(width: int, height: int) -> bytes:
    """A valid WEBP with a huge canvas: an animation whose frames are 120 pixels wide."""
    frames = [photograph("chelsea"), photograph("chelsea").rotate(180)]
    data = bytearray(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    assert data[12:16] == b"VP8X"
    data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


def _chunk(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
