"""Annotated scenes are shared out in shards: a function of scenes, config and seed."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from unit.stages.test_teaching import context

from m2r_train.api.errors import DataError
from m2r_train.api.runspec import RunInput
from m2r_train.api.sources import Source
from m2r_train.core.rng import derive_seed
from m2r_train.data.annotated import ask_about_scenes
from m2r_train.data.parquet import read_shard
from m2r_train.stages import synthesize
from m2r_train.stages.context import Context
from m2r_train.stages.making import ask_shard, shards_of

EXAMPLE = Path(__file__).parents[3] / "examples/annotated-scenes"
TASKS = ["ObjectSize", "RoomSize", "AbsoluteDistance"]


def flats(folder: Path, names: list[str]) -> Path:
    """The example's scene so many times, under these names, with one set of pictures."""
    scene = json.loads((EXAMPLE / "scene.json").read_text())
    scene["frames"] = scene["frames"][:8]
    shutil.copytree(EXAMPLE / "frames", folder / "frames")
    for k, name in enumerate(names):
        (folder / f"{k}").mkdir()
        (folder / f"{k}" / "scene.json").write_text(json.dumps({**scene, "name": name}))
    return folder


def source(folder: Path, **more: Any) -> dict[str, Any]:
    scenes = {"uri": folder.as_uri(), "tasks": TASKS, "questionsPerScene": 4, **more}
    return {"name": "flats", "splits": ["rlvr"], "scenes": scenes}


def job(home: Path, folder: Path, shards: int, **more: Any) -> Context:
    own = [source(folder, **more)]
    ctx = context(home, sources=own, outputs={"sft": 0, "rlvr": 3}, shards=shards)
    inputs = {"sources[0].scenes": RunInput(uri=folder.as_uri())}
    ctx.run_spec = ctx.run_spec.model_copy(update={"inputs": inputs})
    return ctx


def test_the_cut_into_shards_changes_no_question(tmp_path: Path) -> None:
    folder = flats(tmp_path / "flats", ["a", "b", "c"])
    own = Source.model_validate(source(folder))
    seed = derive_seed(3, "source", "flats")
    whole = list(ask_about_scenes(folder, TASKS, seed, "flats", wanted=4, most_frames=32))
    assert len(whole) > 2
    for edges in ([0, 3], [0, 1, 3], [0, 1, 2, 3]):
        made = [ask_shard(own, 3, a, b, folder) for a, b in pairwise(edges)]
        assert [s for parquet, _, _ in made for s in read_shard(parquet)] == whole
        assert sum(counted["made"] for _, counted, _ in made) == len(whole)
        assert {n: f for *_, names in made for n, f in names.items()} == {
            **{"a": "0/scene.json", "b": "1/scene.json", "c": "2/scene.json"}
        }


def test_scenes_are_cut_like_the_other_sources() -> None:
    own = [Source.model_validate(source(Path("/flats")))]
    assert [(s.start, s.stop) for s in shards_of(own, 2, {0: 5})] == [(0, 2), (2, 5)]
    assert max(s.stop - s.start for s in shards_of(own, 2, {0: 1000})) <= 4  # videos in memory
    assert shards_of(own, 2) == []


def test_a_job_has_a_journal_entry_a_shard_and_the_same_bytes_however_it_is_cut(
    tmp_path: Path,
) -> None:
    folder = flats(tmp_path / "flats", ["a", "b", "c"])
    digests = set()
    for shards in (1, 3):
        home = tmp_path / str(shards)
        ctx = job(home, folder, shards)
        told: list[str] = []
        ctx.probe = told.append
        synthesize.run(ctx)
        assert told.count("before-journal") == shards
        manifest = json.loads((home / "run/dataset/manifest.json").read_text())
        counted = manifest["sources"]["flats"]
        assert counted["made"] == counted["kept"] > 2
        digests.add((home / "run/dataset/rlvr/00000.parquet").read_bytes())
    assert len(digests) == 1


def test_two_scenes_of_one_name_in_two_shards_are_told(tmp_path: Path) -> None:
    folder = flats(tmp_path / "flats", ["a", "b", "a"])
    with pytest.raises(DataError) as told:
        synthesize.run(job(tmp_path, folder, 3))
    assert str(told.value) == (
        "spec.sources[0].scenes: 2/scene.json: name: 'a' is that of 0/scene.json too; rename one"
    )


def test_a_broken_scene_is_told_with_its_file_and_the_field(tmp_path: Path) -> None:
    folder = flats(tmp_path / "flats", ["a", "b"])
    (folder / "1/scene.json").write_text("{")
    with pytest.raises(DataError, match=r"^spec\.sources\[0\]\.scenes: 1/scene\.json: not JSON"):
        synthesize.run(job(tmp_path, folder, 2))


def test_scenes_without_a_clear_question_are_an_error(tmp_path: Path) -> None:
    folder = flats(tmp_path / "flats", ["a", "b"])
    for file in folder.rglob("scene.json"):
        value = json.loads(file.read_text())
        file.write_text(json.dumps({**value, "boxes": value["boxes"][:1]}))  # four are needed
    with pytest.raises(DataError, match=r"^spec\.sources\[0\]\.scenes: 2 scenes, and no clear"):
        synthesize.run(job(tmp_path, folder, 2, tasks=["AppearanceOrder"]))
