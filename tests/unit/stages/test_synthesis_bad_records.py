"""Records of a user's dataset that cannot be read: dropped up to a share, and counted for good."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from unit.data.folders import write_lines
from unit.data.photos import photo_file
from unit.stages.test_teaching import context

from m2r_train.api.errors import DataError
from m2r_train.data.problem import PROBLEM_KINDS
from m2r_train.report.cards import CARD
from m2r_train.report.funnel import REASONS, RECORD_REASONS, Manifest, funnel
from m2r_train.stages import synthesize
from m2r_train.stages.context import Context

GOOD: list[Any] = [{"id": f"q{n}", "question": f"{n} + 1?", "answer": str(n + 1)} for n in range(5)]
BAD: list[Any] = [
    b'{"question": "cut o',
    b"[1]",
    {"question": "What is it?"},
    {"question": "What is it?", "answer": "4", "image": "none.jpg"},
    {"question": "What is it?", "answer": "4", "image": "broken.jpg"},
    {"id": "q0", "question": "Another?", "answer": "4"},
]
REPEAT = {"id": "again", "question": "0 + 1?", "answer": "1"}
COUNTED = {"broken-line": 2, "no-answer": 1, "image-missing": 1, "image-broken": 1, "same-id": 1}


def own(tmp_path: Path, lines: list[Any], **dataset: Any) -> Context:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "broken.jpg").write_bytes(photo_file("coffee", "JPEG")[:200])
    write_lines(folder / "own.jsonl", lines)
    source = {"name": "own", "dataset": {"uri": folder.as_uri(), **dataset}}
    return context(tmp_path, sources=[source], outputs={"sft": 0, "rlvr": 4, "eval": 1})


def test_every_bad_record_is_counted_by_reason(tmp_path: Path) -> None:
    ctx = own(tmp_path, [*GOOD, *BAD, REPEAT], maxBadRatio=0.5)
    synthesize.run(ctx)
    dataset = tmp_path / "run" / "dataset"
    manifest = json.loads((dataset / "manifest.json").read_text())
    assert manifest["sources"] == {"own": {"made": 12, "kept": 6, **COUNTED}}
    assert manifest["dropped"] == {"duplicate": 1}
    stages = funnel(Manifest.parse(manifest))
    assert [(s.name, s.into, s.out) for s in stages] == [
        *[("read", 12, 6), ("verify", 6, 6), ("deduplicate", 6, 5), ("route", 5, 5)]
    ]
    assert dict(stages[0].dropped) == COUNTED
    assert all(a.out == b.into for a, b in pairwise(stages))
    card = (dataset / CARD).read_text()
    assert all(
        f"{reason}: {n}" in card and REASONS[reason] in card for reason, n in COUNTED.items()
    )
    told = ctx.metrics.exposition().decode()
    for stage, outcome, n in (("collect", "dropped", 6), ("collect", "kept", 6)):
        assert f'm2r_synthesis_samples_total{{outcome="{outcome}",stage="{stage}"}} {n}.0' in told


def test_beyond_the_share_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"6 of 11 records are bad .*maxBadRatio.*own\.jsonl rec"):
        synthesize.run(own(tmp_path, [*GOOD, *BAD]))
    assert not (tmp_path / "run" / "dataset").exists()


def test_a_dataset_without_a_fault_has_no_stage_of_its_own(tmp_path: Path) -> None:
    synthesize.run(own(tmp_path, GOOD))
    manifest = json.loads((tmp_path / "run" / "dataset" / "manifest.json").read_text())
    assert manifest["sources"] == {"own": {"made": 5, "kept": 5}}
    assert funnel(Manifest.parse(manifest))[0].name == "verify"


def test_every_kind_of_problem_has_a_name_of_its_own_in_the_funnel() -> None:
    assert RECORD_REASONS.keys() == set(PROBLEM_KINDS)
    assert len(set(RECORD_REASONS.values())) == len(PROBLEM_KINDS)
    assert set(RECORD_REASONS.values()) <= REASONS.keys()
    others = {"duplicate", "answer", "format"}
    assert not others & set(RECORD_REASONS.values())
