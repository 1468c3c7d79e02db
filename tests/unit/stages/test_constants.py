"""What shapes a dataset and is no field stands in its manifest."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from unit.stages.test_teaching import context

from m2r_train.core import difficulty, minhash, repetition
from m2r_train.spatial import margins
from m2r_train.stages import grading, synthesize

SHAPING: list[tuple[str, str, Any]] = [
    ("difficulty", "ednmSpread", difficulty.EDNM_SPREAD),
    ("repetition", "segmentChars", repetition.SEGMENT_CHARS),
    ("repetition", "repeats", repetition.REPEATS),
    ("judge", "verdictTokens", grading.VERDICT_TOKENS),
    ("nearDuplicates", "bands", minhash.BANDS),
    ("nearDuplicates", "rows", minhash.ROWS),
    *(
        ("spatialMargins", field.name, getattr(margins.DEFAULT, field.name))
        for field in fields(margins.Margins)
    ),
]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder: Path = tmp_path_factory.mktemp("constants")
    synthesize.run(context(folder, outputs={"sft": 0, "rlvr": 8, "eval": 2}))
    found: dict[str, Any] = json.loads((folder / "run" / "dataset" / "manifest.json").read_text())
    return found


@pytest.mark.parametrize(("what", "name", "value"), SHAPING)
def test_the_manifest_has_each_constant(
    manifest: dict[str, Any], what: str, name: str, value: float
) -> None:
    assert manifest["constants"][what][name] == value


def test_the_manifest_has_no_other(manifest: dict[str, Any]) -> None:
    told = {(what, name) for what, own in manifest["constants"].items() for name in own}
    assert told == {(what, name) for what, name, _ in SHAPING}
