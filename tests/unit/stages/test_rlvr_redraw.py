"""The RLVR stage with dynamic sampling, broken off at every point of its journal: equal in the end.

An untrained model earns nothing, so what differs within a group is a penalty for repeated tokens;
a group of two short completions often has none, and is replaced.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from m2r_train.api.rlvr import RLVRSpec
from m2r_train.api.runspec import RunInput, RunMetadata, RunSpec, RunStorage, resolved
from m2r_train.stages import rlvr
from m2r_train.stages.context import Context
from m2r_train.store import LocalStore, Run
from m2r_train.telemetry.metrics import MetricSet
from m2r_train.telemetry.progress import Progress

STEPS = 3


class Died(Exception):  # noqa: N818
    """What a kill is here."""


def dataset(folder: Path) -> Path:
    folder.mkdir()
    lines = [
        json.dumps(
            {"id": f"q{i}", "question": f"{i} and {i}?", "answer": str(2 * i), "task": "Sum"}
        )
        for i in range(24)
    ]
    (folder / "rlvr.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def attempt(
    folder: Path, data: Path, number: int, probe: Callable[[str], None] = lambda _: None
) -> Context:
    spec = RLVRSpec.model_validate(
        {
            "model": {"preset": "tiny"},
            "dataset": {"uri": data.as_uri()},
            "steps": STEPS,
            "rollout": {
                "engine": "inprocess",
                "groupSize": 2,
                "promptsPerStep": 3,
                "maxCompletionTokens": 4,
                "dynamicSampling": {"maxRounds": 2},
            },
            "rewards": {"repetition": {"penalty": 1.0, "ngram": 1, "tolerance": 0.0}},
            "optimization": {
                "loss": "Dapo",
                "learningRate": 1e-3,
                "advantageWeight": {"kind": "Off"},
                "kl": {"start": 0.0},
            },
            "checkpoint": {"everySteps": 2},
            "resources": {"cpu": "1"},
        }
    )
    return Context(
        run_spec=RunSpec(
            kind="RLVRJob",
            metadata=RunMetadata(name="run", uid="0123456789abcdef"),
            attempt=number,
            storage=RunStorage(uri=folder.as_uri()),
            seed=5,
            spec=resolved(spec),
            inputs={"dataset": RunInput(uri=data.as_uri())},
        ),
        run=Run.claim(LocalStore(folder), number),
        progress=Progress(Console(file=io.StringIO())),
        metrics=MetricSet(),
        cache_dir=folder.parent / "cache",
        probe=probe,
    )


def result(folder: Path) -> tuple[bytes, bytes]:
    return (
        (folder / "model/model.safetensors").read_bytes(),
        (folder / "records/history.jsonl").read_bytes(),
    )


@pytest.mark.global_rng("transformers makes a model's parameters with the global generator")
def test_replacements_are_replayed_bit_for_bit_whenever_a_run_dies(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data")
    passed: list[str] = []
    rlvr.run(attempt(tmp_path / "calm", data, 1, passed.append))
    drawn = passed.count("before-journal")
    history = [json.loads(x) for x in result(tmp_path / "calm")[1].decode().splitlines()]
    assert drawn > STEPS, "nothing was replaced: nothing is tested"
    assert sum(step["redrawn"] for step in history) == sum(
        value for step in history for key, value in step.items() if key == "redrawn/Sum"
    )

    number, left = 0, 0
    folder, rounds = tmp_path / "killed", set()

    def dies_at_the_second(name: str) -> None:
        nonlocal left
        left -= name == "before-journal"
        if not left:
            raise Died

    while True:
        number, left = number + 1, 2
        ctx = attempt(folder, data, number, dies_at_the_second)
        try:
            rlvr.run(ctx)
            break
        except Died:
            rounds |= {key for key in ctx.run.journal_keys() if "redraw" in key}
    assert number == drawn, "each attempt draws one round more, and none again"
    assert rounds
    assert result(folder) == result(tmp_path / "calm")
