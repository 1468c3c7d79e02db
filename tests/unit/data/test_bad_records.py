"""Every bad record is left out, counted and named; above a share they stop the run."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from unit.data.folders import GOOD, maths_folder, read, write_lines
from unit.data.photos import (
    encoded,
    jpeg_that_claims,
    photo_file,
    photograph,
    png_of_zeros,
    webp_that_claims,
)

from m2r_train.api.errors import DataError
from m2r_train.data import media
from m2r_train.data.problem import PROBLEM_KINDS


@dataclass(frozen=True)
class Bad:
    """A record that cannot be used, why, and the files beside it."""

    row: dict[str, Any] | bytes
    kind: str
    reason: str
    file: bytes | None = None


def with_(**changes: Any) -> dict[str, Any]:
    return {**GOOD, "question": "another", **changes}


def picture(data: bytes, kind: str, reason: str) -> Bad:
    return Bad(with_(image="photos/bad.png"), kind, f"image photos/bad.png: {reason}", data)


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


CHAIN = "<think>Why.</think><answer>\\boxed{%s}</answer>"

TABLE = {
    "no question": Bad(without("question"), "no question", "no question"),
    "empty question": Bad(with_(question="  "), "no question", "no question"),
    "question is a list": Bad(with_(question=["q"]), "no question", "question: list instead"),
    "half a surrogate pair": Bad(with_(question="\ud83d"), "bad field", "surrogate"),
    "endless question": Bad(with_(question="q" * 200_001), "bad field", "longer than 200000"),
    "no answer": Bad(without("answer"), "no answer", "no answer"),
    "null answer": Bad(with_(answer=None), "no answer", "no answer"),
    "answer is true": Bad(with_(answer=True), "no answer", "answer: bool instead of text"),
    "answer is NaN": Bad(with_(answer=float("nan")), "no answer", "nan is not a finite number"),
    "answer is infinite": Bad(with_(answer=float("inf")), "no answer", "inf is not a finite"),
    "answer is no option": Bad(with_(answer="E", options=["a", "b"]), "bad answer", "'E' is no"),
    "answer is an index": Bad(with_(answer=0, options=["x", "y"]), "bad answer", "'0' is no"),
    "answer is two options": Bad(
        with_(answer="B", options=["B", "C"]), "bad answer", "'B' can mean option A or B"
    ),
    "number is none": Bad(
        with_(answer="many", answer_type="number"), "bad answer", "'many' is not a finite number"
    ),
    "choice without options": Bad(
        with_(answer="the cat", answer_type="choice"), "bad answer", "there are no options"
    ),
    "one option": Bad(with_(options=["a"]), "bad options", "1 options: 2 to 26"),
    "equal options": Bad(with_(options=["a", " a"]), "bad options", "two options have the same"),
    "empty option": Bad(with_(options=["a", ""]), "bad options", "an empty option"),
    "options as text": Bad(with_(options="a,b"), "bad options", "not a list"),
    "unknown reward": Bad(with_(reward="fuzzy"), "bad field", "none of exact, ednm"),
    "ednm for text": Bad(with_(answer="cat", reward="ednm"), "bad field", "needs a number answer"),
    "endless id": Bad(with_(id="x" * 201), "bad field", "id: longer than 200"),
    "chain out of form": Bad(with_(chain="It is 1."), "bad chain", "chain: not <think>"),
    "chain answers otherwise": Bad(
        with_(chain=CHAIN % "2"), "bad chain", "chain: answers '2', the answer is '1'"
    ),
    "image and images": Bad(with_(images=["photos/cat.jpg"]), "bad field", "both image and"),
    "video as a file": Bad(with_(video="walk.mp4"), "bad field", "video: not a list of frames"),
    "image is a number": Bad(with_(image=7), "bad field", "image: not a path, bytes or"),
    "empty struct": Bad(with_(image={}), "bad field", "but null"),
    "null among images": Bad(with_(image=None, images=[None]), "bad field", "images: not a path"),
    "missing file": Bad(
        with_(image="photos/x.png"), "image missing", "image photos/x.png: no such file"
    ),
    "missing frame": Bad(
        with_(video=["photos/cat.jpg", "2.jpg"]), "image missing", "video 2.jpg: no such file"
    ),
    "empty path": Bad(with_(image=""), "image path", "not a path"),
    "path with NUL": Bad(with_(image="a\0.png"), "image path", r"image 'a\x00.png': not a path"),
    "path with a surrogate": Bad(with_(image="\ud800.png"), "image path", "cannot be resolved"),
    "path too long": Bad(with_(image="x" * 5000), "image path", "cannot be resolved"),
    "path through a file": Bad(
        with_(image="photos/cat.jpg/x.png"), "image missing", "no such file"
    ),
    "folder as image": Bad(with_(image="photos"), "image path", "not a regular file"),
    "absolute path": Bad(with_(image="/etc/hostname"), "image path", "absolute path"),
    "absolute path in a struct": Bad(
        with_(image={"bytes": None, "path": "/etc/hostname"}), "image path", "absolute path"
    ),
    "Windows path": Bad(with_(image="C:\\photos\\x.png"), "image path", "absolute path"),
    "network share": Bad(with_(image="\\\\host\\x.png"), "image path", "absolute path"),
    "parent folder": Bad(with_(image="../maths/photos/cat.jpg"), "image path", "`..`"),
    "parent in the middle": Bad(with_(image="photos/../photos/cat.jpg"), "image path", "`..`"),
    "Windows parent": Bad(with_(image="..\\x.png"), "image path", "`..`"),
    "URL": Bad(with_(image="https://example.org/x.png"), "image path", "an address"),
    "metadata service": Bad(with_(image="http://169.254.169.254/"), "image path", "an address"),
    "file URL": Bad(with_(image="file:///etc/hostname"), "image path", "an address"),
    "data URL": Bad(with_(image="data:image/png;base64,AAAA"), "image path", "an address"),
    "not base64": Bad(with_(image={"bytes": "%%%"}), "image broken", "not valid base64"),
    "base64 of text": Bad(
        with_(image={"bytes": base64.b64encode(b"hello").decode()}), "image broken", "no known"
    ),
    "empty file": picture(b"", "image broken", "empty file"),
    "truncated JPEG": picture(photo_file()[:-2000], "image broken", "broken JPEG file"),
    "truncated PNG": picture(
        photo_file("coffee", "PNG")[:-2000], "image broken", "broken PNG file"
    ),
    "truncated WEBP": picture(photo_file("coffee", "WEBP")[:-500], "image broken", "broken"),
    "GIF": picture(encoded(photograph(), "GIF"), "image broken", "a GIF"),
    "TIFF": picture(encoded(photograph(), "TIFF"), "image broken", "a TIFF"),
    "SVG": picture(b"<svg/>", "image broken", "a SVG"),
    "web page": picture(b"<!DOCTYPE html>404", "image broken", "a web page"),
    "Git LFS pointer": picture(b"version https://git-lfs.github.com", "image broken", "a Git LFS"),
    "PNG bomb": picture(png_of_zeros(13000, 13000), "image too large", "13000 x 13000 pixels"),
    "JPEG bomb": picture(jpeg_that_claims(9000, 9000), "image too large", "9000 x 9000 pixels"),
    "WEBP bomb": picture(webp_that_claims(16383, 16383), "image too large", "16383 x 16383 pixels"),
    "strip": picture(
        encoded(photograph().resize((900, 4))), "image too large", "900 x 4 pixels: one side over"
    ),
    "not JSON": Bad(b'{"question": ', "broken line", "not JSON (Expecting value at column 13)"),
    "not an object": Bad(b"[1, 2]", "broken line", "not a JSON object but list"),
    "not UTF-8": Bad(b'{"question": "\xff"}', "broken line", "not UTF-8 text"),
    "a pickle": Bad(b"\x80\x04\x95\x0b", "broken line", "not UTF-8 text"),
    "nested too deep": Bad(b"[" * 100_000, "broken line", "JSON beyond what can be read"),
    "number of 5000 digits": Bad(
        b'{"question": ' + b"1" * 5000 + b"}", "broken line", "JSON beyond"
    ),
    "number of 400 digits": Bad(
        with_(answer=10**400, answer_type="number"), "bad answer", "is not a finite number"
    ),
    "same id": Bad(with_(id="first"), "duplicate", "is that of maths/train.jsonl record 1"),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_bad_record_is_left_out_and_named(tmp_path, name):
    bad = TABLE[name]
    folder = maths_folder(tmp_path, {**GOOD, "id": "first"}, bad.row, with_(id="third"))
    if bad.file is not None:
        (folder / "photos" / "bad.png").write_bytes(bad.file)
    loaded = read(folder, max_bad_ratio=0.5)
    assert [sample.id for sample in loaded.samples] == ["first", "third"]
    (record,) = loaded.bad
    assert (record.index, record.file, record.kind) == (2, "maths/train.jsonl", bad.kind)
    assert bad.reason in record.reason
    assert str(record) == f"maths/train.jsonl record 2: {record.reason}"
    assert str(record).isprintable(), "one line, fit for any terminal"
    assert len(str(record)) < 400


def test_the_table_has_every_kind_of_problem():
    assert {bad.kind for bad in TABLE.values()} == set(PROBLEM_KINDS)


def test_a_record_is_named_as_the_docs_say(tmp_path):
    rows = [with_(id=str(n)) for n in range(16)]
    folder = maths_folder(tmp_path, *rows, with_(image="photos/x.png"))
    (record,) = read(folder, max_bad_ratio=0.1).bad
    assert str(record) == "maths/train.jsonl record 17: image photos/x.png: no such file"


def test_links_that_leave_the_folder_are_refused_and_inner_ones_followed(tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.png").write_bytes(photo_file("rocket", "PNG"))
    rows = [
        with_(id="inner", image="photos/inner.jpg"),
        with_(image="photos/link.png"),
        with_(image="out/key.png"),
        with_(image="photos/loop.png"),
    ]
    folder = maths_folder(tmp_path, *rows)
    (folder / "photos" / "inner.jpg").symlink_to("cat.jpg")
    (folder / "photos" / "link.png").symlink_to(tmp_path / "secret" / "key.png")
    (folder / "out").symlink_to(tmp_path / "secret", target_is_directory=True)
    (folder / "photos" / "loop.png").symlink_to("loop.png")
    loaded = read(folder, max_bad_ratio=0.9)
    assert [sample.id for sample in loaded.samples] == ["inner"]
    assert [(bad.index, bad.kind) for bad in loaded.bad] == [
        (2, "image path"),
        (3, "image path"),
        (4, "image path"),
    ]
    assert "a link that leaves the dataset folder" in loaded.bad[0].reason


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.timeout(20)
def test_a_named_pipe_does_not_hang_the_reader(tmp_path):
    folder = maths_folder(tmp_path, GOOD, with_(image="photos/pipe.png"))
    os.mkfifo(folder / "photos" / "pipe.png")
    (bad,) = read(folder, max_bad_ratio=0.5).bad
    assert "not a regular file" in bad.reason


def test_a_huge_file_is_refused_unread(tmp_path):
    folder = maths_folder(tmp_path, GOOD, with_(image="photos/huge.png"))
    with (folder / "photos" / "huge.png").open("wb") as sparse:
        sparse.truncate(10 * 2**30)
    (bad,) = read(folder, max_bad_ratio=0.5).bad
    assert (bad.kind, bad.reason) == ("image too large", "image photos/huge.png: 10240 MiB file")


def test_huge_bytes_in_a_record_are_refused_undecoded(tmp_path, monkeypatch):
    monkeypatch.setattr(media, "MAX_FILE_BYTES", 2**20)
    text = base64.b64encode(bytes(3 * 2**20)).decode()
    folder = maths_folder(tmp_path, GOOD, with_(image={"bytes": text}))
    (bad,) = read(folder, max_bad_ratio=0.5).bad
    assert (bad.kind, bad.reason) == ("image too large", "image: 3 MiB file")


def test_the_pixel_limit_is_the_callers(tmp_path):
    folder = maths_folder(tmp_path, GOOD, {"question": "q", "answer": "a"})
    (bad,) = read(folder, max_bad_ratio=0.5, max_pixels=100).bad
    assert bad.kind == "image too large"


def test_records_with_the_same_content_and_no_id_are_duplicates(tmp_path):
    folder = maths_folder(tmp_path, GOOD, GOOD)
    write_lines(folder / "val.jsonl", [GOOD])
    loaded = read(folder, max_bad_ratio=0.9)
    assert [str(bad).split(":")[0] for bad in loaded.bad] == [
        "maths/train.jsonl record 2",
        "maths/val.jsonl record 1",
    ]
    assert {bad.kind for bad in loaded.bad} == {"duplicate"}


def test_text_in_parquet_that_is_not_utf8_is_a_bad_record(tmp_path):
    raw = pa.array([b"q1", b"\xff\xfe", b"q3"], pa.binary())
    offsets, data = raw.buffers()[1:]
    text = pa.StringArray.from_buffers(3, offsets, data)
    pq.write_table(pa.table({"question": text, "answer": ["1", "2", "3"]}), tmp_path / "t.parquet")
    loaded = read(tmp_path / "t.parquet", max_bad_ratio=0.5)
    assert [sample.question for sample in loaded.samples] == ["q1", "q3"]
    assert str(loaded.bad[0]) == "t.parquet record 2: unreadable values (UnicodeDecodeError)"


def test_a_column_that_nobody_reads_cannot_spoil_a_record(tmp_path):
    text = pa.StringArray.from_buffers(1, *pa.array([b"\xff"], pa.binary()).buffers()[1:])
    pq.write_table(
        pa.table({"question": ["q"], "answer": ["1"], "x": text}), tmp_path / "t.parquet"
    )
    assert len(read(tmp_path / "t.parquet").samples) == 1


def bad_share(parent, n_good: int, n_bad: int):
    rows = [with_(id=str(n)) for n in range(n_good)]
    return maths_folder(parent, *rows, *[with_(answer=None)] * n_bad)


def test_the_share_of_bad_records_decides(tmp_path):
    folder = bad_share(tmp_path, 98, 2)
    assert len(read(folder, max_bad_ratio=0.02).samples) == 98
    with pytest.raises(DataError, match="2 of 100 records are bad") as caught:
        read(folder, max_bad_ratio=0.0199)
    assert caught.value.exit_code == 65


def test_too_many_bad_records_end_with_counts_examples_and_the_remedy(tmp_path):
    rows = [with_(answer=None), with_(image="x.png"), with_(answer=None), with_(image="y.png")]
    folder = maths_folder(tmp_path, GOOD, *rows, with_(answer=None))
    with pytest.raises(DataError) as caught:
        read(folder, max_bad_ratio=0.01)
    assert str(caught.value) == (
        f"{folder}: 5 of 6 records are bad (3 no answer, 2 image missing), more than the 1.0% of "
        "dataset.maxBadRatio: fix them or raise it. "
        "maths/train.jsonl record 2: no answer; "
        "maths/train.jsonl record 3: image x.png: no such file; "
        "maths/train.jsonl record 4: no answer"
    )


def test_without_a_usable_record_no_share_helps(tmp_path):
    with pytest.raises(DataError, match=r"3 of 3 records are bad .*none is usable: fix them"):
        read(bad_share(tmp_path, 0, 3), max_bad_ratio=1.0)


def test_an_empty_dataset_is_an_error(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no records"):
        read(tmp_path / "empty.jsonl", max_bad_ratio=1.0)
