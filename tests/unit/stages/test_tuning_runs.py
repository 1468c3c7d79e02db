"""Adapters, narrow weights and recomputed layers in whole runs, which resume bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from unit.stages.training_runs import (
    dataset,
    history,
    killed_and_resumed,
    result,
    rlvr_spec,
    run,
    sft_spec,
)

from m2r_train.api.errors import ConfigError
from m2r_train.model.policy import Policy

pytestmark = pytest.mark.global_rng("transformers makes a model's parameters with the global one")
SPECS = {"SFTJob": sft_spec, "RLVRJob": rlvr_spec}
LORA = {"lora": {"rank": 4}, "gradientCheckpointing": True}


def named(folder: Path, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The published parameters."""
    return dict(Policy.load(folder / "model", dtype).module.named_parameters())


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize(
    "how",
    [LORA, {"precision": "BFloat16"}, {**LORA, "precision": "BFloat16"}],
    ids=["adapters", "bfloat16", "both"],
)
def test_a_killed_run_ends_as_if_nothing_had_been(
    tmp_path: Path, kind: str, how: dict[str, Any]
) -> None:
    spec = SPECS[kind](dataset(tmp_path / "data"), **how)
    run(kind, tmp_path / "calm", spec)
    assert killed_and_resumed(kind, tmp_path / "killed", spec) > 2
    assert result(tmp_path / "killed") == result(tmp_path / "calm")


@pytest.mark.parametrize("kind", SPECS)
def test_recomputed_layers_change_no_bit_of_a_run(tmp_path: Path, kind: str) -> None:
    data = dataset(tmp_path / "data")
    run(kind, tmp_path / "plain", SPECS[kind](data))
    run(kind, tmp_path / "thrifty", SPECS[kind](data, gradientCheckpointing=True))
    assert result(tmp_path / "thrifty") == result(tmp_path / "plain")


def test_only_adapters_are_saved_and_they_learn(tmp_path: Path) -> None:
    spec = sft_spec(dataset(tmp_path / "data"), lora={"rank": 4}, freezeVision=True)
    run("SFTJob", tmp_path / "run", spec)
    newest = max((tmp_path / "run/checkpoints").iterdir(), key=lambda p: p.name)
    state = load_file(newest / "state.safetensors")
    assert {k.rpartition(".")[2] for k in state} == {"lora_A", "lora_B"}
    adapter = load_file(tmp_path / "run/model/adapter/adapter_model.safetensors")
    assert not any(".visual." in name for name in adapter)
    assert all(float(t.abs().max()) > 0 for t in adapter.values())
    losses = [step["loss"] for step in history(tmp_path / "run")]
    assert losses[-1] < losses[0]


def test_the_kl_term_of_adapters_is_against_the_model_without_them(tmp_path: Path) -> None:
    spec = rlvr_spec(dataset(tmp_path / "data"), lora={"rank": 4}, learningRate=1e-2)
    run("RLVRJob", tmp_path / "run", spec)
    first, *others = [step["kl"] for step in history(tmp_path / "run")]
    assert first == 0.0
    assert all(kl > 0 for kl in others)


def test_a_narrow_run_keeps_a_wide_master_and_publishes_narrow_weights(tmp_path: Path) -> None:
    spec = sft_spec(dataset(tmp_path / "data"), precision="BFloat16")
    run("SFTJob", tmp_path / "run", spec)
    newest = max((tmp_path / "run/checkpoints").iterdir(), key=lambda p: p.name)
    state = load_file(newest / "state.safetensors")
    assert {t.dtype for t in state.values()} == {torch.float32}
    stored = load_file(tmp_path / "run/model/model.safetensors")
    assert {t.dtype for t in stored.values()} == {torch.bfloat16}
    model = named(tmp_path / "run", torch.bfloat16)
    assert model.keys() == {k.removeprefix("param/") for k in state if k.startswith("param/")}
    assert any(not torch.equal(state[f"param/{n}"].bfloat16().float(), state[f"param/{n}"])
               for n in model)  # fmt: skip
    assert all(torch.equal(state[f"param/{n}"].bfloat16(), model[n]) for n in model)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            {"freeze": ["layers.9.*"]},
            r"spec\.training\.freeze\[0\]: 'layers.9.\*' fits no",
        ),
        ({"freeze": ["*"]}, r"spec\.training\.freeze: leaves nothing to learn"),
        ({"lora": {"targets": ["query"]}}, r"spec\.training\.lora\.targets\[0\]: 'query' fits no"),
    ],
)
def test_names_that_fit_nothing_end_a_run_before_it_begins(
    tmp_path: Path, how: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run("SFTJob", tmp_path / "run", sft_spec(dataset(tmp_path / "data"), **how))


def test_frozen_parts_do_not_move(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data")
    run("SFTJob", tmp_path / "none", sft_spec(data, steps=1, learningRate=0.0, weightDecay=0.0))
    how = {"freeze": ["Embeddings", "*.layers.0.*"], "freezeVision": True, "weightDecay": 0.1}
    run("SFTJob", tmp_path / "run", sft_spec(data, **how))
    before, after = named(tmp_path / "none"), named(tmp_path / "run")
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert moved
    assert all(n.startswith("model.language_model.") for n in moved)
    assert not any("embed_tokens" in n or ".layers.0." in n for n in moved)


def test_gpus_that_are_not_there_are_a_configuration_error(tmp_path: Path) -> None:
    assert not torch.cuda.is_available()
    spec = sft_spec(dataset(tmp_path / "data"))
    spec["resources"]["gpusPerNode"] = 1
    with pytest.raises(ConfigError, match=r"spec\.resources\.gpusPerNode is 1, and this process"):
        run("SFTJob", tmp_path / "run", spec)
