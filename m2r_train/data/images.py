"""Encoded picture files to RGB pixels, safely: the one place where foreign bytes become an image.

A picture comes from whoever made the dataset, so the file is distrusted until it is decoded: three
formats only, the size read from the header before any pixel is allocated, Pillow's warnings about
decompression bombs taken as errors, no partial pictures.
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from m2r_train.api.errors import DataError

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 32_000_000
MAX_ASPECT_RATIO = 200
"""Qwen2.5-VL's processor raises on anything longer (``smart_resize`` of transformers)."""

_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FIRST_TURNED_ORIENTATION = 5  # 5 to 8 swap width and height
_PNG_ORIENTATION_MARKS = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")

# What users send by mistake, by the first bytes, to say so instead of "cannot identify".
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG whose header is broken"),
    (b"\xff\xd8\xff", "JPEG whose header is broken"),
    (b"RIFF", "WEBP whose header is broken"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"BM", "BMP"),
    (b"%PDF", "PDF"),
    (b"<svg", "SVG"),
    (b"<?xml", "XML or SVG file"),
    (b"<!DOCTYPE html", "web page"),
    (b"<html", "web page"),
    (b"version https://git-lfs", "Git LFS pointer: run `git lfs pull`"),
)

# Pillow's decoders report broken input through all of these. MemoryError is left out on purpose:
# the size was checked, so running out of memory is the machine's trouble and not the picture's.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

# warnings.catch_warnings swaps a process-wide list: two threads inside it would undo each other.
_warnings_lock = threading.Lock()


class BadImage(DataError):  # noqa: N818 - a kind of record, named like BadRecord
    """A picture that cannot be used; the message is one line without the picture's name."""


class ImageTooLarge(BadImage):
    """More pixels, or a longer shape, than a run takes."""


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The RGB picture of an encoded PNG, JPEG or WEBP file, as a person would see it upright.

    The EXIF orientation is applied. Transparent pixels go over white, as a page would show a
    diagram (Pillow's own conversion shows what lies hidden below, mostly black). 16-bit greys are
    scaled to 8 bits (Pillow's own conversion clips them to white). Of a JPEG with several pictures
    (MPO, from phones and stereo cameras) the first is taken; an animation is refused.

    Memory: nothing of the size of the picture is allocated before its header passed.

    Raises:
        ImageTooLarge: more than ``max_pixels`` pixels, or sides in a ratio above 200.
        BadImage: any other reason why the bytes are no usable picture.
    """
    _check_size(_canvas_size(data), max_pixels)
    image = _open(data)
    _check_size(image.size, max_pixels)
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise BadImage(f"animated {image.format}: give its frames as `video`")
    try:
        image.load()
        rgb = _to_rgb(image)
    except _DECODE_ERRORS as error:
        raise BadImage(f"broken {image.format} file ({_one_line(error)})") from error
    method = _ORIENTATIONS.get(_orientation(image))
    return rgb if method is None else rgb.transpose(method)


def upright_size(data: bytes) -> tuple[int, int]:
    """(width, height) of what ``decode`` makes of a picture that passed it, from its header."""
    image = _open(data)
    width, height = image.size
    if image.format == "PNG" and not any(mark in data for mark in _PNG_ORIENTATION_MARKS):
        return width, height  # to look for an orientation, Pillow would decode the pixels
    turned = _orientation(image) >= _FIRST_TURNED_ORIENTATION
    return (height, width) if turned else (width, height)


def _canvas_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels as a PNG's or WEBP's first 30 bytes declare it, else None.

    Pillow gives a size only after it opened the file, and to open a WEBP allocates two canvases
    (for 16383 x 16383: 2 GiB). JPEG needs no such care: opening it reads markers only.
    """
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return width, height
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    chunk = data[12:16]
    if chunk == b"VP8X":
        return (
            int.from_bytes(data[24:27], "little") + 1,
            int.from_bytes(data[27:30], "little") + 1,
        )
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return None


def _check_size(size: tuple[int, int] | None, max_pixels: int) -> None:
    if size is None:
        return
    width, height = size
    if width < 1 or height < 1:
        raise BadImage(f"{width} x {height} pixels: empty picture")
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"{width} x {height} pixels: more than the {max_pixels / 1e6:g} megapixels allowed"
        )
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise ImageTooLarge(
            f"{width} x {height} pixels: one side over {MAX_ASPECT_RATIO} times the other"
        )


def _open(data: bytes) -> Image.Image:
    """Read the header, no pixels."""
    if not data:
        raise BadImage("empty file")
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks on odd metadata; the pixels are what counts
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            return Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError as error:
            raise BadImage(f"{_describe(data)}; PNG, JPEG and WEBP are read") from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ImageTooLarge(_one_line(error)) from error
        except _DECODE_ERRORS as error:
            raise BadImage(f"broken file ({_one_line(error)})") from error


def _describe(data: bytes) -> str:
    head = data.lstrip()[:32]
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return f"a {name}"
    if data[4:8] == b"ftyp":
        return "a HEIC, AVIF or video file"
    return "no known picture format"


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey: I;16, I;16B; I where Pillow widened it
        grey = (np.asarray(image).astype(np.int64).clip(0, 65535) + 128) // 257
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode in {"LA", "PA", "RGBA"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        paper = Image.new("RGB", image.size, "white")
        paper.paste(rgba, mask=rgba.getchannel("A"))
        return paper
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8 of a loaded picture; 1 when the EXIF block is broken."""
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = image.getexif().get(ExifTags.Base.Orientation, 1)
        except _DECODE_ERRORS:
            return 1
    return value if isinstance(value, int) else 1


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
