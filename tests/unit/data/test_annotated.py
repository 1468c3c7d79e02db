"""Annotated scenes: the example gives questions, and everything wrong is one line with a remedy."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import geometry_check
import pytest
from PIL import Image

from m2r_train.api.errors import DataError
from m2r_train.core.rewards import RewardConfig, score
from m2r_train.data.annotated import ask_about_scenes, thinned
from m2r_train.data.sceneform import parse_scene
from m2r_train.spatial import IMAGE_TASKS, VIDEO_TASKS, questions
from m2r_train.spatial.visibility import with_sights

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples/annotated-scenes"
TASKS = (*VIDEO_TASKS, *IMAGE_TASKS)


def ask(folder: Path, tasks: tuple[str, ...] = TASKS, wanted: int = 20) -> list[Any]:
    return list(ask_about_scenes(folder, tasks, 7, "flat", wanted=wanted, most_frames=32))


def test_the_example_gives_questions_whose_answers_are_true() -> None:
    samples = ask(EXAMPLE)
    assert samples == ask(EXAMPLE)
    tasks = {sample.task for sample in samples}
    assert {"ObjectSize", "RoomSize", "AbsoluteDistance", "RelativeDirectionHard", "Depth"} <= tasks
    assert len({sample.id for sample in samples}) == len(samples)
    frames = sorted((EXAMPLE / "frames").glob("*.jpg"))
    for sample in samples:
        assert (sample.video is None) == (sample.task in IMAGE_TASKS)
        if sample.video is not None:
            assert sample.video == tuple(frame.read_bytes() for frame in frames)
        reward = score(
            sample.task, "exact", sample.answer, sample.answer_type, sample.chain, RewardConfig()
        )
        assert (reward.task, reward.format) == (1.0, 1.0)
    scene = with_sights(parse_scene(json.loads((EXAMPLE / "scene.json").read_text())).scene)
    asked = questions(scene, list(VIDEO_TASKS), 7, 30)
    assert asked
    assert [geometry_check.wrong(scene, q, solid=True) for q in asked] == [None] * len(asked)


def test_the_page_shows_the_form_that_is_read() -> None:
    text = (ROOT / "docs/annotated-scenes.md").read_text()
    (block,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    parse_scene(json.loads(block))


def test_long_videos_are_thinned_evenly() -> None:
    value = small()
    value["frames"] = [{**value["frames"][0], "image": f"{k}.png"} for k in range(10)]
    assert thinned(parse_scene(value), 4).images == ("0.png", "2.png", "5.png", "7.png")
    assert len(thinned(parse_scene(value), 64).images) == 10


def small() -> dict[str, Any]:
    """A bed and a sofa, seen from the south."""
    pose = [[1, 0, 0, 0], [0, 0, 1, -3], [0, -1, 0, 1], [0, 0, 0, 1]]
    return {
        "version": 1,
        "name": "flat",
        "rooms": [[[-4, -4], [4, -4], [4, 4], [-4, 4]]],
        "doors": [[[-4, 0], [-4, 1]]],
        "boxes": [
            {"id": "b", "category": "bed", "center": [-1, 1, 0.5], "size": [1, 2, 0.5]},
            {"id": "s", "category": "sofa", "center": [1, 0, 0.5], "size": [1, 1, 1], "yaw": 0.5},
        ],
        "camera": {"width": 64, "height": 48, "fx": 40, "fy": 40, "cx": 32, "cy": 24},
        "frames": [{"image": "a.png", "pose": pose, "visible": {"b": {"pixels": 300}}}],
    }


def written(folder: Path, value: object) -> Path:
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (64, 48)).save(folder / "a.png")
    (folder / "scene.json").write_text(value if isinstance(value, str) else json.dumps(value))
    return folder


def test_what_is_given_as_visible_is_kept_and_the_rest_is_worked_out(tmp_path: Path) -> None:
    scene = with_sights(parse_scene(small()).scene)
    bed, sofa = (scene.frames[0].sights[i] for i in (0, 1))
    assert bed.pixels == 300
    assert bed.share is not None
    assert sofa.pixels > 100
    assert sofa.rectangle is not None
    assert sofa.rectangle[0] > 32  # on the right
    assert ask(written(tmp_path / "ok", small()), ("ObjectSize", "RoomSize"))


NAN, INFINITY = float("nan"), float("inf")
BAD = [
    (["version"], 2, "version: 2 is not 1; write 1"),
    (["name"], "a b", "name: 'a b' is not letters, digits, . _ - (80 at most); rename it"),
    (["complete"], "yes", "complete: 'yes' is not true or false; write one of them"),
    (["boxs"], [], "boxs: no such field (did you mean 'boxes'?)"),
    (["boxes"], [], "boxes: 0 of them, not a list of 1 to 2000; correct it"),
    (["boxes", 1, "id"], "b", "boxes[1].id: 'b' is that of boxes[0] too; rename one"),
    (["boxes", 0, "category"], "{x}", "boxes[0].category: '{x}' is not a word or a few"),
    (["boxes", 0, "size"], [1, 0, 1], "boxes[0].size: [1.0, 0.0, 1.0] is not positive"),
    (["boxes", 0, "size"], [1, 1], "boxes[0].size: [1, 1] is not three numbers; give x, y, z"),
    (["boxes", 0, "center", 2], NAN, "boxes[0].center[2]: nan is not a finite number"),
    (["boxes", 0, "yaw"], "left", "boxes[0].yaw: 'left' is not a finite number"),
    (["boxes", 0, "yaw"], True, "boxes[0].yaw: True is not a finite number"),
    (["rooms", 0], [[0, 0], [1, 1]], "rooms[0]: not a list of 3 to 1000 corners"),
    (["rooms", 0], [[0, 0], [1, 1], [2, 2]], "rooms[0]: an area of 0.000 m2"),
    (["doors", 0], [[0, 0], [0, 0]], "doors[0]: narrower than 0.1 m"),
    (["camera", "width"], 64.5, "camera.width: 64.5 is not pixels; give a whole number"),
    (["camera", "fx"], -1, "camera: focal lengths -1.0, 40.0 are not positive; give pixels"),
    (["camera", "width"], 63, "frames[0]: a.png has 64 x 48 pixels, its camera 63 x 48; give"),
    (["frames", 0, "image"], None, "frames[0].image: nothing is not a path; name the picture"),
    (["frames", 0, "image"], "../a.png", "frames[0]: image ../a.png: `..` is not allowed;"),
    (["frames", 0, "image"], "/etc/passwd", "frames[0]: image /etc/passwd: absolute path;"),
    (["frames", 0, "image"], "out.png", "frames[0]: image out.png: a link that leaves"),
    (["frames", 0, "image"], "no.png", "frames[0]: image no.png: no such file;"),
    (["frames", 0, "pose"], [1] * 16, "frames[0].pose: not a 4 x 4 matrix; give the camera-to-"),
    (["frames", 0, "pose", 0, 0], -INFINITY, "pose[0][0]: -inf"),
    (["frames", 0, "pose", 0, 0], 2, "frames[0].pose: its upper left 3 x 3 is no rotation;"),
    (["frames", 0, "pose", 0, 0], -1, "frames[0].pose: it mirrors;"),
    (["frames", 0, "pose", 3, 3], 0, "frames[0].pose[3]: not 0, 0, 0, 1;"),
    (["frames", 0, "visible"], {"c": {"pixels": 1}}, "frames[0].visible.c: no box has this id"),
    (["frames", 0, "visible", "b", "pixels"], 9999, "b.pixels: 9999 is not within 0 to 3072"),
    (["frames", 0, "visible", "b", "share"], 2, "visible.b.share: 2 is not within 0 to 1"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "line"), BAD, ids=[str(k) for k in range(len(BAD))])
def test_a_bad_scene_is_one_line_with_file_field_and_remedy(
    tmp_path: Path, path: list[Any], value: object, line: str
) -> None:
    scene = small()
    at: Any = scene
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    folder = written(tmp_path / "flats", scene)
    Image.new("RGB", (64, 48)).save(tmp_path / "out.png")
    (folder / "out.png").symlink_to(tmp_path / "out.png")
    with pytest.raises(DataError) as caught:
        ask(folder)
    message = str(caught.value)
    assert message.startswith("scene.json: ")
    assert line in message
    assert ";" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{", "scene.json: not JSON (Expecting property name enclosed in double quotes at line 1)"),
        ("[]", "scene.json: not an object but []; give version, name"),
        ("[" * 100_000, "scene.json: JSON beyond what can be read"),
        ("1" * 10_000, "scene.json: JSON beyond what can be read"),
    ],
)
def test_what_is_no_scene_at_all_is_told_too(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(DataError, match=re.escape(line)):
        ask(written(tmp_path / "flats", text))


def test_folders_without_scenes_and_scenes_without_questions_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such folder; check scenes.uri"):
        ask(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no file named scene.json or ending in .scene.json"):
        ask(tmp_path / "empty")
    written(tmp_path / "flats", small())
    with pytest.raises(DataError, match=r"1 scenes, and no clear question of AppearanceOrder"):
        ask(tmp_path / "flats", ("AppearanceOrder",))
    two = tmp_path / "flats" / "two"
    written(two, small())
    with pytest.raises(DataError, match=r"two/scene.json: name: 'flat' is that of scene.json too"):
        ask(tmp_path / "flats")
