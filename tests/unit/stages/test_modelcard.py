"""A run publishes its model with a card that is the same however often it was killed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from unit.stages.training_runs import (
    STEPS,
    context,
    dataset,
    killed_and_resumed,
    rlvr_spec,
    run,
    sft_spec,
)

from m2r_train.api.runspec import RunInput
from m2r_train.stages import rlvr
from m2r_train.store import LocalStore, fetch_uri, verify_folder

pytestmark = pytest.mark.global_rng("transformers makes a model's parameters with the global one")
SPECS = {"SFTJob": sft_spec, "RLVRJob": rlvr_spec}


@pytest.mark.parametrize("kind", SPECS)
def test_a_killed_run_writes_the_same_card(tmp_path: Path, kind: str) -> None:
    spec = SPECS[kind](dataset(tmp_path / "data"))
    run(kind, tmp_path / "calm", spec)
    assert killed_and_resumed(kind, tmp_path / "killed", spec) > 1
    cards = [(tmp_path / name / "model/README.md").read_text() for name in ("calm", "killed")]
    assert cards[0] == cards[1]
    assert f"| optimiser steps | {STEPS} |" in cards[0]
    assert str(tmp_path) not in cards[0].replace((tmp_path / "data").as_uri(), "")
    assert verify_folder(LocalStore(tmp_path / "calm"), "model")


def test_the_card_of_a_model_made_from_a_model_names_both(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data")
    run("SFTJob", tmp_path / "sft", sft_spec(data))
    model = (tmp_path / "sft" / "model").as_uri()
    _, digest = fetch_uri(model, tmp_path / "cache")
    ctx = context("RLVRJob", tmp_path / "rlvr", rlvr_spec(data) | {"model": {"uri": model}})
    inputs = {**ctx.run_spec.inputs, "model": RunInput(uri=model)}
    ctx.run_spec = ctx.run_spec.model_copy(update={"inputs": inputs})
    rlvr.run(ctx)
    card = (tmp_path / "rlvr/model/README.md").read_text()
    lineage = yaml.safe_load(card.split("---\n", 2)[1])["m2r"]["lineage"]
    assert [entry["kind"] for entry in lineage] == ["SFTJob", "RLVRJob"]
    assert lineage[1]["model_digest"] == digest
    assert lineage[0]["data"] == lineage[1]["data"] != []
