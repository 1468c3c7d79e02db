"""What a benchmark holds, and what says the same again, does not come into a dataset."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from unit.data.folders import write_lines
from unit.data.photos import photo_file

from m2r_train.api.datasynthesis import DataSynthesisSpec
from m2r_train.api.runspec import RunInput, RunMetadata, RunSpec, RunStorage, resolved
from m2r_train.data.parquet import read_shard
from m2r_train.stages import synthesize
from m2r_train.stages.context import Context
from m2r_train.store import LocalStore, Run
from m2r_train.telemetry.metrics import MetricSet
from m2r_train.telemetry.progress import Progress

LONG = (
    "A farmer has a field that is 120 m long and 80 m wide and wants to fence it on all sides; "
    "how many metres of fence does the farmer need in all?"
)
OWN: list[dict[str, Any]] = [
    {"id": "a", "question": "What is 2 + 3?", "answer": "5"},
    {"id": "b", "question": "what is 2+4", "answer": "6"},  # asked by the benchmark
    {"id": "c", "question": "How many people are there?", "answer": "1", "image": "other.jpg"},
    {"id": "d", "question": "What does she wear?", "answer": "a suit", "image": "copy.jpg"},  # its
    {"id": "e", "question": LONG, "answer": "400"},
    {"id": "f", "question": LONG.replace("A farmer", "The farmer"), "answer": "400"},  # e again
    {"id": "g", "question": LONG.replace("120", "130"), "answer": "420"},
]
THEIRS: list[dict[str, Any]] = [
    {"query": "What is 2 + 4?", "answer": "6"},
    {"query": "How many people are there?", "answer": "1", "image": "theirs.png"},
]


def made(tmp_path: Path, **more: Any) -> tuple[set[str], dict[str, Any]]:
    """The ids of the dataset's samples, and its manifest."""
    own, theirs = tmp_path / "own", tmp_path / "theirs"
    own.mkdir()
    theirs.mkdir()
    (own / "copy.jpg").write_bytes(photo_file("astronaut", "JPEG"))
    (own / "other.jpg").write_bytes(photo_file("coffee", "JPEG"))
    (theirs / "theirs.png").write_bytes(photo_file("astronaut", "PNG"))
    write_lines(own / "own.jsonl", OWN)
    write_lines(theirs / "theirs.jsonl", THEIRS)
    spec = DataSynthesisSpec.model_validate(
        {
            "sources": [{"name": "own", "splits": ["rlvr"], "dataset": {"uri": own.as_uri()}}],
            **more,
        }
    )
    inputs = {"sources[0].dataset": own, "decontamination.against[0].dataset": theirs}
    run_spec = RunSpec(
        kind="DataSynthesisJob",
        metadata=RunMetadata(name="data", uid="0123456789abcdef"),
        attempt=1,
        storage=RunStorage(uri=tmp_path.as_uri()),
        seed=0,
        spec=resolved(spec),
        inputs={path: RunInput(uri=folder.as_uri()) for path, folder in inputs.items()},
    )
    ctx = Context(
        run_spec=run_spec,
        run=Run.claim(LocalStore(tmp_path / "run"), 1),
        progress=Progress(Console(file=io.StringIO())),
        metrics=MetricSet(),
        cache_dir=tmp_path / "cache",
    )
    synthesize.run(ctx)
    folder = tmp_path / "run" / "dataset"
    samples = [s for f in sorted(folder.glob("*/*.parquet")) for s in read_shard(f.read_bytes())]
    return {s.id for s in samples}, json.loads((folder / "manifest.json").read_text())


AGAINST = {
    "against": [
        {"name": "theirs", "dataset": {"uri": "file:///theirs", "columns": {"question": "query"}}}
    ]
}


@pytest.mark.parametrize(
    ("fields", "kept", "dropped"),
    [
        ({}, "abcdefg", {}),
        (
            {"decontamination": AGAINST},
            "acefg",
            {"benchmark-picture": 1, "benchmark-question": 1},
        ),
        ({"nearDuplicates": {}}, "abcdeg", {"near-duplicate": 1}),
        (
            {"decontamination": AGAINST, "nearDuplicates": {}},
            "aceg",
            {"benchmark-picture": 1, "benchmark-question": 1, "near-duplicate": 1},
        ),
    ],
    ids=["nothing asked for", "decontamination", "near-duplicates", "both"],
)
def test_what_is_dropped_and_counted(
    tmp_path: Path, fields: dict[str, Any], kept: str, dropped: dict[str, int]
) -> None:
    ids, manifest = made(tmp_path, outputs={"rlvr": len(kept)}, **fields)
    assert ids == set(kept)
    assert manifest["dropped"] == dropped
    assert manifest["sources"]["own"]["kept"] == len(kept) + sum(dropped.values())
