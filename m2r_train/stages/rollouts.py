"""Rollouts of a step: drawn once, kept in the journal, replayed after a kill.

The journal holds tokens and log-probabilities of every step since the last checkpoint. A resumed
run trains on those steps again, from the same rollouts, and pays for none of them twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from m2r_train.core.records import Sample
from m2r_train.core.rng import derive_seed
from m2r_train.model.policy import Policy, Prompt, Request
from m2r_train.model.vision import Picture
from m2r_train.rollout.base import Completion, RolloutEngine, SamplingParams
from m2r_train.rollout.sampler import InProcessSampler
from m2r_train.stages.context import Context
from m2r_train.stages.feeding import request

Groups = list[list[Completion]]


class Show(Protocol):
    """Told a step's pictures before anything is computed from them (``Policy.show``)."""

    def __call__(self, images: Sequence[Picture], *, more: bool) -> None:
        """``more``: these come to those that the step has shown already."""


def rollout_engine(
    name: str, policy: Policy, look: Callable[[], None] = lambda: None
) -> RolloutEngine[Request]:
    """The engine that the spec names. Raises ``ConfigError`` for one that is not installed.

    ``look`` is called between two tokens; what it raises ends the drawing.
    """
    if name == "vllm":
        from m2r_train.rollout.vllm_engine import VllmEngine  # noqa: PLC0415 - optional

        return VllmEngine(policy, look=look)
    return InProcessSampler(policy, look=look)


class Desk:
    """Hands out a step's rollouts: from the journal where they are, else from the engine."""

    def __init__(
        self,
        ctx: Context,
        engine: RolloutEngine[Request],
        params: SamplingParams,
        prompts: Mapping[str, Prompt],
        show: Show | None = None,
        *,
        behind: bool = False,
    ) -> None:
        """``behind``: the engine has weights from before the policy was restored."""
        self.engine = engine
        self._behind = behind  # whether the engine has weights of before the last update
        self._ctx = ctx
        self._params = params
        self.prompts = prompts
        self._show = show

    def policy_changed(self) -> None:
        """The policy was trained. Its engine is told when something has to be drawn: a step whose
        rollouts are in the journal costs no transfer of weights, and no memory of a GPU."""
        self._behind = True

    def greedy(
        self, requests: Sequence[Request], seeds: Sequence[int], params: SamplingParams
    ) -> Groups:
        """Completions of other prompts by the policy as it is; the journal knows nothing of them.

        The engine is brought up to date first, as it would be for the next rollouts.
        """
        if self._behind:
            self.engine.update_weights()
            self._behind = False
        return self.engine.generate(requests, seeds, params)

    def rollouts(
        self,
        step: int,
        samples: Sequence[Sample],
        redraw: int = 0,
        places: Sequence[int] | None = None,
    ) -> tuple[list[Request | None], Groups]:
        """Requests and their completions, [prompts][group]; ``redraw`` is the round, 0 the first.

        Each round has a journal entry of its own and random numbers of its own. Each rank draws
        for its share of the batch's ``places`` (default: the samples' own order) and is told all
        completions; it has the requests of its share alone.
        """
        ctx = self._ctx
        key = f"s{step}/rollouts" + (f"-redraw{redraw}" if redraw else "")
        stream = ("rollout", step, "redraw", redraw) if redraw else ("rollout", step)
        if places is None:
            places = range(len(samples))
        own = [i for i, place in enumerate(places) if ctx.ranks.owns(place)]
        requests: list[Request | None] = [None] * len(samples)
        with ctx.phase("data"):
            asked = [request(self.prompts[samples[i].id], samples[i]) for i in own]
            for i, one in zip(own, asked, strict=True):
                requests[i] = one
            if self._show is not None:
                self._show([image for r in asked for image in r.images], more=redraw > 0)
            kept = ctx.ranks.share_bytes(ctx.run.journal_get(key) if ctx.ranks.leads else None)
        prompts = [self.prompts[s.id] for s in samples]
        ctx.work.see(samples, prompts)
        if kept is not None:
            return requests, from_bytes(bytes(kept), self._params.samples)
        if self._behind:
            with ctx.phase("sync"):
                self.engine.update_weights()
            self._behind = False
        with ctx.phase("generate"):
            seeds = [derive_seed(ctx.seed, *stream, i, samples[i].id) for i in own]
            groups = self._joined(self.engine.generate(asked, seeds, self._params), places)
            if ctx.ranks.leads:
                ctx.probe("before-journal")
                ctx.run.journal_put(key, to_bytes(groups))
        drawn = sum(len(c.tokens) for group in groups for c in group)
        ctx.count_tokens(completion=drawn, prompt=sum(len(p.tokens) for p in prompts))
        ctx.work.draw(prompts, groups)
        for completion in (c for group in groups for c in group):
            ctx.metrics.observe("m2r_completion_tokens", len(completion.tokens))
        ctx.metrics.inc("m2r_samples_total", len(groups) * self._params.samples)
        return requests, groups

    def _joined(self, own: Groups, places: Sequence[int]) -> Groups:
        """All ranks' groups, in the order of their places."""
        if self._ctx.ranks.size == 1:
            return own
        parts = self._ctx.ranks.gather_bytes(to_bytes(own))
        drawn = [iter(from_bytes(part, self._params.samples)) for part in parts]
        return [next(drawn[place % len(drawn)]) for place in places]


def to_bytes(groups: Groups) -> bytes:
    """Completions as safetensors: no pickle, and log-probabilities bit for bit."""
    flat = [c for group in groups for c in group]
    data: bytes = save_tensors(
        {
            "tokens": torch.tensor([t for c in flat for t in c.tokens], dtype=torch.int32),
            "logprobs": torch.tensor([p for c in flat for p in c.logprobs], dtype=torch.float32),
            "lengths": torch.tensor([len(c.tokens) for c in flat], dtype=torch.int32),
            "truncated": torch.tensor([c.truncated for c in flat], dtype=torch.uint8),
        }
    )
    return data


def from_bytes(data: bytes, samples: int) -> Groups:
    """The inverse of ``to_bytes`` for groups of ``samples``."""
    kept = load_tensors(data)
    tokens, logprobs = kept["tokens"].tolist(), kept["logprobs"].tolist()
    flat, start = [], 0
    for length, cut in zip(kept["lengths"].tolist(), kept["truncated"].tolist(), strict=True):
        end = start + length
        flat.append(Completion(tuple(tokens[start:end]), tuple(logprobs[start:end]), bool(cut)))
        start = end
    return [flat[i : i + samples] for i in range(0, len(flat), samples)]
