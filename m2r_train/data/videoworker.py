"""Frames of one video, decoded in a process of its own: ``python -m m2r_train.data.videoworker``.

A video is data of strangers, and its decoder a large C library that may crash or not end. So the
video comes as the open file 0 (no name, no address: nothing that it says can open another file),
frames leave as ``length (4 bytes, big-endian), JPEG`` on file 1, and what is wrong with it as one
line on file 2, with exit code `BAD_VIDEO`. The process caps its own memory and CPU time before it
reads a byte; the clock is its parent's business (`data.videos`). PyAV is imported here alone.
"""

from __future__ import annotations

import argparse
import io
import resource
import sys
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO

from m2r_train.data.spacing import evenly

BAD_VIDEO = 65

_DEMUXER = "mp4"  # and nothing else: a playlist that calls itself .mp4 names other files to open
_CODECS = frozenset({"h264", "hevc", "mpeg4", "vp9", "av1"})
_QUALITY = 95  # a video's frames are lossy already; PNG would need five times the memory
_THREADS = 4


class BadVideo(ValueError):  # noqa: N818 - becomes one line for whoever made the video
    """Why a video cannot be used; the message is one line without its name."""


def chosen_frames(
    file: BinaryIO, wanted: int, *, most_pixels: int, most_frames: int
) -> list[bytes]:
    """``wanted`` frames as JPEG, evenly spaced from the first to the last one; all of a shorter
    video.

    Frames are counted by their packets. Where the decoder makes another number of them (edit
    lists, a damaged end) the choice is made once more, for that number. Raises BadVideo.
    """
    from av import FFmpegError  # noqa: PLC0415 - after the limits are set

    try:
        count = _packets(file, most_frames)
        pictures, decoded = _pictures(file, evenly(count, wanted), most_pixels, most_frames)
        if decoded != count:
            pictures, _ = _pictures(file, evenly(decoded, wanted), most_pixels, most_frames)
    except (FFmpegError, OSError) as error:
        raise BadVideo(f"cannot be decoded ({_one_line(error)}); copy it again") from None
    if not pictures:
        raise BadVideo("has no frame; copy it again")
    return pictures


def _packets(file: BinaryIO, most: int) -> int:
    """How many frames the file has by its own account: none is decoded."""
    count = 0
    with _opened(file) as container:
        for packet in container.demux(_stream(container)):
            count += packet.size > 0
            _check_count(count, most)
    return count


def _pictures(
    file: BinaryIO, places: Collection[int], most_pixels: int, most_frames: int
) -> tuple[list[bytes], int]:
    """The frames at ``places``, in order, and how many frames there are in all."""
    chosen = set(places)
    pictures = []
    count = 0
    for frame in _decoded(file, most_pixels):
        if count in chosen:
            pictures.append(_jpeg(frame))
        count += 1
        _check_count(count, most_frames)
    return pictures, count


def _decoded(file: BinaryIO, most_pixels: int) -> Iterator[Any]:
    with _opened(file) as container:
        stream = _stream(container)
        codec = stream.codec_context
        _check_size(codec.width, codec.height, most_pixels)
        codec.thread_count = _THREADS
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            _check_size(frame.width, frame.height, most_pixels)  # it may change on the way
            yield frame


def _opened(file: BinaryIO) -> Any:
    import av  # noqa: PLC0415

    file.seek(0)
    return av.open(file, mode="r", format=_DEMUXER)


def _stream(container: Any) -> Any:
    if not container.streams.video:
        raise BadVideo("has no pictures, only sound or nothing; copy it again")
    stream = container.streams.video[0]
    if (name := stream.codec_context.codec.canonical_name) not in _CODECS:
        raise BadVideo(f"is coded as {name[:40]}; encode it again as H.264")
    return stream


def _jpeg(frame: Any) -> bytes:
    out = io.BytesIO()
    frame.to_image().save(out, "JPEG", quality=_QUALITY, subsampling=0)
    return out.getvalue()


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise BadVideo(f"has more than {most} frames; give a shorter one")


def _check_size(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise BadVideo(f"has {width} x {height} pixels, of which {most} may be; make it smaller")


def _one_line(error: BaseException) -> str:
    said = getattr(error, "strerror", None) or str(error)
    return " ".join(said.split())[:160] or type(error).__name__


def _limit(memory: int, seconds: int) -> None:
    """Bytes of address space and seconds of CPU time: a parent that is killed leaves none behind
    that runs for ever.
    """
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(arguments: list[str]) -> int:
    """The command line; all limits come from the parent."""
    parser = argparse.ArgumentParser(prog="videoworker")
    for name in ("frames", "most-pixels", "most-frames", "memory", "seconds"):
        parser.add_argument(f"--{name}", type=int, required=True)
    asked = parser.parse_args(arguments)
    _limit(asked.memory, asked.seconds)
    try:
        frames = chosen_frames(
            sys.stdin.buffer,
            asked.frames,
            most_pixels=asked.most_pixels,
            most_frames=asked.most_frames,
        )
    except BadVideo as error:
        print(error, file=sys.stderr)  # noqa: T201 - read by the parent
        return BAD_VIDEO
    except MemoryError:
        print("needs too much memory; make it smaller", file=sys.stderr)  # noqa: T201
        return BAD_VIDEO
    for frame in frames:
        sys.stdout.buffer.write(len(frame).to_bytes(4, "big") + frame)
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
