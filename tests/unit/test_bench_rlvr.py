"""The comparison with TRL: how its figures are made, and when they are refused."""

from __future__ import annotations

import dataclasses

import pytest

from bench.bench_rlvr import HEADER, Block, Setting, compare, row, trl_settings


def blocks(*seconds: float, tokens: int = 2000, prompt_tokens: int = 900) -> list[Block]:
    """Blocks of 100 completions that took so long, on two cores."""
    return [
        Block(
            seconds=s,
            cpu_seconds=2 * s,
            completions=100,
            completion_tokens=tokens,
            prompt_tokens=prompt_tokens,
            reward=50.0,
        )
        for s in seconds
    ]


def test_ratios_come_from_medians_and_from_neighbouring_blocks() -> None:
    figures = compare(blocks(1.0, 2.0, 4.0), blocks(0.25, 0.5, 2.0))
    assert figures["trl_per_second"] == {"min": 25.0, "median": 50.0, "max": 100.0}
    assert figures["m2r_per_second"] == {"min": 50.0, "median": 200.0, "max": 400.0}
    assert figures["ratio_of_medians"] == 4.0
    assert figures["ratio_of_pairs"] == {"min": 2.0, "median": 4.0, "max": 4.0}
    assert figures["ratio_of_cpu_seconds"] == 4.0
    assert figures["trl_mean_tokens"] == 20.0
    assert figures["m2r_mean_reward"] == 0.5


def test_completions_of_other_lengths_are_refused() -> None:
    compare(blocks(1.0, tokens=2000), blocks(1.0, tokens=2190))
    with pytest.raises(ValueError, match="lengths differ"):
        compare(blocks(1.0, tokens=2000), blocks(1.0, tokens=2210))
    with pytest.raises(ValueError, match="lengths differ"):
        compare(blocks(1.0, tokens=2210), blocks(1.0, tokens=2000))


def test_other_prompts_are_refused() -> None:
    other = [dataclasses.replace(b, prompt_tokens=901) for b in blocks(1.0)]
    with pytest.raises(ValueError, match="same prompts"):
        compare(blocks(1.0), other)


def test_a_row_has_as_many_cells_as_the_header() -> None:
    figures = compare(blocks(1.0), blocks(0.5))
    line = row(Setting(threads=1, prompts=16, beta=0.04), figures)
    assert line.count("|") == HEADER.count("|")
    assert "**2.00**" in line


def test_one_step_of_the_peer_is_one_batch() -> None:
    setting = Setting(threads=1, prompts=16, beta=0.0)
    kept = trl_settings(setting, cache=None, steps=3, folder="")
    assert kept["per_device_train_batch_size"] == 128
    assert kept["gradient_accumulation_steps"] == kept["num_iterations"] == 1
