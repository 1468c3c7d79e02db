"""Videos of a benchmark: evenly spaced frames, and one line for whatever is wrong with a file."""

from __future__ import annotations

import importlib.util
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from unit.data.films import film, sound
from unit.stages import published

from m2r_train.api.errors import ConfigError, DataError
from m2r_train.data import videos, videoworker
from m2r_train.data.archives import Archives
from m2r_train.data.media import Album
from m2r_train.data.problem import Problem
from m2r_train.data.published import Published, read_published
from m2r_train.data.videos import Limits, decode_video

SHADES = [10 * i for i in range(21)]


def copy(folder: Path, video: bytes | None, packed: bytes | None = None) -> Path:
    """VSI-Bench with one video, as a file or in an archive."""
    published.vsi_bench(folder)
    for frame in (folder / "scannet/scene0").iterdir():
        frame.unlink()
    (folder / "scannet/scene0").rmdir()
    if video is not None:
        (folder / "scannet/scene0.mp4").write_bytes(video)
    if packed is not None:
        with zipfile.ZipFile(folder / "scannet.zip", "w") as archive:
            archive.writestr("scannet/scene0.mp4", packed)
    return folder


def read(folder: Path, frames: int) -> list[Published]:
    return read_published("vsi-bench", folder, None, frames)


def greys(frames: tuple[bytes, ...] | list[bytes] | None) -> list[float]:
    """The shade in the middle of each frame, to the nearest that `SHADES` has."""
    assert frames is not None
    pictures = [Image.open(io.BytesIO(frame)) for frame in frames]
    assert all(picture.format == "JPEG" for picture in pictures)
    return [round(p.convert("L").getpixel((p.width // 2, p.height // 2)), -1) for p in pictures]


def decoded(tmp_path: Path, video: bytes, wanted: int = 3, **limits: Any) -> list[bytes]:
    (tmp_path / "video.mp4").write_bytes(video)
    with (tmp_path / "video.mp4").open("rb") as file:
        return decode_video(file, "video a/b.mp4", wanted, Limits(**limits))


@pytest.mark.parametrize("place", ["file", "archive"])
def test_a_video_is_shown_as_evenly_spaced_frames(tmp_path: Path, place: str) -> None:
    video = film(SHADES)
    folder = copy(tmp_path, *((video, None) if place == "file" else (None, video)))
    rows = read(folder, 3)
    assert greys(rows[0].video) == [0, 100, 200]
    assert all(row.video == rows[0].video for row in rows)


def test_a_video_of_many_questions_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def counted(file: Any, label: str, wanted: int, limits: Limits) -> list[bytes]:
        asked.append(label)
        return [published.picture(1)] * wanted

    monkeypatch.setattr(videos, "decode_video", counted)
    assert len(read(copy(tmp_path, b"x"), 4)) == 10
    assert asked == ["video scannet/scene0.mp4"]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize(
    ("wanted", "shown"), [(1, [0]), (2, [0, 200]), (5, [0, 50, 100, 150, 200]), (99, SHADES)]
)
def test_the_first_and_the_last_frame_are_among_them(
    tmp_path: Path, codec: str, wanted: int, shown: list[int]
) -> None:
    assert greys(decoded(tmp_path, film(SHADES, codec=codec), wanted)) == shown


def test_equal_videos_give_equal_bytes(tmp_path: Path) -> None:
    video = film(SHADES)
    assert decoded(tmp_path, video, 7) == decoded(tmp_path, video, 7)


def test_frames_are_chosen_of_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the file says: an edit list or a damaged end leaves other frames than packets."""
    limits = {"most_pixels": 10_000, "most_frames": 1000}
    for told in (5, 21, 500):
        monkeypatch.setattr(videoworker, "_packets", lambda file, most, told=told: told)
        found = videoworker.chosen_frames(io.BytesIO(film(SHADES)), 3, **limits)
        assert greys(found) == [0, 100, 200]


WHOLE = film(SHADES)

BROKEN = {
    "cut off": (WHOLE[: len(WHOLE) // 2], r"cannot be decoded \(Invalid data .*\); copy it again"),
    "empty": (b"", r"cannot be decoded \(.+\); copy it again"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "cannot be decoded"),
    "matroska": (film(SHADES, form="matroska"), "cannot be decoded"),
    "playlist": (b"ffconcat version 1.0\nfile other.mp4\n", "cannot be decoded"),
    "sound": (sound(), "has no pictures, only sound or nothing; copy it again"),
    "codec": (film(SHADES, codec="mjpeg"), r"is coded as mjpeg; encode it again as H\.264"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_video_is_one_line(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.mp4").write_bytes(film(SHADES))  # what the playlist would lead to
    video, message = BROKEN[what]
    with pytest.raises(Problem, match=f"^video a/b.mp4: {message}") as told:
        decoded(tmp_path, video)
    assert "\n" not in str(told.value)


LIMITS = {
    "frames": ({"frames": 20}, "has more than 20 frames; give a shorter one"),
    "pixels": ({"pixels": 64 * 48 - 1}, "has 64 x 48 pixels, of which 3071 may be"),
    "time": ({"seconds": 0.02}, r"not decoded within 0\.02 s; encode it again"),
    "memory": ({"memory": 2**25}, r"its decoder ended with -?\d+ \(.+\); encode it again"),
}


@pytest.mark.parametrize("what", LIMITS)
def test_what_a_video_may_cost_is_limited(what: str, tmp_path: Path) -> None:
    limits, message = LIMITS[what]
    with pytest.raises(Problem, match=f"^video a/b.mp4: {message}") as told:
        decoded(tmp_path, film(SHADES), **limits)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("place", ["file", "archive"])
def test_a_large_file_is_refused_before_it_is_decoded(tmp_path: Path, place: str) -> None:
    video = bytes(5 * 2**20)
    folder = copy(tmp_path, *((video, None) if place == "file" else (None, video)))
    own = videos.Videos(Archives(folder), 3, Limits(file=2**20))
    with pytest.raises(Problem, match=r"^video scannet/scene0\.mp4: 5 MiB file"):
        own.frames("scannet/scene0", Album(folder, folder))


def test_frames_beside_a_video_count_first(tmp_path: Path) -> None:
    published.vsi_bench(tmp_path)
    (tmp_path / "scannet/scene0.mp4").write_bytes(b"not looked at")
    assert read(tmp_path, 2)[0].video == (published.picture(0), published.picture(4))


def test_a_video_outside_of_the_copy_is_not_read(tmp_path: Path) -> None:
    folder = copy(tmp_path / "copy", None)
    (tmp_path / "secret.mp4").write_bytes(film(SHADES))
    (folder / "scannet/scene0.mp4").symlink_to(tmp_path / "secret.mp4")
    with pytest.raises(DataError, match=r"video scannet/scene0\.mp4: leaves the dataset's folder"):
        read(folder, 3)
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    out = [row | {"dataset": "..", "scene_name": "secret"} for row in rows]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in out))
    with pytest.raises(DataError, match=r"video \.\./secret: leaves the dataset's folder"):
        read(folder, 3)


def test_without_a_decoder_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"scannet/scene0\.mp4: no decoder .* install M2R with its extra video"
    ):
        read(copy(tmp_path, film(SHADES)), 3)
