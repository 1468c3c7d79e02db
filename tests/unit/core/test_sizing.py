"""Estimates of memory and operations, against real parameter counts and worked numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from m2r_train.core.sizing import (
    QWEN25_VL_3B,
    QWEN25_VL_7B,
    ModelSize,
    Sharding,
    decode_seconds_per_token,
    state_bytes,
    step_bound_seconds,
    training_flops,
    utilization,
)
from m2r_train.model.lora import Adapters
from m2r_train.model.published import config_of

SHARDINGS: tuple[Sharding, ...] = ("Zero1", "Zero2", "Zero3")


@pytest.mark.global_rng("transformers makes parameters with the global generator")
@pytest.mark.parametrize(
    ("size", "billions"), [(QWEN25_VL_3B, 3.755), (QWEN25_VL_7B, 8.292)], ids=["3B", "7B"]
)
def test_parameters_are_those_of_the_real_architecture(size: ModelSize, billions: float) -> None:
    config = Qwen2_5_VLConfig.from_dict(config_of(size))
    with torch.device("meta"):
        module = Qwen2_5_VLForConditionalGeneration(config)
    module.tie_weights()
    named = dict(module.named_parameters())
    vision = sum(p.numel() for n, p in named.items() if n.startswith("model.visual."))
    assert vision == size.vision
    assert sum(p.numel() for p in named.values()) == size.parameters
    assert size.parameters / 1e9 == pytest.approx(billions, abs=5e-4)
    tower = frozenset(n for n in named if n.startswith("model.visual."))
    Adapters(module, rank=8, alpha=16, targets=(), frozen=tower, seed=0, where="x")
    learning = sum(p.numel() for p in module.parameters() if p.requires_grad)
    assert learning == size.adapters(8)


def test_state_is_counted_in_bytes_a_parameter() -> None:
    assert state_bytes(10, 10) == 10 * (2 + 4 + 12)
    assert state_bytes(10, 10, narrow=False) == 10 * (4 + 4 + 8)
    assert state_bytes(1000, 10) == 2 * 1000 + 16 * 10
    one, two, three = (
        state_bytes(80, 80, sharding=s, ranks=8)  # type: ignore[arg-type]
        for s in ("Zero1", "Zero2", "Zero3")
    )
    assert (one, two, three) == (80 * 6 + 10 * 12, 80 * 2 + 10 * 16, 10 * 18)
    assert state_bytes(80, 80, ranks=8) == 80 * 18


def test_operations_are_six_a_parameter_and_token() -> None:
    size = QWEN25_VL_7B
    matrices = size.parameters - size.vision - size.vocabulary * size.hidden
    assert training_flops(size, 1000) == pytest.approx(6e3 * matrices, rel=1e-6)
    assert training_flops(size, 10, learning=0.0) == pytest.approx(training_flops(size, 10) * 4 / 6)
    assert training_flops(size, 10, recomputed=True) == pytest.approx(
        training_flops(size, 10) * 8 / 6
    )
    assert utilization(450e12, 1.0, 1000e12) == pytest.approx(0.45)


def test_decoding_is_bound_by_memory_as_worked_out_by_hand() -> None:
    """H100, 3.35 TB/s: 4.6 ms alone and 8.9 ms for 320 sequences of 800 tokens."""
    alone = decode_seconds_per_token(QWEN25_VL_7B, 1, 800, 3.35e12)
    many = decode_seconds_per_token(QWEN25_VL_7B, 320, 800, 3.35e12)
    assert alone * 1e3 == pytest.approx(4.6, abs=0.1)
    assert many * 1e3 == pytest.approx(8.9, abs=0.1)


def test_a_step_is_the_sum_of_its_parts() -> None:
    given = {"size": QWEN25_VL_7B, "sequences": 320, "completion": 400, "tokens": 240_000,
             "peak": 989e12, "bandwidth": 3.35e12}  # fmt: skip
    parts = step_bound_seconds(**given, reference=True)  # type: ignore[arg-type]
    assert parts["train"] == pytest.approx(3 * parts["reference"])
    assert parts["train"] == pytest.approx(23, rel=0.1)
    assert step_bound_seconds(**given, reference=False)["reference"] == 0.0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "size"), [("Qwen2.5-VL-3B", QWEN25_VL_3B), ("Qwen2.5-VL-7B", QWEN25_VL_7B)]
)
def test_the_table_of_the_docs_is_made_of_these_estimates(name: str, size: ModelSize) -> None:
    whole, adapters = size.parameters, size.adapters(16)
    figures = [
        state_bytes(whole, whole),
        *(state_bytes(whole, whole, sharding=z, ranks=8) for z in SHARDINGS),
        state_bytes(whole + adapters, adapters),
    ]
    cells = " | ".join(f"{figure / 1e9:.0f}" for figure in figures)
    page = (Path(__file__).parents[3] / "docs/training.md").read_text()
    assert f"| {name} | {whole / 1e9:.2f} | {cells} |" in page
