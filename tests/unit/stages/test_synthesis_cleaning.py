"""What a benchmark holds, and what says the same again, does not come into a dataset."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from unit.data.folders import write_lines
from unit.data.photos import photo_file
from unit.stages import published

from m2r_train.api.datasynthesis import DataSynthesisSpec
from m2r_train.api.errors import DataError
from m2r_train.api.evaljob import PUBLISHED
from m2r_train.api.runspec import RunInput, RunMetadata, RunSpec, RunStorage, resolved
from m2r_train.benchmarks.registry import BENCHMARKS
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
    ids, manifest, _ = run(tmp_path, own, theirs, **more)
    return ids, manifest


def run(
    tmp_path: Path, own: Path, theirs: Path, **more: Any
) -> tuple[set[str], dict[str, Any], str]:
    """The ids of the dataset's samples, its manifest, and what the terminal was told."""
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
    told = io.StringIO()
    ctx = Context(
        run_spec=run_spec,
        run=Run.claim(LocalStore(tmp_path / "run"), 1),
        progress=Progress(Console(file=told, width=200)),
        metrics=MetricSet(),
        cache_dir=tmp_path / "cache",
    )
    synthesize.run(ctx)
    folder = tmp_path / "run" / "dataset"
    samples = [s for f in sorted(folder.glob("*/*.parquet")) for s in read_shard(f.read_bytes())]
    manifest = json.loads((folder / "manifest.json").read_text())
    return {s.id for s in samples}, manifest, told.getvalue()


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


RECORDS = {  # of the copies: records, pictures
    **{"mathvista": (2, 2), "mathvision": (2, 2), "mathverse": (2, 2), "dynamath": (10, 10)},
    **{"we-math": (1740, 1740), "logicvista": (1, 1), "cv-bench": (4, 4), "vsi-bench": (10, 5)},
}


def theirs_of(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of a benchmark that shows photographs and asks one long question, all of its variants
    with numbers of their own.
    """
    shown = ("astronaut", "coffee", "rocket")
    monkeypatch.setattr(
        published, "picture", lambda shade=0: photo_file(shown[shade % len(shown)], "PNG")
    )
    published.COPIES[name](folder)
    files = [f for f in folder.rglob("*") if f.suffix in {".parquet", ".jsonl", ".json"}]
    field = "query" if name == "mathvista" else "question"
    for number, file in enumerate(sorted(files)[: 10 if name == "dynamath" else 1]):
        asked = LONG.replace("120", str(120 + number))
        if file.suffix == ".parquet":
            rows = pq.read_table(file).to_pylist()
            rows[0][field] = asked
            pq.write_table(pa.Table.from_pylist(rows), file)
        else:
            old = json.dumps("Which?" if name == "logicvista" else "What?")
            file.write_text(file.read_text().replace(old, json.dumps(asked), 1))


def against(name: str, **dataset: Any) -> dict[str, Any]:
    return {"against": [{"name": name, "dataset": {"uri": "file:///theirs", **dataset}}]}


@pytest.mark.parametrize("name", published.COPIES)
def test_what_a_benchmark_holds_as_published_is_dropped(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, theirs = tmp_path / "own", tmp_path / "theirs"
    own.mkdir()
    theirs_of(name, theirs, monkeypatch)
    frame = "rocket" if name == "vsi-bench" else "astronaut"  # the third one
    (own / "copy.jpg").write_bytes(photo_file(frame, "JPEG", quality=60))
    (own / "other.jpg").write_bytes(photo_file("chelsea", "JPEG"))
    write_lines(
        own / "own.jsonl",
        [
            {"id": "asks", "question": LONG.upper().replace(" ", "  "), "answer": "400"}
            | {"image": "other.jpg"},
            {"id": "shows", "question": "What is in it?", "answer": "x", "image": "copy.jpg"},
            {"id": "neither", "question": "What is it?", "answer": "cat", "image": "other.jpg"},
        ],
    )
    user_reader = Context.each_sample

    def each_sample(ctx: Context, path: str, *more: Any) -> Any:
        assert not path.startswith("decontamination"), "read as the user's own data"
        return user_reader(ctx, path, *more)

    monkeypatch.setattr(Context, "each_sample", each_sample)
    ids, manifest, told = run(
        tmp_path, own, theirs, outputs={"rlvr": 1}, decontamination=against(name)
    )
    assert ids == {"neither"}
    assert manifest["dropped"] == {"benchmark-picture": 1, "benchmark-question": 1}
    assert "compared with {}: {} records, {} pictures".format(name, *RECORDS[name]) in told


def test_the_names_that_are_read_as_published_are_those_of_the_benchmarks() -> None:
    assert set(PUBLISHED) == set(BENCHMARKS) == set(published.COPIES)


def without(file: Path, field: str) -> None:
    rows = [row | {field: None} for row in pq.read_table(file).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows), file)


@pytest.mark.parametrize(
    ("name", "spoilt", "dataset", "line"),
    [
        ("cv-bench", "image", {}, r"test_2d\.parquet record 1: none of the columns image"),
        ("mathverse", "question", {}, r"testmini\.parquet record 1: question: has no text"),
        ("mathverse", None, {"split": "test"}, "no split 'test'; splits found: testmini"),
        ("mathvision", None, {}, "no .jsonl or .parquet file"),
    ],
    ids=["no picture", "no question", "no such split", "no copy"],
)
def test_a_copy_that_cannot_be_read_is_one_line_that_names_the_field(
    name: str, spoilt: str | None, dataset: dict[str, Any], line: str, tmp_path: Path
) -> None:
    own, theirs = tmp_path / "own", tmp_path / "theirs"
    own.mkdir()
    theirs.mkdir()
    write_lines(own / "own.jsonl", OWN[:1])
    (theirs / "README.md").write_text("MathVision")
    if name != "mathvision":
        published.COPIES[name](theirs)
    if spoilt is not None:
        without(min(theirs.glob("*.parquet")), spoilt)
    with pytest.raises(DataError, match=line) as raised:
        run(tmp_path, own, theirs, outputs={"rlvr": 1}, decontamination=against(name, **dataset))
    assert str(raised.value).startswith("spec.decontamination.against[0].dataset: ")
    assert "\n" not in str(raised.value)
