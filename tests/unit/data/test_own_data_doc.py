"""docs/own-data.md does what it says: every block of it is run here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from unit.data.folders import read
from unit.data.photos import photo_file
from unit.stages import published

from m2r_train.api.cleaning import Decontamination
from m2r_train.api.errors import DataError
from m2r_train.api.evaljob import PUBLISHED, SHOWN_FRAMES
from m2r_train.api.refs import DatasetRef
from m2r_train.core.overlap import _TEMPLATE_ITEMS
from m2r_train.data.published import each_published
from m2r_train.data.rows import FIELDS

DOC = Path(__file__).parents[3] / "docs" / "own-data.md"
PHOTOS = {
    "coffee.jpg": ("coffee", "JPEG"),
    "cat.png": ("chelsea", "PNG"),
    "first.webp": ("astronaut", "WEBP"),
    "second.webp": ("rocket", "WEBP"),
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOC.read_text(), re.DOTALL | re.MULTILINE)


def photos_in(folder: Path) -> Path:
    (folder / "photos").mkdir(parents=True)
    for name, (photo, kind) in PHOTOS.items():
        (folder / "photos" / name).write_bytes(photo_file(photo, kind))
    return folder


def test_every_block_of_the_page_is_one_that_these_tests_run():
    languages = re.findall(r"^```(\w+)$", DOC.read_text(), re.MULTILINE)
    assert sorted(languages) == ["jsonl", "python", "text", "text", "yaml", "yaml", "yaml"]


def test_the_json_lines_example_is_read(tmp_path):
    folder = photos_in(tmp_path / "maths")
    (folder / "train.jsonl").write_text(blocks("jsonl")[0])
    ref = DatasetRef.model_validate(yaml.safe_load(blocks("yaml")[0])["dataset"])
    loaded = read(folder, split=ref.split, columns=ref.columns)
    mugs, animal, height, sum_ = loaded.samples
    assert (mugs.answer, mugs.answer_type, len(mugs.images)) == ("1", "number", 1)
    assert (animal.answer, animal.answer_type) == ("B", "choice")
    assert (height.reward, height.unit, len(height.images)) == ("ednm", "m", 2)
    assert (sum_.answer, sum_.images) == ("150", ())


def test_the_parquet_example_is_written_and_read(tmp_path):
    photos_in(tmp_path)
    (tmp_path / "animals").mkdir()
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    subprocess.run(
        [sys.executable, "-c", blocks("python")[0]], cwd=tmp_path, env=environment, check=True
    )
    ref = DatasetRef.model_validate(yaml.safe_load(blocks("yaml")[1])["dataset"])
    loaded = read(tmp_path / "animals", split=ref.split, columns=ref.columns)
    assert [sample.answer for sample in loaded.samples] == ["a cat", "yes"]
    assert [sample.images for sample in loaded.samples] == [
        (photo_file("chelsea", "PNG"),),
        (photo_file("coffee", "JPEG"),),
    ]


def test_bad_records_read_as_the_page_shows(tmp_path):
    folder = photos_in(tmp_path / "maths")
    bad = '{"question": "q", "answer": 1, "image": "photos/x.png"}\n{"question": "q"}\n'
    (folder / "train.jsonl").write_text(blocks("jsonl")[0] + bad)
    names, verdict = blocks("text")
    assert "".join(f"{record}\n" for record in read(folder, max_bad_ratio=1.0).bad) == names
    default = DatasetRef.model_validate({"uri": "file:///data/maths"}).max_bad_ratio
    with pytest.raises(DataError) as caught:
        read(folder, max_bad_ratio=default)
    assert verdict.strip() in str(caught.value)


def test_the_table_has_every_field():
    rows = re.findall(r"^\| (`.*?) \|", DOC.read_text(), re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(FIELDS)


def test_the_benchmarks_of_the_decontamination_example_are_read(tmp_path):
    asked = Decontamination.model_validate(yaml.safe_load(blocks("yaml")[2])["decontamination"])
    *eight, own = asked.against
    for benchmark in eight:
        published.COPIES[benchmark.name](tmp_path / benchmark.name)
        copy = tmp_path / benchmark.name
        assert list(each_published(benchmark.name, copy, benchmark.dataset.split, SHOWN_FRAMES))
    assert own.name not in PUBLISHED
    folder = photos_in(tmp_path / "exam")
    (folder / "exam.jsonl").write_text('{"problem": "What is 2 + 3?", "solution": 5}')
    [sample] = read(folder, split=own.dataset.split, columns=own.dataset.columns).samples
    assert sample.question == "What is 2 + 3?"


def test_what_the_page_says_of_decontamination_is_so():
    section = DOC.read_text().partition("## Never train on the test")[2]
    listed = re.search(r"\*\*The eight\*\* \((.*?)\)", section)
    assert listed is not None
    assert re.findall(r"`([\w-]+)`", listed[1]) == list(PUBLISHED)
    assert f"{SHOWN_FRAMES} frames" in section
    assert _TEMPLATE_ITEMS == 3
    assert "three problems or more" in section
