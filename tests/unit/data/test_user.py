"""A user's own dataset is read as they have it."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import textwrap
from typing import get_args

import pyarrow as pa
import pytest
from unit.data.folders import GOOD, maths_folder, read, write_lines, write_table
from unit.data.photos import NAMES, photo_file, photograph

from m2r_train.api.errors import DataError
from m2r_train.api.refs import ColumnField
from m2r_train.core.records import Quality, Sample
from m2r_train.data import user
from m2r_train.data.images import decode
from m2r_train.data.parquet import write_shard
from m2r_train.data.rows import FIELDS


def test_a_question_an_answer_and_a_photograph_are_enough(tmp_path):
    loaded = read(maths_folder(tmp_path, GOOD), split="train")
    (sample,) = loaded.samples
    assert loaded.bad == []
    assert sample.question == GOOD["question"]
    assert (sample.answer, sample.answer_type, sample.reward) == ("1", "number", "exact")
    assert (sample.domain, sample.task, sample.source) == ("general", "maths", "maths")
    assert sample.images == (photo_file("chelsea", "JPEG"),)
    assert sample.video is None
    assert sample.id.startswith("maths-")


def test_a_question_without_a_picture_is_a_question(tmp_path):
    (sample,) = read(maths_folder(tmp_path, {"question": "1 + 1?", "answer": 2})).samples
    assert (sample.images, sample.answer) == ((), "2")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("name", NAMES)
def test_photographs_keep_their_own_bytes_whatever_they_are_called(tmp_path, name, kind):
    data = photo_file(name, kind)
    folder = maths_folder(tmp_path, {**GOOD, "image": "photos/picture.gif"})
    (folder / "photos" / "picture.gif").write_bytes(data)
    (sample,) = read(folder).samples
    assert sample.images == (data,)
    assert decode(sample.images[0]).size == photograph(name).size


def test_pictures_come_by_path_by_base64_by_struct_and_as_lists(tmp_path):
    photo = photo_file("chelsea", "JPEG")
    text = base64.b64encode(photo).decode()
    rows = [
        {"image": "photos/cat.jpg"},
        {"images": ["photos/cat.jpg"]},
        {"image": {"bytes": text}},
        {"image": {"bytes": text, "path": "elsewhere.jpg"}},
        {"image": {"bytes": None, "path": "photos/cat.jpg"}},
        {"images": [{"path": "photos/cat.jpg"}]},
        {"image": None, "images": ["photos/cat.jpg"]},
        {"image": "./photos/cat.jpg"},
    ]
    questions = [{"question": f"q{n}", "answer": "a", **row} for n, row in enumerate(rows)]
    samples = read(maths_folder(tmp_path, *questions)).samples
    assert [sample.images for sample in samples] == [(photo,)] * len(rows)
    assert len({id(sample.images[0]) for sample in samples}) == 1, "one picture, held once"


def test_parquet_gives_pictures_as_bytes_and_as_hugging_face_structs(tmp_path):
    photo = photo_file("coffee", "WEBP")
    write_table(tmp_path / "d" / "a.parquet", [{"question": "q1", "answer": 3.0, "image": photo}])
    struct = {"bytes": photo, "path": "/home/them/coffee.webp"}
    write_table(
        tmp_path / "d" / "b.parquet",
        [{"question": "q2", "answer": 2.5, "images": [struct, struct], "extra": 1}],
    )
    first, second = read(tmp_path / "d").samples
    assert (first.images, first.answer) == ((photo,), "3")
    assert (second.images, second.answer) == ((photo, photo), "2.5")


def test_a_file_that_the_datasets_library_wrote_is_read(tmp_path):
    from datasets import Dataset, Features, Image, Sequence, Value

    photos = [photo_file(name, "PNG") for name in NAMES]
    rows = {
        "problem": [f"What is in picture {n}?" for n in range(4)],
        "solution": list(NAMES),
        "image": [{"bytes": photo, "path": None} for photo in photos],
        "choices": [list(NAMES)] * 4,
    }
    features = Features(
        {
            "problem": Value("string"),
            "solution": Value("string"),
            "image": Image(),
            "choices": Sequence(Value("string")),
        }
    )
    (tmp_path / "data").mkdir()
    Dataset.from_dict(rows, features=features).to_parquet(
        str(tmp_path / "data" / "test-00000-of-00001.parquet")
    )
    columns = {"question": "problem", "answer": "solution", "options": "choices"}
    samples = read(tmp_path, split="test", columns=columns).samples
    assert [sample.answer for sample in samples] == ["A", "B", "C", "D"]
    assert [sample.images for sample in samples] == [(photo,) for photo in photos]


def test_video_is_a_list_of_frames(tmp_path):
    row = {"question": "How many turns?", "answer": 2, "video": ["photos/cat.jpg"] * 3}
    (sample,) = read(maths_folder(tmp_path, row)).samples
    assert (sample.images, len(sample.video or ())) == ((), 3)


def test_optional_fields_are_taken_over(tmp_path):
    row = {
        "id": 17,
        "question": "How far?",
        "answer": "3.5 m",
        "answer_type": "number",
        "unit": "m",
        "reward": "ednm",
        "domain": "spatial",
        "task": "AbsoluteDistance",
        "chain": "<think>Near 3.5.</think><answer>\\boxed{3.5}</answer>",
        "split": "ignored",
    }
    assert read(maths_folder(tmp_path, row)).samples == [
        Sample(
            id="17",
            domain="spatial",
            task="AbsoluteDistance",
            source="maths",
            question="How far?",
            answer="3.5 m",
            answer_type="number",
            reward="ednm",
            unit="m",
            chain=row["chain"],
        )
    ]


@pytest.mark.parametrize(
    ("answer", "options", "kind"),
    [
        ("7", None, "number"),
        (7, None, "number"),
        (-2.5, None, "number"),
        ("1,200", None, "number"),
        (".5", None, "number"),
        ("1e-3", None, "number"),
        ("1,2", None, "text"),
        ("1e999", None, "text"),
        ("1.2.3", None, "text"),
        (".", None, "text"),
        ("3 m", None, "text"),
        ("1/2", None, "text"),
        ("nan", None, "text"),
        ("²", None, "text"),
        (r"\frac{1}{2}", None, "expression"),
        ("x^2+1", None, "expression"),
        ("2√3", None, "expression"),
        (r"\{1, 2\}", None, "expression"),
        (r"\text{north}", None, "text"),
        (r"\frac{1}{", None, "text"),
        ("10:30", None, "text"),
        ("x = 5", None, "text"),
        ("a cat", None, "text"),
        ("A", ["3", "4"], "choice"),
        (4, [3, 4], "choice"),
        ("5", [], "number"),
    ],
)
def test_the_answer_type_is_inferred(tmp_path, answer, options, kind):
    row = {"question": "q", "answer": answer, "options": options}
    (sample,) = read(maths_folder(tmp_path, row)).samples
    assert sample.answer_type == kind


def test_columns_map_our_names_to_the_users(tmp_path):
    row = {"problem": "q", "solution": "a", "photo": "photos/cat.jpg", "question": "not this one"}
    columns = {"question": "problem", "answer": "solution", "images": "photo"}
    (sample,) = read(maths_folder(tmp_path, row), columns=columns).samples
    assert (sample.question, sample.answer, len(sample.images)) == ("q", "a", 1)


def test_other_datasets_columns_of_our_names_do_not_spoil_them(tmp_path):
    photo = {"bytes": base64.b64encode(photo_file()).decode()}
    row = {
        "question": "q",
        "answer": "7",
        "answer_type": "integer",
        "domain": "geometry",
        "difficulty": "hard",
        "quality": 9,
        "image": "images/1.jpg",
        "decoded_image": photo,
    }
    folder = maths_folder(tmp_path, row)
    (sample,) = read(folder, columns={"images": "decoded_image"}).samples
    assert (sample.answer_type, sample.domain, len(sample.images)) == ("number", "general", 1)
    assert (sample.difficulty, sample.quality) == (None, None)


def test_every_field_that_a_manifest_may_map_is_read():
    assert set(get_args(ColumnField)) <= set(FIELDS)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"question": "problm"}, "no column 'problm' for question (did you mean 'problem'?)"),
        ({"images": "photo"}, "no column 'photo' for images"),
        ({}, "no column 'question' for question; columns present: answer, image, problem"),
        ({"questoin": "problem"}, "no field 'questoin' (did you mean 'question'?); fields: id, "),
    ],
)
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_missing_column_is_named_with_those_present(tmp_path, columns, message, suffix):
    row = {"problem": "q", "answer": "a", "image": None}
    path = tmp_path / f"train.{suffix}"
    if suffix == "jsonl":
        write_lines(path, [row])
    else:
        write_table(path, [row])
    columns = {"question": "problem", **columns} if columns else columns
    with pytest.raises(DataError) as caught:
        read(path, columns=columns, max_bad_ratio=1.0)
    assert message in str(caught.value)
    assert "dataset.columns" in str(caught.value)


def test_a_column_that_some_records_lack_is_not_missing(tmp_path):
    rows = [{"question": "q1", "answer": "a"}, {"question": "q2", "answer": "a", "size": "m"}]
    loaded = read(maths_folder(tmp_path, *rows), columns={"unit": "size"})
    assert [sample.unit for sample in loaded.samples] == [None, "m"]


def test_ids_are_stable_and_differ_where_anything_that_counts_does(tmp_path):
    base = {"question": "q", "answer": "A", "options": ["x", "y"], "image": "photos/cat.jpg"}
    others = [
        {**base, "question": "q2"},
        {**base, "answer": "B"},
        {**base, "options": ["x", "z"]},
        {**base, "image": None},
        {**base, "image": None, "video": ["photos/cat.jpg"]},
    ]
    first = [sample.id for sample in read(maths_folder(tmp_path / "1", base, *others)).samples]
    second = [sample.id for sample in read(maths_folder(tmp_path / "2", *others, base)).samples]
    assert len(set(first)) == len(others) + 1
    assert set(first) == set(second)
    other = read(tmp_path / "1" / "maths", source="physics").samples
    assert not set(first) & {sample.id for sample in other}


def test_an_id_is_the_same_in_every_version_of_the_program(tmp_path):
    row = {"question": "Which?", "answer": "right", "options": ["A. left", "B. right"]}
    (sample,) = read(maths_folder(tmp_path, row)).samples
    assert sample.id == "maths-04426e9729bb994146d911aa7ff2a086"


def test_results_of_synthesis_are_recognised_and_taken_exactly(tmp_path):
    sample = Sample(
        id="s1",
        domain="spatial",
        task="RoomSize",
        source="rooms",
        question="How large?",
        answer="12",
        answer_type="number",
        reward="ednm",
        images=(photo_file(),),
        quality=Quality(structure=5, load=5, verification=4),
        accuracy=0.5,
        difficulty=0.5,
    )
    folder = tmp_path / "dataset" / "sft"
    folder.mkdir(parents=True)
    (folder / "0.parquet").write_bytes(write_shard([sample]))
    assert read(tmp_path, split="sft", source="other").samples == [sample]
    renamed = read(tmp_path, split="sft", source="other", columns={"unit": "task"}).samples
    assert (renamed[0].source, renamed[0].unit) == ("other", "RoomSize")


def test_blank_lines_a_byte_order_mark_and_windows_line_ends_are_no_fault(tmp_path):
    line = json.dumps({"question": "q", "answer": "a"}).encode()
    folder = maths_folder(tmp_path, b"\xef\xbb\xbf" + line + b"\r", b"", b"  ", b"{broken")
    loaded = read(folder, max_bad_ratio=0.5)
    assert (len(loaded.samples), len(loaded.bad)) == (1, 1)
    assert str(loaded.bad[0]).startswith("maths/train.jsonl record 4: not JSON")


def test_an_oversized_line_is_skipped_without_being_held(tmp_path, monkeypatch):
    monkeypatch.setattr(user, "MAX_LINE_BYTES", 1000)
    long = json.dumps({"question": "q" * 5000, "answer": "a"}).encode()
    rows = [{"question": "q1", "answer": "a"}, long, {"question": "q2", "answer": "a"}]
    loaded = read(maths_folder(tmp_path, *rows), max_bad_ratio=0.5)
    assert [sample.question for sample in loaded.samples] == ["q1", "q2"]
    assert [(bad.index, bad.kind) for bad in loaded.bad] == [(2, "broken line")]


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and /proc are Linux")
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_records_are_streamed_whatever_the_size_of_the_file(tmp_path, suffix):
    """96 MiB of records with a column nobody asked for, in 64 MiB on top of the imports."""
    row = {"question": "q", "answer": "a", "ballast": "x" * 2**20}
    path = tmp_path / f"big.{suffix}"
    if suffix == "jsonl":
        write_lines(path, [{**row, "question": f"q{n}"} for n in range(96)])
    else:
        import pyarrow.parquet as pq

        with pq.ParquetWriter(
            path, pa.Table.from_pylist([row]).schema, use_dictionary=False
        ) as out:
            for n in range(96):
                out.write_table(pa.Table.from_pylist([{**row, "question": f"q{n}"}]))
    script = textwrap.dedent("""
        import pathlib, resource, sys
        from m2r_train.data.user import read_user_dataset
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        loaded = read_user_dataset(pathlib.Path(sys.argv[1]), split=None, columns={},
                                   max_bad_ratio=0.0, source="s")
        assert len(loaded.samples) == 96
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """)
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64 * 1024, "KiB"


def test_an_unreadable_parquet_file_is_an_error_with_its_name(tmp_path):
    buffer = io.BytesIO()
    write_table(tmp_path / "train.parquet", [{"question": "q", "answer": "a"}])
    data = (tmp_path / "train.parquet").read_bytes()
    buffer.write(data[:-20])
    (tmp_path / "train.parquet").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match=r"train\.parquet: not a readable Parquet file"):
        read(tmp_path)
