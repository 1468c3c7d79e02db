"""A small policy with vLLM beside it, and what the tests ask of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from unit.model.tinies import SMALL, WORDS, clip, generator, picture, request, row

from m2r_train.core.losses import token_logprobs
from m2r_train.core.packing import pack_rows
from m2r_train.model.policy import Policy, Request
from m2r_train.model.tiny import tiny_model
from m2r_train.rollout.base import Completion, SamplingParams
from m2r_train.rollout.vllm_engine import VllmEngine

# vLLM's kernels for CPUs know heads of 32 and more; merge 2 is what real checkpoints have.
SHAPE = replace(
    SMALL, hidden=64, heads=2, kv_heads=1, mrope_section=(4, 6, 6), merge=2, initializer_range=0.15
)
SEEDS = [11, 22, 33, 44, 55]
SAMPLED = SamplingParams(samples=5, temperature=1.3, max_tokens=24)
GREEDY = SamplingParams(samples=1, temperature=0.0, max_tokens=12)


@dataclass(frozen=True)
class Rig:
    """A policy, vLLM beside it, and prompts: two pictures, none, one, one, a picture and a clip."""

    policy: Policy
    engine: VllmEngine
    asked: list[Request]

    def draw(self, params: SamplingParams = SAMPLED) -> list[list[Completion]]:
        """The completions of ``asked`` by the seeds of this module."""
        return self.engine.generate(self.asked, SEEDS, params)

    def train(self, seed: int, names: Sequence[str] | None = None) -> None:
        """Move every parameter (or those named) by about a tenth of its size."""
        noise = generator(seed)
        with torch.no_grad():
            for name, parameter in self.policy.module.named_parameters():
                change = torch.randn(parameter.shape, generator=noise)
                if names is None or name in names:
                    parameter.add_(0.1 * parameter.std(correction=0).clamp_min(0.1) * change)

    def error(self, groups: Sequence[Sequence[Completion]], temperature: float) -> float:
        """How far the sampler's log-probabilities are from the trainer's, at most, in nats."""
        worst = 0.0
        for asked, own in zip(self.asked, groups, strict=True):
            packed = pack_rows([row(asked.prompt, *(c.tokens for c in own))])
            with torch.no_grad():
                logits = self.policy.logits(packed, self.policy.see(asked.images))
                logp = token_logprobs(logits[None], packed.targets_N[None], temperature)[0]
            sampled = torch.tensor([p for c in own for p in c.logprobs])
            worst = max(worst, float((logp - sampled).abs().max()))
        return worst


def make_rig(**engine: Any) -> Rig:
    """A policy whose every twelfth token ends a completion, so that rows end at many lengths."""
    policy = Policy(*tiny_model(WORDS, 0, SHAPE))
    policy.stop_tokens = (policy.end_of_turn, *range(0, len(policy.tokenizer), 12))
    asked = [
        request(policy, "how many red cubes?", picture(32, 16), picture(16, 48, 1)),
        request(policy, "so?"),
        request(policy, "the answer is left right blue red?", picture(48, 32, 2)),
        request(policy, "how many?", picture(50, 33, 3)),
        request(policy, "left or right?", picture(32, 32, 4), clip(15, 50, 33, 5)),
    ]
    return Rig(policy, VllmEngine(policy, **engine), asked)
