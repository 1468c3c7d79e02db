"""Tiny copies of the eight benchmarks, in the layouts in which they are published."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Row = dict[str, Any]

VSI_TYPES = (
    *("object_counting", "object_abs_distance", "object_size_estimation"),
    *("room_size_estimation", "object_rel_distance", "object_rel_direction_easy"),
    *("object_rel_direction_medium", "object_rel_direction_hard"),
    *("route_planning", "obj_appearance_order"),
)


def picture(shade: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (32, 32), (shade, 100, 50)).save(out, "PNG")
    return out.getvalue()


def struct() -> Row:
    return {"bytes": picture(), "path": None}


def _parquet(file: Path, rows: list[Row]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)


def mathvista(folder: Path) -> None:
    common = {"image": "images/1.jpg", "decoded_image": struct(), "metadata": {"skills": ["x"]}}
    choice = {"question_type": "multi_choice", "answer_type": "text", "choices": ["x", "y"]}
    free = {"question_type": "free_form", "answer_type": "integer", "choices": None}
    rows = [
        {"pid": "1", "query": "Which?", "answer": "x", "precision": None} | choice | common,
        {"pid": "2", "query": "How many?", "answer": "3", "precision": None} | free | common,
    ]
    _parquet(folder / "data" / "testmini-00000-of-00001-725687bf7a18d64b.parquet", rows)


def mathvision(folder: Path) -> None:
    common = {"image": "images/1.jpg", "decoded_image": struct(), "level": 1, "subject": "algebra"}
    rows = [
        {"id": "1", "question": "Which?", "options": ["4", "5"], "answer": "B"} | common,
        {"id": "2", "question": "How many?", "options": [], "answer": "7"} | common,
    ]
    _parquet(folder / "data" / "test-00000-of-00001.parquet", rows)


def mathverse(folder: Path) -> None:
    rows = [
        {
            "sample_index": str(i),
            "problem_index": "1",
            "problem_version": version,
            "question": "" if version == "Vision Only" else "Find x.",
            "image": struct(),
            "answer": "A",
            "query_cot": "Reason, then answer.",
            "metadata": {"subject": "Plane Geometry"},
        }
        for i, version in enumerate(("Text Dominant", "Vision Only"))
    ]
    _parquet(folder / "testmini.parquet", rows)


def dynamath(folder: Path, variants: int = 10) -> None:
    for variant in range(1, variants + 1):
        row = {
            "id": "7",
            "question": f"What is {variant}?",
            "image": f"variant{variant}/1.png",
            "decoded_image": struct(),
            "ground_truth": str(variant),
            "answer_type": "float",
            "subject": "algebra",
            "knowledge_level": "high school",
        }
        _parquet(folder / "data" / f"sample_variant{variant}-00000-of-00001.parquet", [row])


def we_math(folder: Path, two: int = 360, three: int = 165) -> None:
    shown = struct()
    rows = [
        {
            "ID": f"{steps}steps_{i}",
            "key": key,
            "question": "Which?",
            "option": "A. 1;B. 2",
            "answer": "A",
            "image_path": shown,
        }
        for steps, problems in ((2, two), (3, three))
        for i in range(problems)
        for key in [*(f"{steps}steps_{k + 1}" for k in range(steps)), f"{steps}steps_multi"]
    ]
    _parquet(folder / "data" / "testmini-00000-of-00001.parquet", rows)


def logicvista(folder: Path) -> None:
    (folder / "data" / "images").mkdir(parents=True)
    (folder / "data" / "images" / "1.png").write_bytes(picture())
    row = {"imagename": "1.png", "question": "Which?", "answer": "A", "skill": ["inductive"]}
    (folder / "data" / "dataset.json").write_text(json.dumps({"1": row}))


def cv_bench(folder: Path) -> None:
    for kind, sources in (
        ("2d", (("ADE20K", "Count"), ("COCO", "Relation"))),
        ("3d", (("Omni3D", "Depth"), ("Omni3D", "Distance"))),
    ):
        rows = [
            {
                "idx": i,
                "type": kind.upper(),
                "task": task,
                "image": struct(),
                "question": "Which?",
                "choices": ["x", "y"],
                "answer": "(A)",
                "prompt": "Which?\n(A) x\n(B) y",
                "source": source,
            }
            for i, (source, task) in enumerate(sources)
        ]
        _parquet(folder / f"test_{kind}.parquet", rows)


def vsi_bench(folder: Path) -> None:
    scene = folder / "scannet" / "scene0"
    scene.mkdir(parents=True)
    for i in range(5):
        (scene / f"{i:04}.png").write_bytes(picture(i))
    rows = [
        {
            "id": i,
            "dataset": "scannet",
            "scene_name": "scene0",
            "question_type": kind,
            "question": "What?",
            "ground_truth": "3" if i < 4 else "A",
            "options": None if i < 4 else ["A. x", "B. y"],
        }
        for i, kind in enumerate(VSI_TYPES)
    ]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


COPIES = {
    "mathvista": mathvista,
    "mathvision": mathvision,
    "mathverse": mathverse,
    "dynamath": dynamath,
    "we-math": we_math,
    "logicvista": logicvista,
    "cv-bench": cv_bench,
    "vsi-bench": vsi_bench,
}
