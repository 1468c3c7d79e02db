"""Which differences of two evaluated models are told: the headline's, from equal questions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from unit.stages.runs_in_memory import run_spec

from m2r_train.reporting import StoredRun, compare_models
from m2r_train.store.local import LocalStore

RESULTS = {
    "synthetic": {"overall": {}, "Count": {}},
    "mathvision": {"overall": {}, "accuracy": {}},
    "mathverse": {"overall": {}, "accuracy": {}, "version/Vision Only": {}},
    "dynamath": {"overall": {}, "worst": {}, "average": {}},
    "we-math": {"overall": {}, "score_strict": {}},
    "cv-bench": {"overall": {}, "cv_bench": {}},
    "vsi-bench": {"overall": {}, "all": {}},
}


def evaluated(folder: Path, scores: Sequence[float]) -> StoredRun:
    """A run whose questions, the same of each benchmark, have these scores."""
    spec = run_spec(folder)
    metadata = spec.metadata.model_copy(update={"name": f"eval-{folder.name}"})
    spec = spec.model_copy(update={"kind": "EvalJob", "metadata": metadata})
    store = LocalStore(folder)
    store.put("eval/results.json", json.dumps({"benchmarks": RESULTS}).encode())
    for name in RESULTS:
        rows: list[dict[str, Any]] = [
            {"task": name, "id": str(i), "sampled": [{"score": score}]}
            for i, score in enumerate(scores)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        store.put(f"eval/samples/{name}.jsonl", lines.encode())
    return StoredRun(store, spec)


def test_differences_are_told_where_the_headline_is_a_mean_of_questions(tmp_path: Path) -> None:
    """A mean over DynaMath's variants says nothing of its worst case, and so on."""
    before = evaluated(tmp_path / "sft", [0.0, 0.0, 1.0, 0.0])
    after = evaluated(tmp_path / "rlvr", [1.0, 0.0, 1.0, 1.0])
    pairs = [pair for pair in compare_models([before, after]) if pair.task == "overall"]
    assert [pair.benchmark for pair in pairs] == ["synthetic", "mathvision"]
    for pair in pairs:
        assert (pair.baseline, pair.model, pair.n) == ("sft", "rlvr", 4)
        assert pair.difference == pytest.approx(50.0)
        assert pair.low <= pair.difference <= pair.high


def test_other_questions_are_not_paired(tmp_path: Path) -> None:
    before = evaluated(tmp_path / "sft", [0.0, 1.0])
    assert compare_models([before, evaluated(tmp_path / "rlvr", [0.0, 1.0, 1.0])]) == []
