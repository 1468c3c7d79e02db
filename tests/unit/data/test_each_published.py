"""Published benchmarks one record at a time: the same records, and memory for one."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from unit.data.photos import encoded
from unit.stages import published

from m2r_train.api.errors import DataError
from m2r_train.data.published import Published, each_published, read_published

PICTURES, SIDE = 96, 256
PICTURE_BYTES = 3 * SIDE**2  # of noise, which does not compress


@pytest.mark.parametrize("name", sorted(published.COPIES.keys() - {"vsi-bench"}))
def test_one_by_one_they_are_what_they_are_together(name: str, tmp_path: Path) -> None:
    published.COPIES[name](tmp_path)
    assert list(each_published(name, tmp_path, None, 4)) == read_published(name, tmp_path, None, 4)


def test_the_frames_of_a_video_come_with_the_first_record_that_shows_it(tmp_path: Path) -> None:
    published.vsi_bench(tmp_path)
    first, *others = each_published("vsi-bench", tmp_path, None, 3)
    together = read_published("vsi-bench", tmp_path, None, 3)
    assert first == together[0]
    assert others == [replace(one, video=()) for one in together[1:]]


def test_each_record_knows_its_place(tmp_path: Path) -> None:
    published.cv_bench(tmp_path)
    places = [one.place for one in each_published("cv-bench", tmp_path, None, 3)]
    files = ("test_2d.parquet", "test_3d.parquet")
    assert places == [f"{file} record {n}" for file in files for n in (1, 2)]


def test_memory_does_not_grow_with_the_pictures(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (PICTURES, SIDE, SIDE, 3), np.uint8)
    rows = [{"image": {"bytes": encoded(Image.fromarray(one))}, "question": "?"} for one in noise]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "test.parquet")
    del rows, noise
    tracemalloc.start()
    try:
        count = sum(1 for _ in each_published("cv-bench", tmp_path, None, 1))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == PICTURES
    assert peak < PICTURES / 2 * PICTURE_BYTES  # two batches of sixteen, and the one at hand


def test_what_came_before_a_broken_record_was_given(tmp_path: Path) -> None:
    published.vsi_bench(tmp_path)
    file = tmp_path / "test.jsonl"
    file.write_text("\n".join([*file.read_text().splitlines()[:2], "{"]))
    found: list[Published] = []
    with pytest.raises(DataError, match=r"test\.jsonl: not readable after record 2 \("):
        found.extend(each_published("vsi-bench", tmp_path, None, 3))
    with pytest.raises(DataError, match=r"test\.jsonl: not readable after record 2 \("):
        read_published("vsi-bench", tmp_path, None, 3)
