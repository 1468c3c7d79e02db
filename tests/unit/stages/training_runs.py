"""Training stages in this process, seconds long: for what changes how a model learns."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from m2r_train.api.rlvr import RLVRSpec
from m2r_train.api.runspec import RunInput, RunMetadata, RunSpec, RunStorage, resolved
from m2r_train.api.sft import SFTSpec
from m2r_train.stages import rlvr, sft
from m2r_train.stages.context import Context
from m2r_train.store import LocalStore, Run
from m2r_train.telemetry.metrics import MetricSet
from m2r_train.telemetry.progress import Progress

STEPS = 3


class Died(Exception):  # noqa: N818
    """What a kill is here."""


def dataset(folder: Path, samples: int = 24) -> Path:
    """Questions with chains, good for both stages; no pictures."""
    folder.mkdir()
    lines = [
        json.dumps(
            {
                "id": f"q{i}",
                "question": f"{i} and {i}?",
                "answer": str(2 * i),
                "task": "Sum" if i % 2 else "Twice",
                "chain": f"<think>{i}</think><answer>\\boxed{{{2 * i}}}</answer>",
            }
        )
        for i in range(samples)
    ]
    (folder / "all.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def sft_spec(data: Path, **training: Any) -> dict[str, Any]:
    """An SFT run of ``STEPS`` steps, saved after each."""
    return {
        "model": {"preset": "tiny"},
        "dataset": {"uri": data.as_uri()},
        "training": {"steps": STEPS, "tokensPerBatch": 200, "learningRate": 1e-3, **training},
        "checkpoint": {"everySteps": 1},
        "resources": {"cpu": "1"},
    }


def rlvr_spec(data: Path, **optimization: Any) -> dict[str, Any]:
    """An RLVR run of ``STEPS`` steps whose rewards differ although the model knows nothing."""
    return {
        "model": {"preset": "tiny"},
        "dataset": {"uri": data.as_uri()},
        "steps": STEPS,
        "rollout": {
            "engine": "inprocess",
            "groupSize": 4,
            "promptsPerStep": 2,
            "maxCompletionTokens": 12,
        },
        "rewards": {"repetition": {"penalty": 1.0, "ngram": 1, "tolerance": 0.0}},
        "optimization": {
            "learningRate": 1e-3,
            "advantageWeight": {"kind": "Off"},
            "kl": {"start": 0.04},
            **optimization,
        },
        "checkpoint": {"everySteps": 1},
        "resources": {"cpu": "1"},
    }


def context(
    kind: str,
    folder: Path,
    spec: Mapping[str, Any],
    number: int = 1,
    probe: Callable[[str], None] = lambda _: None,
) -> Context:
    """A new attempt at the run in ``folder``."""
    parsed = (SFTSpec if kind == "SFTJob" else RLVRSpec).model_validate(spec)
    inputs = {"dataset": RunInput(uri=spec["dataset"]["uri"])}
    if "evaluation" in spec:
        inputs["evaluation.dataset"] = RunInput(uri=spec["evaluation"]["dataset"]["uri"])
    for i, own in enumerate(spec.get("rewards", {}).get("own", ())):
        inputs[f"rewards.own[{i}]"] = RunInput(uri=own["uri"])
    return Context(
        run_spec=RunSpec(
            kind=kind,
            metadata=RunMetadata(name="run", uid="0123456789abcdef"),
            attempt=number,
            storage=RunStorage(uri=folder.as_uri()),
            seed=5,
            spec=resolved(parsed),
            inputs=inputs,
        ),
        run=Run.claim(LocalStore(folder), number),
        progress=Progress(Console(file=io.StringIO())),
        metrics=MetricSet(),
        cache_dir=folder.parent / "cache",
        probe=probe,
    )


def run(kind: str, folder: Path, spec: Mapping[str, Any], **more: Any) -> Context:
    """Carry the run out, or go on with it."""
    ctx = context(kind, folder, spec, **more)
    (sft if kind == "SFTJob" else rlvr).run(ctx)
    return ctx


def killed_and_resumed(kind: str, folder: Path, spec: Mapping[str, Any]) -> int:
    """Kill the run after each save, until it is through; the number of attempts."""
    number = 0
    while True:
        number += 1
        saves = 0

        def dies(name: str) -> None:
            nonlocal saves
            saves += name == "after-save"
            if saves:
                raise Died

        try:
            run(kind, folder, spec, number=number, probe=dies if number <= STEPS else print)
        except Died:
            continue
        return number


def result(folder: Path) -> dict[str, bytes]:
    """The model's files and the history."""
    files = [p for p in (folder / "model").rglob("*") if p.is_file() and p.suffix == ".safetensors"]
    files.append(folder / "records/history.jsonl")
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def history(folder: Path) -> list[dict[str, Any]]:
    """What the run noted of each step."""
    return [json.loads(x) for x in (folder / "records/history.jsonl").read_text().splitlines()]
