"""The files of ``dataset/``: splits in Parquet, the manifest and the card."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from m2r_train.api.datasynthesis import DataSynthesisSpec
from m2r_train.api.runspec import recipe
from m2r_train.core.records import Sample
from m2r_train.data.parquet import write_file
from m2r_train.report.cards import CARD, dataset_card
from m2r_train.stages.constants import constants
from m2r_train.stages.context import Context
from m2r_train.stages.gathering import Gathered
from m2r_train.stages.hardness import Measured

_FILE_SAMPLES = 4096


def write_dataset(
    folder: Path,
    ctx: Context,
    samples: Gathered,
    splits: Mapping[str, Sequence[int]],
    measured: Measured,
    counts: Mapping[str, Counter[str]],
    dropped: Counter[str],
    chains: Mapping[str, Any],
) -> None:
    """The files of ``dataset/``, one row group in memory at a time."""
    spec = cast("DataSynthesisSpec", ctx.run_spec.parsed_spec)
    tasks: dict[str, Counter[str]] = {split: Counter() for split in splits}

    def row(split: str, number: int) -> Sample:
        sample = samples[number]
        tasks[split][sample.task] += 1
        if split != "rlvr" or spec.difficulty is None:
            return sample
        accuracy, hardness = measured[number]
        return sample.with_(accuracy=accuracy, difficulty=hardness)

    for split, own in splits.items():
        for k, start in enumerate(range(0, len(own), _FILE_SAMPLES)):
            rows = (row(split, n) for n in own[start : start + _FILE_SAMPLES])
            write_file(folder / split / f"{k:05d}.parquet", rows)
    manifest = {**_manifest(ctx, counts, tasks, dropped), **chains}
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    (folder / CARD).write_text(dataset_card(manifest), encoding="utf-8", errors="replace")


def _manifest(
    ctx: Context,
    counts: Mapping[str, Counter[str]],
    tasks: Mapping[str, Counter[str]],
    dropped: Counter[str],
) -> dict[str, Any]:
    return {
        "version": 1,
        "run": ctx.run_spec.metadata.name,
        "seed": ctx.seed,
        "spec": recipe(ctx.run_spec.parsed_spec),
        "constants": constants(),
        "inputs": {k: v.digest for k, v in ctx.run_spec.inputs.items()},
        "sources": {name: dict(sorted(c.items())) for name, c in counts.items()},
        "dropped": {reason: n for reason, n in sorted(dropped.items()) if n},
        "splits": {
            split: {"samples": own.total(), "tasks": dict(sorted(own.items()))}
            for split, own in tasks.items()
        },
    }
