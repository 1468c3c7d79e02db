"""Evaluation during training tells how it goes, and changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from unit.model.tinies import sample
from unit.stages.training_runs import (
    STEPS,
    dataset,
    history,
    killed_and_resumed,
    result,
    rlvr_spec,
    run,
    sft_spec,
)

from m2r_train.stages.heldout import chosen

pytestmark = pytest.mark.global_rng("transformers makes a model's parameters with the global one")
SPECS = {"SFTJob": sft_spec, "RLVRJob": rlvr_spec}


def evaluated(kind: str, folder: Path, **evaluation: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The spec of a run without and with evaluation; training takes what the kind's test takes."""
    plain = SPECS[kind](dataset(folder / "data"))
    more = {"accuracy": True, "maxCompletionTokens": 6} if kind == "SFTJob" else {}
    held = {"dataset": plain["dataset"], "everySteps": 2, "samples": 10, **more, **evaluation}
    return plain, {**plain, "evaluation": held}


@pytest.mark.parametrize("kind", SPECS)
def test_a_run_learns_the_same_bits_and_tells_of_the_model_on_its_way(
    tmp_path: Path, kind: str
) -> None:
    plain, spec = evaluated(kind, tmp_path)
    run(kind, tmp_path / "plain", plain)
    ctx = run(kind, tmp_path / "evaluated", spec)
    before, after = result(tmp_path / "plain"), result(tmp_path / "evaluated")
    models = [name for name in before if name.startswith("model/")]
    assert models and all(before[name] == after[name] for name in models)
    steps = history(tmp_path / "evaluated")
    assert [s["step"] for s in steps if "eval_accuracy" in s] == [0, 2, STEPS]
    assert all(0.0 <= s["eval_accuracy"] <= 1.0 for s in steps if "eval_accuracy" in s)
    bare = [{k: v for k, v in s.items() if not k.startswith("eval_")} for s in steps[:-1]]
    assert bare == history(tmp_path / "plain")
    shown = ctx.metrics.exposition().decode()
    assert "m2r_heldout_score" in shown
    if kind == "SFTJob":
        losses = [s["eval_loss"] for s in steps if "eval_loss" in s]
        assert len(losses) == 3 and losses[-1] < losses[0]


@pytest.mark.parametrize("kind", SPECS)
def test_a_killed_run_has_the_same_figures(tmp_path: Path, kind: str) -> None:
    _, spec = evaluated(kind, tmp_path)
    run(kind, tmp_path / "calm", spec)
    killed_and_resumed(kind, tmp_path / "killed", spec)
    assert result(tmp_path / "killed") == result(tmp_path / "calm")


def test_the_loss_is_that_of_training_on_the_same_tokens(tmp_path: Path) -> None:
    """One batch of all samples: the loss of the first step is that of the model before it."""
    _, spec = evaluated("SFTJob", tmp_path, samples=100, accuracy=False, everySteps=1)
    spec["training"]["tokensPerBatch"] = 1_000_000
    run("SFTJob", tmp_path / "run", spec)
    for step in history(tmp_path / "run")[:-1]:
        assert step["eval_loss"] == pytest.approx(step["loss"], rel=1e-5)


def test_the_samples_are_chosen_by_the_seed_and_not_by_their_order() -> None:
    samples = [sample(id=f"q{i}") for i in range(50)]
    first = {s.id for s in chosen(samples, 10, 1)}
    assert len(first) == 10
    assert {s.id for s in chosen(samples[::-1], 10, 1)} == first
    assert {s.id for s in chosen(samples, 10, 2)} != first
    assert chosen(samples, 100, 1) == samples
