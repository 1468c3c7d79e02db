"""Which files are a dataset's, and which split each belongs to."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from m2r_train.api.errors import DataError
from m2r_train.data.layout import find_files, split_of


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train.jsonl", "train"),
        ("train.parquet", "train"),
        ("train/a.jsonl", "train"),
        ("train/deep/er/a.parquet", "train"),
        ("dataset/sft/0.parquet", "sft"),
        ("data/train-00000-of-00003.parquet", "train"),
        ("data/train/a.jsonl", "train"),
        ("test-00001.parquet", "test"),
        ("level_2.jsonl", "level_2"),
        ("val.3.jsonl", "val.3"),
        ("testmini-00000-of-00001-725687bf7a18d64b.parquet", "testmini"),
        ("data.jsonl", "data"),
        ("data/metadata.jsonl", "metadata"),
        ("top-10.jsonl", "top-10"),
    ],
)
def test_a_path_names_its_split(path, split):
    assert split_of(PurePosixPath(path)) == split


def folder_of(parent, *names):
    for name in names:
        path = parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return parent


def names(folder, split=None):
    return [file.relative_to(folder).as_posix() for file in find_files(folder, split)]


def test_a_split_is_all_its_files_in_order_and_no_others(tmp_path):
    folder = folder_of(
        tmp_path, "train/b.jsonl", "train/a.parquet", "train-00002.jsonl", "val.jsonl", "train.txt"
    )
    assert names(folder, "train") == ["train-00002.jsonl", "train/a.parquet", "train/b.jsonl"]
    assert names(folder, "val") == ["val.jsonl"]


def test_without_a_split_all_data_files_are_taken_and_nothing_hidden(tmp_path):
    folder = folder_of(
        tmp_path, "b.NDJSON", "a.json-lines", ".cache/x.jsonl", ".hidden.jsonl", "README.md", "x.py"
    )
    assert names(folder) == ["a.json-lines", "b.NDJSON"]


def test_a_single_file_is_read_whatever_the_split(tmp_path):
    file = folder_of(tmp_path, "any.jsonl") / "any.jsonl"
    assert find_files(file, None) == find_files(file, "train") == [file]


def test_a_missing_split_lists_those_found(tmp_path):
    folder = folder_of(tmp_path, "train.jsonl", "test/0.parquet")
    with pytest.raises(DataError, match=r"no split 'val'; splits found: test, train; set dataset"):
        find_files(folder, "val")


@pytest.mark.parametrize(
    ("made", "asked", "reason"),
    [
        ([], "nowhere", "no such file or folder"),
        (["d/README.md"], "d", "no .jsonl or .parquet file"),
        (["d/data.csv"], "d/data.csv", "not a .jsonl or .parquet file; convert it"),
        (["d/load.py"], "d/load.py", "not a .jsonl or .parquet file"),
        (["d/data.pkl"], "d/data.pkl", "not a .jsonl or .parquet file"),
    ],
)
def test_what_is_no_dataset_is_an_error_with_the_remedy(tmp_path, made, asked, reason):
    with pytest.raises(DataError, match=reason):
        find_files(folder_of(tmp_path, *made) / asked, None)


def test_a_data_file_that_links_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "private.jsonl").write_text("{}")
    folder = folder_of(tmp_path / "d", "train.jsonl")
    (folder / "test.jsonl").symlink_to(tmp_path / "private.jsonl")
    with pytest.raises(DataError, match=r"test\.jsonl: a link that leaves the dataset folder"):
        find_files(folder, None)


def test_linked_folders_are_not_followed(tmp_path):
    folder_of(tmp_path / "other", "train.jsonl")
    folder = folder_of(tmp_path / "d", "val.jsonl")
    (folder / "more").symlink_to(tmp_path / "other", target_is_directory=True)
    (folder / "self").symlink_to(folder, target_is_directory=True)
    assert names(folder) == ["val.jsonl"]
