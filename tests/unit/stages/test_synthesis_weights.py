"""Weights of sources: what each gives to an output."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from unit.stages.test_teaching import context

from m2r_train.data.parquet import read_dataset
from m2r_train.stages import synthesize


@pytest.mark.parametrize(
    ("weights", "expected"),
    [((3, 1), {"a": 15, "b": 5}), ((0, 1), {"b": 20})],
)
def test_a_source_gives_its_share(
    tmp_path: Path, weights: tuple[int, int], expected: dict[str, int]
) -> None:
    sources = [
        {"name": name, "figures": {"tasks": ["Arithmetic"], "samples": 30}, "weight": weight}
        for name, weight in zip("ab", weights, strict=True)
    ]
    ctx = context(tmp_path, sources=sources, outputs={"sft": 0, "rlvr": 20, "eval": 0})
    synthesize.run(ctx)
    samples = read_dataset(tmp_path / "run" / "dataset", "rlvr")
    assert Counter(one.source for one in samples) == expected
