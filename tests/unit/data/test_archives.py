"""Pictures in ZIP archives: found, bounded, and never a way out of the folder."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from unit.stages import published

from m2r_train.api.errors import DataError
from m2r_train.data.archives import Archives
from m2r_train.data.media import MAX_FILE_BYTES
from m2r_train.data.problem import Problem
from m2r_train.data.published import read_published


def pack(file: Path, members: dict[str, bytes]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def logicvista(folder: Path, members: dict[str, bytes]) -> Path:
    """A copy with its pictures in an archive instead of a folder."""
    published.logicvista(folder)
    (folder / "data/images/1.png").unlink()
    pack(folder / "data/images.zip", members)
    return folder


@pytest.mark.parametrize("name", ["1.png", "images/1.png"])
def test_logicvista_is_read_from_the_archive_that_it_comes_with(tmp_path: Path, name: str) -> None:
    copy = logicvista(tmp_path, {name: published.picture(7), "images/2.png": b"other"})
    [one] = read_published("logicvista", copy, None, 32)
    assert one.images == (published.picture(7),)


def test_a_file_beside_an_archive_counts_first(tmp_path: Path) -> None:
    published.logicvista(tmp_path)
    pack(tmp_path / "data/images.zip", {"images/1.png": b"old"})
    [one] = read_published("logicvista", tmp_path, None, 32)
    assert one.images == (published.picture(),)


def test_frames_are_read_from_an_archive_in_the_order_of_their_names(tmp_path: Path) -> None:
    published.vsi_bench(tmp_path)
    for file in (tmp_path / "scannet/scene0").iterdir():
        file.unlink()
    frames = {f"scannet/scene0/{i:04}.png": published.picture(i) for i in (4, 2, 0, 1, 3)}
    pack(tmp_path / "scannet.zip", frames | {"scannet/scene0.mp4": b"video"})
    one = read_published("vsi-bench", tmp_path, None, 3)[0]
    assert one.video == tuple(published.picture(i) for i in (0, 2, 4))


def test_a_bomb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    copy = logicvista(tmp_path, {"1.png": bytes(MAX_FILE_BYTES + 1)})
    with pytest.raises(DataError, match=r"record 1: imagename 1\.png: 64 MiB file"):
        read_published("logicvista", copy, None, 32)


def test_a_member_that_lies_about_its_size_gives_no_more_than_that(tmp_path: Path) -> None:
    pack(tmp_path / "a.zip", {"1.png": bytes(9000)})
    whole = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(whole.replace((9000).to_bytes(4, "little"), b"\x05\0\0\0"))
    with pytest.raises(Problem, match="Bad CRC"):
        Archives(tmp_path).read("1.png", "p")


def test_an_encrypted_or_damaged_archive_is_one_line(tmp_path: Path) -> None:
    pack(tmp_path / "a.zip", {"1.png": b"x"})
    whole = bytearray((tmp_path / "a.zip").read_bytes())
    whole[whole.index(b"PK\x01\x02") + 8] |= 1  # the flag of encryption, in the directory
    (tmp_path / "a.zip").write_bytes(whole)
    with pytest.raises(Problem, match=r"p: is encrypted in a\.zip"):
        Archives(tmp_path).read("1.png", "p")
    copy = logicvista(tmp_path / "copy", {"1.png": b"x"})
    (copy / "data/images.zip").write_bytes(b"PK rubbish")
    with pytest.raises(DataError, match=r"images\.zip: is no ZIP archive; copy it again"):
        read_published("logicvista", copy, None, 32)


@pytest.mark.parametrize("name", ["../1.png", "/1.png", "a/../../1.png"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "1.png").write_bytes(published.picture(9))
    copy = logicvista(tmp_path / "copy", {name: published.picture(7)})
    file = copy / "data/dataset.json"
    file.write_text(json.dumps({"1": json.loads(file.read_text())["1"] | {"imagename": name}}))
    before = set(tmp_path.rglob("*"))
    try:
        [one] = read_published("logicvista", copy, None, 32)
    except DataError as error:
        assert "image" in str(error)
    else:
        assert one.images == (published.picture(7),)  # what the archive has, and no file
    assert set(tmp_path.rglob("*")) == before


def test_a_link_to_an_archive_elsewhere_is_not_followed(tmp_path: Path) -> None:
    pack(tmp_path / "out.zip", {"1.png": published.picture()})
    copy = logicvista(tmp_path / "copy", {"2.png": published.picture()})
    (copy / "data/more.zip").symlink_to(tmp_path / "out.zip")
    with pytest.raises(DataError, match="no such file"):
        read_published("logicvista", copy, None, 32)


def test_what_is_no_picture_in_an_archive_is_refused(tmp_path: Path) -> None:
    copy = logicvista(tmp_path, {"1.png": b"no picture"})
    with pytest.raises(DataError, match="record 1: imagename"):
        read_published("logicvista", copy, None, 32)
