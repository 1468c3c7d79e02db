"""Foreign bytes become an upright RGB picture, or one line that says why not."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from unit.data.photos import (
    NAMES,
    encoded,
    jpeg_that_claims,
    photo_file,
    photograph,
    png_header,
    png_of_zeros,
    webp_that_claims,
)

from m2r_train.api.errors import DataError
from m2r_train.data.images import BadImage, ImageTooLarge, decode


def difference(a: Image.Image, b: Image.Image) -> float:
    """Mean absolute difference of two RGB pictures, 0..255."""
    assert a.mode == b.mode == "RGB"
    assert a.size == b.size
    return float(np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).mean())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0.0),
        ("WEBP", {"lossless": True}, 0.0),
        ("WEBP", {"quality": 90}, 6.0),
        ("JPEG", {"quality": 95}, 4.0),
        ("JPEG", {"quality": 95, "progressive": True}, 4.0),
    ],
)
def test_a_real_photograph_decodes_to_its_pixels(name, kind, options, tolerance):
    image = photograph(name)
    assert difference(decode(encoded(image, kind, **options)), image) <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_rotated_photograph_comes_upright(orientation, kind):
    upright = photograph("coffee")
    # The camera's sensor sees the scene turned; each tag's inverse undoes the viewer's turn.
    inverse = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = upright if inverse is None else upright.transpose(inverse)
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    image = decode(encoded(stored, kind, exif=exif, **options))
    assert difference(image, upright) < 5


def test_a_photograph_with_broken_exif_is_still_a_photograph():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = photo_file("rocket", "JPEG", exif=exif)
    at = data.index(b"Exif\0\0")
    broken = data[: at + 6] + b"MM\0*\xff\xff\xff\xff" + data[at + 14 :]
    assert decode(broken).size == photograph("rocket").size


def test_transparent_diagrams_are_seen_on_white_paper():
    drawing = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    drawing.paste((0, 0, 0, 255), (10, 10, 20, 20))
    for kind in ("PNG", "WEBP"):
        image = decode(encoded(drawing, kind, **({"lossless": True} if kind == "WEBP" else {})))
        assert image.getpixel((0, 0)) == (255, 255, 255)
        assert image.getpixel((15, 15)) == (0, 0, 0)


@pytest.mark.parametrize("mode", ["LA", "P", "L", "RGB"])
def test_every_kind_of_transparency_is_seen_on_white_paper(mode):
    if mode == "LA":
        data = encoded(Image.new("LA", (40, 40), (0, 0)))
    else:  # one value declared transparent (a PNG's tRNS chunk)
        clear = {"P": 0, "L": 0, "RGB": (0, 0, 0)}[mode]
        data = encoded(Image.new(mode, (40, 40), 0), transparency=clear)
    assert decode(data).getpixel((0, 0)) == (255, 255, 255)


def test_half_transparent_red_over_white_is_pink():
    data = encoded(Image.new("RGBA", (30, 30), (255, 0, 0, 128)))
    red, green, blue = decode(data).getpixel((5, 5))
    assert red == 255
    assert green == blue == 127


def test_sixteen_bit_greys_are_scaled_not_clipped():
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16)[None, :].repeat(16, axis=0)
    image = np.asarray(decode(encoded(Image.fromarray(ramp))))
    np.testing.assert_array_equal(image[0, :, 0], np.round(ramp[0] / 257).astype(np.uint8))
    np.testing.assert_array_equal(image[..., 0], image[..., 2])


def test_cmyk_grey_bilevel_and_palette_pictures_keep_their_colours():
    photo = photograph("astronaut")
    assert difference(decode(encoded(photo.convert("CMYK"), "JPEG", quality=95)), photo) < 6
    assert difference(decode(encoded(photo.quantize(256))), photo) < 12
    grey = photo.convert("L")
    assert difference(decode(encoded(grey)), grey.convert("RGB")) == 0
    bilevel = photo.convert("1")
    assert difference(decode(encoded(bilevel)), bilevel.convert("RGB")) == 0


def test_of_a_phones_multi_picture_jpeg_the_first_is_taken():
    first, second = photograph("chelsea"), photograph("chelsea").rotate(180)
    data = encoded(first, "MPO", save_all=True, append_images=[second], quality=95)
    assert difference(decode(data), first) < 4


@pytest.mark.parametrize(("kind", "word"), [("PNG", "PNG"), ("WEBP", "WEBP")])
def test_an_animation_is_refused_and_told_to_be_a_video(kind, word):
    frames = [photograph("chelsea"), photograph("chelsea").rotate(180)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(BadImage, match=f"animated {word}: give its frames as `video`"):
        decode(data)


def other_format(kind: str) -> bytes:
    return encoded(photograph("coffee"), kind)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (other_format("GIF"), "a GIF"),
        (other_format("TIFF"), "a TIFF"),
        (other_format("BMP"), "a BMP"),
        (other_format("PDF"), "a PDF"),
        (other_format("AVIF"), "a HEIC, AVIF or video file"),
        (other_format("ICO"), "no known picture format"),
        (other_format("PPM"), "no known picture format"),
        (other_format("TGA"), "no known picture format"),
        (other_format("JPEG2000"), "no known picture format"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "a SVG"),
        (b'<?xml version="1.0"?><svg/>', "a XML or SVG file"),
        (b"<!DOCTYPE html><title>404</title>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x89PNG\r\n\x1a\n", "a PNG whose header is broken"),
        (b"\xff\xd8\xff\xe0", "a JPEG whose header is broken"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "no known picture format"),
        (b"hello", "no known picture format"),
        (b"", "empty file"),
    ],
)
def test_any_other_file_is_refused_with_what_it_seems_to_be(data, reason):
    with pytest.raises(BadImage, match=re.escape(reason)) as caught:
        decode(data)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, DataError)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.98])
def test_a_truncated_file_is_an_error_at_any_length(kind, share):
    data = photo_file("astronaut", kind)
    with pytest.raises(BadImage):
        decode(data[: int(len(data) * share)])


def test_a_png_that_goes_wrong_between_its_parts_is_an_error():
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise))
    second = data.index(b"IDAT", data.index(b"IDAT") + 4)
    with pytest.raises(BadImage, match="broken PNG"):
        decode(data[:second] + b"\x01\x02\x03\x04" + data[second + 4 :])


@pytest.mark.parametrize(
    "data",
    [
        png_of_zeros(13000, 13000),
        png_header(60000, 60000),
        png_header(2**31 - 1, 2**31 - 1),
        jpeg_that_claims(13000, 13000),
        jpeg_that_claims(65535, 65535),
        webp_that_claims(16383, 16383),
        webp_that_claims(8000, 8000),
        jpeg_that_claims(8000, 8000),
    ],
    ids=["png", "png-header", "png-max", "jpeg", "jpeg-max", "webp-max", "webp", "jpeg-small"],
)
def test_a_bomb_is_refused_by_its_header(data):
    with pytest.raises(ImageTooLarge):
        decode(data)


def test_a_bomb_is_refused_by_its_header_when_warnings_are_off():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ImageTooLarge, match="13000 x 13000 pixels"):
            decode(png_of_zeros(13000, 13000))


def test_pillows_own_limit_holds_where_the_caller_allows_more():
    with pytest.raises(ImageTooLarge, match="decompression bomb"):
        decode(jpeg_that_claims(13000, 13000), max_pixels=10**9)


def test_the_limit_is_the_callers_and_counts_pixels():
    data = photo_file("chelsea", "PNG")
    width, height = photograph("chelsea").size
    assert decode(data, max_pixels=width * height).size == (width, height)
    with pytest.raises(ImageTooLarge, match=f"{width} x {height} pixels: more than"):
        decode(data, max_pixels=width * height - 1)


def test_a_strip_that_the_models_processor_would_raise_on_is_refused():
    assert decode(encoded(Image.new("RGB", (2000, 10)))).size == (2000, 10)
    with pytest.raises(ImageTooLarge, match="one side over 200 times the other"):
        decode(encoded(Image.new("RGB", (2001, 10))))


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and /proc are Linux")
def test_bombs_fit_into_a_small_address_space(tmp_path):
    """48 MiB on top of what the imports take; one 13000 x 13000 picture in RGB is 645 MiB."""
    bombs = {
        "png": png_of_zeros(13000, 13000),
        "png_header": png_header(60000, 60000),
        "jpeg": jpeg_that_claims(13000, 13000),
        "webp": webp_that_claims(16383, 16383),
        "webp_below_pillows_own_limit": webp_that_claims(13000, 13000),
    }
    for name, data in bombs.items():
        assert len(data) < 64 * 1024
        (tmp_path / name).write_bytes(data)
    script = textwrap.dedent("""
        import pathlib, resource, sys
        from m2r_train.data.images import BadImage, decode
        from PIL import Image
        Image.init()
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 48 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
            try:
                decode(path.read_bytes())
            except BadImage:
                continue
            sys.exit(f"{path.name} was decoded")
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 16 * 1024, "KiB of memory more than before the bombs"


