"""What each loss brings with it, and that a field of its own has the last word."""

from __future__ import annotations

from typing import Any

import pytest

from m2r_train.api.rlvr import RLVRSpec
from m2r_train.core.shaping import OFF
from m2r_train.stages.objective import Objective


def objective(**spec: Any) -> Objective:
    base = {"model": {"preset": "tiny"}, "dataset": {"uri": "file:///data"}}
    return Objective.of(RLVRSpec.model_validate({**base, **spec}))


@pytest.mark.parametrize(
    ("loss", "surrogate", "std", "normalization", "clip", "rounds", "buffer"),
    [
        ("Grpo", "TokenRatio", "Population", "Sequence", (0.2, 0.2), 0, 0),
        ("DrGrpo", "TokenRatio", "None", "Constant", (0.2, 0.2), 0, 0),
        ("Dapo", "TokenRatio", "Population", "Token", (0.2, 0.28), 3, 205),
        ("Gspo", "SequenceRatio", "Population", "Sequence", (3e-4, 4e-4), 0, 0),
        ("Cispo", "ClippedWeight", "Population", "Token", (1.0, 4.0), 0, 0),
    ],
)
def test_one_field_chooses_the_loss_with_all_that_it_needs(
    loss: str,
    surrogate: str,
    std: str,
    normalization: str,
    clip: tuple[float, float],
    rounds: int,
    buffer: int,
) -> None:
    made = objective(optimization={"loss": loss})
    assert (made.surrogate, made.std, made.normalization) == (surrogate, std, normalization)
    assert (made.clip_low, made.clip_high) == clip
    assert made.redraw_rounds == rounds
    assert made.shaping.buffer_tokens == buffer
    assert made.max_tokens == 1024
    assert (made.shaping is OFF) == (buffer == 0)


@pytest.mark.parametrize("loss", ["Grpo", "DrGrpo", "Dapo", "Gspo", "Cispo"])
def test_what_the_spec_sets_itself_has_the_last_word(loss: str) -> None:
    made = objective(
        optimization={
            "loss": loss,
            "advantageStd": "Sample",
            "lossNormalization": "Token",
            "clip": {"low": 0.0, "high": 0.5},
            "kl": {"estimator": "K2"},
            "maskTruncated": True,
        },
        rollout={"dynamicSampling": {"maxRounds": 0}},
        rewards={"overlong": {"bufferTokens": 0}},
    )
    assert (made.std, made.normalization) == ("Sample", "Token")
    assert (made.clip_low, made.clip_high) == (0.0, 0.5)
    assert (made.kl_estimator, made.mask_truncated) == ("K2", True)
    assert (made.redraw_rounds, made.shaping) == (0, OFF)


@pytest.mark.parametrize(
    ("engine", "kind", "correction"),
    [
        ("vllm", None, "TruncateToken"),
        ("inprocess", None, None),
        ("vllm", "Off", None),
        ("vllm", False, None),  # a bare Off in YAML 1.1
        ("inprocess", "MaskSequence", "MaskSequence"),
    ],
)
def test_the_gap_is_corrected_where_another_engine_samples(
    engine: str, kind: str | bool | None, correction: str | None
) -> None:
    own = {} if kind is None else {"importanceSampling": {"kind": kind, "max": 3.0}}
    made = objective(rollout={"engine": engine, **own})
    assert made.correction == correction
    assert made.correction_max == (3.0 if own else 2.0)


def test_penalties_come_from_the_rewards() -> None:
    shaping = objective(
        rewards={
            "overlong": {"bufferTokens": 100, "penalty": 0.5},
            "short": {"minTokens": 30, "penalty": 0.25},
            "repetition": {"penalty": 0.75, "ngram": 3, "tolerance": 0.1},
        },
        rollout={"maxCompletionTokens": 500},
    ).shaping
    assert (shaping.max_tokens, shaping.buffer_tokens, shaping.overlong_penalty) == (500, 100, 0.5)
    assert (shaping.min_tokens, shaping.short_penalty) == (30, 0.25)
    assert (shaping.repetition_penalty, shaping.ngram, shaping.tolerance) == (0.75, 3, 0.1)
