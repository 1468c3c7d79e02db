"""A user's own data: real photographs, columns under other names, chains of the user's own."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from runs import M2R, Golden, Manifests, change, manifests, run, write
from unit.data.folders import write_lines, write_table
from unit.data.photos import NAMES, photo_file

THING = {"astronaut": "woman", "coffee": "cup", "chelsea": "cat", "rocket": "rocket"}


def jsonl_dataset(folder: Path) -> str:
    """Photographs as files beside the lines, and one inside its line as base64."""
    (folder / "photos").mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for number, name in enumerate(NAMES):
        (folder / "photos" / f"{name}.jpg").write_bytes(photo_file(name, "JPEG"))
        picture: Any = f"photos/{name}.jpg"
        if number == 0:
            picture = {"bytes": base64.b64encode(photo_file(name, "WEBP")).decode()}
        rows.append({"problem": "what is this ?", "solution": THING[name], "photo": picture})
        rows.append({"problem": "how many ?", "solution": 1, "photo": picture, "note": "ignored"})
    write_lines(folder / "train.jsonl", rows)
    return folder.as_uri()


def parquet_dataset(folder: Path) -> str:
    """The same with the photographs inside, as Hugging Face's ``datasets`` writes them."""
    rows = [
        {
            "problem": question,
            "solution": answer,
            "photo": {"bytes": photo_file(name, "PNG"), "path": f"{name}.png"},
        }
        for name in NAMES
        for question, answer in (("what is this ?", THING[name]), ("how many ?", "1"))
    ]
    write_table(folder / "train-00000-of-00001.parquet", rows)
    return folder.as_uri()


COLUMNS = {"question": "problem", "answer": "solution", "image": "photo"}


def on(uri: str) -> Manifests:
    """RLVR for two steps and an evaluation of its result, both on the dataset at ``uri``."""
    dataset = {"uri": uri, "split": "train", "columns": COLUMNS}
    documents = change(manifests("rlvr", "eval-rlvr"), "rlvr", "dataset", dataset)
    documents = change(documents, "rlvr", "model", {"preset": "tiny"})
    documents = change(documents, "rlvr", "steps", 2)
    benchmarks = [{"name": "synthetic", "data": dataset}]
    return change(documents, "eval-rlvr", "benchmarks", benchmarks)


@pytest.mark.parametrize("make", [jsonl_dataset, parquet_dataset])
def test_photographs_with_questions_can_be_trained_on_and_evaluated(
    m2r: M2R, tmp_path: Path, make: Any
) -> None:
    uri = make(tmp_path / "my data")
    done = run(m2r, write(on(uri), tmp_path / "manifests"), str(tmp_path / "store"))
    scores = done.resource("eval-rlvr")["scores"]["synthetic"]
    assert scores["overall"]["n"] == 8
    samples = done.folder("eval-rlvr") / "eval/samples/synthetic.jsonl"
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    assert sorted(row["answer"] for row in rows) == sorted([*THING.values(), *["1"] * 4])
    traces = [
        json.loads(line)
        for line in (done.folder("rlvr") / "records/traces.jsonl").read_text().splitlines()
    ]
    assert traces and all(trace["image"].startswith("data:image/") for trace in traces)


def test_changed_data_starts_a_new_run(m2r: M2R, tmp_path: Path) -> None:
    uri = jsonl_dataset(tmp_path / "data")
    documents = {"eval-base": on(uri)["eval-rlvr"]}
    documents["eval-base"]["metadata"]["name"] = "eval-base"
    documents = change(documents, "eval-base", "model", {"preset": "tiny"})
    files = write(documents, tmp_path / "manifests")
    first = run(m2r, files, str(tmp_path / "store"))
    with (tmp_path / "data" / "train.jsonl").open("a") as lines:
        lines.write(json.dumps({"problem": "one more ?", "solution": "yes"}) + "\n")
    second = run(m2r, files, str(tmp_path / "store"))
    assert second.folder("eval-base") != first.folder("eval-base")
    assert second.resource("eval-base")["scores"]["synthetic"]["overall"]["n"] == 9


def test_chains_of_the_users_own_teach_a_cold_start(m2r: M2R, tmp_path: Path) -> None:
    folder = tmp_path / "chains"
    (folder / "photos").mkdir(parents=True)
    rows = []
    for name in NAMES:
        (folder / "photos" / f"{name}.png").write_bytes(photo_file(name, "PNG"))
        chain = f"<think> so {THING[name]} </think><answer>\\boxed{{{THING[name]}}}</answer>"
        rows.append(
            {
                "question": "what is this ?",
                "answer": THING[name],
                "image": f"photos/{name}.png",
                "reasoning": chain,
            }
        )
    write_lines(folder / "train.jsonl", rows)
    dataset = {"uri": folder.as_uri(), "columns": {"chain": "reasoning"}}
    documents = change(manifests("sft"), "sft", "dataset", dataset)
    done = run(m2r, write(documents, tmp_path / "manifests"), str(tmp_path / "store"))
    history = [
        json.loads(line)
        for line in (done.folder("sft") / "records/history.jsonl").read_text().splitlines()
    ]
    assert history[-1]["loss"] < history[0]["loss"] / 2


def test_own_questions_can_be_synthesised_from_and_keep_their_pictures(
    golden: Golden, m2r: M2R, tmp_path: Path
) -> None:
    """A dataset beside the simulator: its questions get a difficulty and go to RLVR alone."""
    import pyarrow.parquet as pq

    own = {
        "name": "photos",
        "dataset": {"uri": parquet_dataset(tmp_path / "d"), "columns": COLUMNS},
        "splits": ["rlvr"],
    }
    documents = change(manifests("curriculum"), "curriculum", "sources", [own])
    documents = change(documents, "curriculum", "outputs", {"sft": 0, "rlvr": 8, "eval": 0})
    model = {"uri": golden.resource("sft")["output"]}
    documents = change(documents, "curriculum", "difficulty.model", model)
    done = run(m2r, write(documents, tmp_path / "manifests"), str(tmp_path / "store"))
    table = pq.read_table(done.folder("curriculum") / "dataset/rlvr/00000.parquet")
    assert table.num_rows == 8
    assert set(table["source"].to_pylist()) == {"photos"}
    assert None not in table["difficulty"].to_pylist()
    assert all(len(pictures) == 1 for pictures in table["images"].to_pylist())