@settings(deadline=None, max_examples=150)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "WEBP", "MPO"]),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
    head=st.booleans(),
)
def test_damaged_bytes_give_a_picture_or_a_bad_image_and_nothing_else(kind, edits, head):
    options = {"save_all": True, "append_images": [photograph("rocket")]} if kind == "MPO" else {}
    data = bytearray(photo_file("chelsea", kind, **options))
    span = min(len(data), 200) if head else len(data)
    for place, value in edits:
        data[int(place * (span - 1))] = value
    try:
        assert decode(bytes(data)).mode == "RGB"
    except BadImage as error:
        assert "\n" not in str(error)


def test_a_wrong_extension_or_pillow_plugin_never_matters_only_content_does():
    Image.init()  # all plugins of this Pillow are on, as in a process that imported others
    assert Image.open(BytesIO(other_format("GIF"))).format == "GIF"
    with pytest.raises(BadImage):
        decode(other_format("GIF"))


def test_threads_open_one_at_a_time_as_the_warning_filters_are_the_processes(monkeypatch):
    inside, most = [], []
    real_open = Image.open

    def watched_open(*args, **kwargs):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.002)
        image = real_open(*args, **kwargs)
        inside.pop()
        return image

    monkeypatch.setattr(Image, "open", watched_open)
    before, data, sizes = list(warnings.filters), photo_file("coffee", "JPEG"), []

    def work() -> None:
        sizes.extend(decode(data).size for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [photograph("coffee").size] * 20
    assert max(most) == 1
    assert warnings.filters == before
