"""Evaluation during training: what the model makes of samples that it does not learn from.

It happens before the step whose record it joins, and once more at the end, where the state is that
of a boundary between steps: a run that is stopped in it does it again. It draws no random number
but greedy tokens and leaves no trace in the state, so a run without it learns the same bits.
Several ranks share the work.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean

import torch

from m2r_train.api.heldout import HeldOut
from m2r_train.core.packing import pack_rows
from m2r_train.core.records import Sample
from m2r_train.core.rng import derive_seed
from m2r_train.core.stats import sample_accuracy
from m2r_train.model.policy import Policy, Request
from m2r_train.rollout.base import Completion, SamplingParams
from m2r_train.stages.context import Context
from m2r_train.stages.feeding import lay_out, lessons, micro_batches, request, shown

Generate = Callable[[Sequence[Request], Sequence[int], SamplingParams], list[list[Completion]]]
Figures = dict[str, float]

_TOGETHER = 64  # questions that are answered at a time, which bounds memory


class HeldOutSet:
    """The samples of a spec's ``evaluation``, the same at every step."""

    def __init__(self, ctx: Context, spec: HeldOut, policy: Policy) -> None:
        self._ctx = ctx
        self._every = spec.every_steps
        self._policy = policy
        found = ctx.samples("evaluation.dataset", spec.dataset, "eval")
        self.samples = chosen(found, spec.samples, ctx.seed)

    def due(self, step: int) -> bool:
        """Whether the model is evaluated before ``step``."""
        return step % self._every == 0

    @torch.no_grad()
    def loss(self, cells: int) -> Figures:
        """``eval_loss``: nats per scored token of the chains, in micro-batches of ``cells``."""
        course = lessons(self._policy, [s for s in self.samples if s.chain is not None])
        sums, tokens = [], 0
        parts = micro_batches([lesson.row.length for lesson in course], cells)
        for number, part in enumerate(parts):
            self._ctx.look()
            if not self._ctx.ranks.owns(number):
                continue
            own = [course[i] for i in part]
            packed = pack_rows([lesson.row for lesson in own])
            seen = self._policy.see([x for o in own for x in shown(o.images, o.video)])
            logp_N = self._policy.logprobs(packed, seen)[0]
            sums.append(float(logp_N.double().sum()))
            tokens += len(logp_N)
        told = self._ctx.ranks.gather([sums, tokens])
        total, tokens = math.fsum(x for own, _ in told for x in own), sum(n for _, n in told)
        return {"eval_loss": -total / tokens} if tokens else {}

    def accuracy(self, generate: Generate, max_tokens: int) -> Figures:
        """``eval_accuracy``: share of the questions that are answered right, greedily."""
        params = SamplingParams(1, 0.0, max_tokens)
        scores: list[float] = []
        for number, i in enumerate(range(0, len(self.samples), _TOGETHER)):
            if not self._ctx.ranks.owns(number):
                continue
            own = self.samples[i : i + _TOGETHER]
            prompts = lay_out(self._policy, own)
            requests = [request(p, s) for p, s in zip(prompts, own, strict=True)]
            answers = generate(requests, [0] * len(own), params)
            scores += [
                sample_accuracy(s, self._policy.decode(one.tokens))
                for s, (one,) in zip(own, answers, strict=True)
            ]
        scores = [score for own in self._ctx.ranks.gather(scores) for score in own]
        return {"eval_accuracy": fmean(scores)} if scores else {}


def chosen(samples: Sequence[Sample], most: int, seed: int) -> list[Sample]:
    """At most ``most`` samples by a seeded hash of their ids, in their own order."""
    by_hash = sorted(range(len(samples)), key=lambda i: derive_seed(seed, "heldout", samples[i].id))
    return [samples[i] for i in sorted(by_hash[:most])]
