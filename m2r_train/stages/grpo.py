"""One GRPO update: completions -> rewards -> advantages -> loss -> optimiser step.

Shapes: B prompts, G completions of each, N completion tokens of a micro-batch in row order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean, pstdev
from typing import Any, cast

import torch
from torch import Tensor

from m2r_train.core.advantages import GroupAdvantages, weighted_advantages
from m2r_train.core.losses import grpo_loss
from m2r_train.core.offpolicy import sampler_correction
from m2r_train.core.packing import Branch, PackedRows, Row, cells, pack_rows
from m2r_train.core.records import Sample
from m2r_train.core.repetition import has_repetition
from m2r_train.core.rewards import Reward, score
from m2r_train.core.shaping import Shaping, shaping_reward
from m2r_train.engine.base import Engine
from m2r_train.engine.ranks import ALONE, Ranks
from m2r_train.model.policy import Policy, Request
from m2r_train.model.vision import Picture
from m2r_train.rollout.base import Completion
from m2r_train.stages.engines import extra_passes, logprobs
from m2r_train.stages.feeding import micro_batches
from m2r_train.stages.objective import Objective
from m2r_train.telemetry.metrics import OWN

Adjust = Callable[[Sample, str, Reward], Reward]
"""From a sample, a completion's text and its reward by the rules to its reward."""

_CELLS = 4096  # tokens of a micro-batch: about a core's cache; no gradient changes


@dataclass(frozen=True, slots=True)
class Scored:
    """A step's completions with everything that the update and the records need, [B][G]."""

    samples: Sequence[Sample]
    groups: Sequence[Sequence[Completion]]
    texts: list[list[str]]
    rewards: list[list[Reward]]
    advantages: list[GroupAdvantages]


@dataclass(frozen=True, slots=True)
class UpdateStats:
    """The last pass's loss and gradient norm, and means over the tokens that its loss went over.

    ``logp_diff`` is of the policy that drew, whatever later passes made of it; ``gap`` are the
    figures of ``core.offpolicy``, where the sampler's gap is corrected; ``padding`` is the share of
    the computed cells that hold no token.
    """

    loss: float
    grad_norm: float
    kl: float
    entropy: float
    clip_ratio: float
    logp_diff: float
    gap: dict[str, float] = field(default_factory=dict)
    padding: float = 0.0


def score_groups(
    policy: Policy,
    samples: Sequence[Sample],
    groups: Sequence[Sequence[Completion]],
    objective: Objective,
    ranks: Ranks = ALONE,
    adjusted: Adjust = lambda _sample, _text, reward: reward,
) -> Scored:
    """Rewards and weighted advantages of every completion; each rank scores its share.

    ``adjusted`` adds what the user's rewards say to those of the rules, before any penalty.
    """
    own = [i for i in range(len(samples)) if ranks.owns(i)]
    told = ranks.gather([_score(policy, samples[i], groups[i], objective, adjusted) for i in own])
    each = [told[i % ranks.size][i // ranks.size] for i in range(len(samples))]
    texts = [group for group, _ in each]
    rewards = [[Reward(**fields) for fields in group] for _, group in each]
    advantages = [
        weighted_advantages(
            [r.total for r in own],
            [r.accuracy for r in own],
            sigma=objective.sigma,
            std=objective.std,
            epsilon=objective.std_epsilon,
        )
        for own in rewards
    ]
    return Scored(samples, groups, texts, rewards, advantages)


def _score(
    policy: Policy,
    sample: Sample,
    group: Sequence[Completion],
    objective: Objective,
    adjusted: Adjust,
) -> tuple[list[str], list[dict[str, Any]]]:
    """Texts of a group, and their rewards as JSON values."""
    s, texts = sample, [policy.decode(c.tokens) for c in group]
    rewards = [
        adjusted(s, t, score(s.task, s.reward, s.answer, s.answer_type, t, objective.rewards))
        for t in texts
    ]
    if objective.shaping.is_on:
        rewards = [_shaped(r, c, objective.shaping) for r, c in zip(rewards, group, strict=True)]
    return texts, [asdict(r) for r in rewards]


def _shaped(reward: Reward, completion: Completion, shaping: Shaping) -> Reward:
    return replace(reward, total=reward.total + shaping_reward(completion.tokens, shaping))


def reference_of(policy: Policy) -> Policy:
    """The policy as the run starts, for the KL term: it costs no memory where adapters learn."""
    return policy.copy() if policy.adapters is None else policy.start()


def update(
    policy: Policy,
    reference: Policy | None,
    engine: Engine,
    requests: Sequence[Request | None],
    scored: Scored,
    objective: Objective,
    kl_coefficient: float,
    learning_rate: float,
    look: Callable[[], None] = lambda: None,
    ranks: Ranks = ALONE,
) -> UpdateStats:
    """One batch's update(s) with the objective's loss (``core.losses.grpo_loss``).

    Each rank goes over the groups whose requests it has; the figures are those of all ranks.

    ``look`` is called before each micro-batch until a parameter changes; what it raises ends the
    update with all parameters as they were.

    A group without an advantage is left out of the passes while there is no KL to pay; it still
    counts in the normaliser, so leaving it out changes time and no gradient.
    """
    live = {
        i: request
        for i, request in enumerate(requests)
        if request is not None and teaches(scored.advantages[i], kl_coefficient)
    }
    lengths = [_row(request, scored.groups[i]).length for i, request in live.items()]
    numbers = list(live)
    parts = [[numbers[j] for j in run] for run in micro_batches(lengths, _CELLS)]
    normalizer = _normalizer(scored, objective)
    means: list[tuple[float, dict[str, float]]] = []
    real = len(parts)
    if empty := extra_passes(engine, ranks, real):
        first = next(i for i, request in enumerate(requests) if request is not None)
        live.setdefault(first, cast("Request", requests[first]))
        parts += [[first]] * empty
    old: list[Tensor | None] = [None] * len(parts)
    packs: list[PackedRows] = []
    loss, norm = 0.0, 0.0
    for number in range(objective.updates):
        loss, means = 0.0, []
        for p, part in enumerate(parts):
            if number == 0:
                look()
            batch = _Batch.of(live, scored, part, objective).to(policy.device)
            logp_N, entropy_N = logprobs(
                engine, policy, batch.packed, batch.images, objective.temperature, entropies=True
            )
            if p >= real:
                engine.backward(0.0 * logp_N.sum())
                continue
            if old[p] is None:
                old[p] = logp_N.detach()
                packs.append(batch.packed)
            old_BT = batch.padded(_present(old[p]))
            correction_BT, gap = _correction(old_BT, batch, objective)
            part_loss, stats = grpo_loss(
                batch.padded(logp_N),
                old_BT,
                _reference_logp(reference, batch, objective.temperature, kl_coefficient),
                batch.advantages_B,
                batch.mask_BT,
                objective.clip_low,
                objective.clip_high,
                kl_coefficient if reference is not None else 0.0,
                objective.normalization,
                normalizer,
                surrogate=objective.surrogate,
                kl_estimator=objective.kl_estimator,
                correction_BT=correction_BT,
            )
            engine.backward(part_loss)
            loss += part_loss.item()
            figures = _figures(stats, entropy_N, _present(old[p]), batch) | gap
            means.append((float(stats["tokens"]), figures))
        norm = engine.step(learning_rate)
    told = ranks.gather([loss, means, cells(packs)])
    loss = math.fsum(own for own, _, _ in told)
    means = [(tokens, figures) for _, own, _ in told for tokens, figures in own]
    padded, computed = (sum(own[k] for _, _, own in told) for k in (0, 1))
    return UpdateStats(
        loss=loss,
        grad_norm=norm,
        kl=_mean(means, "kl"),
        entropy=_mean(means, "entropy"),
        clip_ratio=_mean(means, "clip_ratio"),
        logp_diff=_mean(means, "logp_diff"),
        gap=_gap(means) if objective.correction is not None else {},
        padding=padded / computed if computed else 0.0,
    )


def teaches(own: GroupAdvantages, kl_coefficient: float) -> bool:
    """Whether a group has a gradient: by an advantage, or by the KL that is paid for it."""
    return bool(kl_coefficient) or any(a != 0.0 for a in own.advantages)


def step_record(scored: Scored, stats: UpdateStats, task: str) -> dict[str, float | int | str]:
    """What the history keeps of a step (keys: ``telemetry.history``)."""
    rewards = [r for own in scored.rewards for r in own]
    completions = [c for group in scored.groups for c in group]
    texts = [t for own in scored.texts for t in own]
    record: dict[str, float | int | str] = {
        "task": task,
        "prompts": len(scored.samples),
        "reward": fmean(r.total for r in rewards),
        "reward_std": pstdev(r.total for r in rewards),
        "accuracy": fmean(r.accuracy for r in rewards),
        "format_valid": fmean(r.format for r in rewards),
        "completion_tokens": fmean(len(c.tokens) for c in completions),
        "truncated": fmean(c.truncated for c in completions),
        "repetition": fmean(has_repetition(t) for t in texts),
        "zero_signal": fmean(not a.has_signal for a in scored.advantages),
        "advantage_weight": fmean(a.weight for a in scored.advantages),
        "loss": stats.loss,
        "grad_norm": stats.grad_norm,
        "kl": stats.kl,
        "entropy": stats.entropy,
        "clip_ratio": stats.clip_ratio,
        "sampler_logp_diff": stats.logp_diff,
        "padding": stats.padding,
        **stats.gap,
    }
    for kind in ("exact", "ednm"):
        own = [
            r.task
            for sample, group in zip(scored.samples, scored.rewards, strict=True)
            if sample.reward == kind
            for r in group
            if not r.replaced
        ]
        if own:
            record[kind] = fmean(own)
    for name in rewards[0].own:
        record[OWN + name] = fmean(r.own[name] for r in rewards)
    return record


@dataclass(frozen=True, slots=True)
class _Batch:
    packed: PackedRows
    images: list[Picture]
    advantages_B: Tensor
    sampled_N: Tensor  # the sampler's log-probabilities
    mask_BT: Tensor

    @classmethod
    def of(
        cls,
        requests: Mapping[int, Request],
        scored: Scored,
        part: Sequence[int],
        objective: Objective,
    ) -> _Batch:
        packed = pack_rows([_row(requests[i], scored.groups[i]) for i in part])
        longest = int(packed.offset_N.max()) + 1
        mask = torch.zeros((packed.branches, longest), dtype=torch.bool)
        mask[packed.branch_N, packed.offset_N] = True
        mask &= torch.tensor([[_counts(c, objective)] for i in part for c in scored.groups[i]])
        return cls(
            packed,
            [image for i in part for image in requests[i].images],
            torch.tensor([a for i in part for a in scored.advantages[i].advantages]),
            torch.tensor([p for i in part for c in scored.groups[i] for p in c.logprobs]),
            mask,
        )

    def to(self, device: torch.device) -> _Batch:
        """The same where the policy computes; pictures go there when they are seen."""
        return replace(
            self,
            packed=self.packed.to(device),
            advantages_B=self.advantages_B.to(device),
            sampled_N=self.sampled_N.to(device),
            mask_BT=self.mask_BT.to(device),
        )

    def see(self, policy: Policy) -> Tensor:
        return policy.see(self.images)

    def padded(self, values_N: Tensor) -> Tensor:
        """(B * G, T) from the flat order of targets."""
        out = values_N.new_zeros(self.mask_BT.shape)
        return out.index_put((self.packed.branch_N, self.packed.offset_N), values_N)


def _row(request: Request, group: Sequence[Completion]) -> Row:
    prompt = request.prompt
    return Row(prompt.tokens, prompt.positions, tuple(Branch(c.tokens) for c in group))


def _reference_logp(
    reference: Policy | None, batch: _Batch, temperature: float, coefficient: float
) -> Tensor | None:
    if reference is None or not coefficient:
        return None
    with torch.no_grad():
        logp_N, _ = reference.logprobs(batch.packed, batch.see(reference), temperature)
    return batch.padded(logp_N)


def _normalizer(scored: Scored, objective: Objective) -> float:
    """What the whole step's losses are divided by."""
    completions = [c for group in scored.groups for c in group]
    if objective.normalization == "Sequence":
        return float(len(completions))
    if objective.normalization == "Constant":
        return float(len(completions) * objective.max_tokens)
    return float(sum(len(c.tokens) for c in completions if _counts(c, objective)))


def _counts(completion: Completion, objective: Objective) -> bool:
    """Whether a completion's tokens are in the loss."""
    return not (objective.mask_truncated and completion.truncated)


def _figures(
    stats: dict[str, Tensor], entropy_N: Tensor, old_N: Tensor, batch: _Batch
) -> dict[str, float]:
    live_N = batch.mask_BT[batch.packed.branch_N, batch.packed.offset_N]
    return {
        "kl": float(stats["kl"]),
        "clip_ratio": float(stats["clip_ratio"]),
        "entropy": _mean_where(live_N, entropy_N),
        "logp_diff": _mean_where(live_N, (old_N - batch.sampled_N).abs()),
    }


def _mean_where(live_N: Tensor, values_N: Tensor) -> float:
    return float(values_N[live_N].mean()) if bool(live_N.any()) else 0.0


def _correction(
    old_BT: Tensor, batch: _Batch, objective: Objective
) -> tuple[Tensor | None, dict[str, float]]:
    """Weights for the sampler's gap and figures about it; nothing where it is not corrected."""
    if objective.correction is None:
        return None, {}
    sampled_BT = batch.padded(batch.sampled_N)
    return sampler_correction(
        old_BT, sampled_BT, batch.mask_BT, objective.correction, objective.correction_max
    )


def _gap(means: Sequence[tuple[float, dict[str, float]]]) -> dict[str, float]:
    return {
        "sampler_ratio": _mean(means, "sampler_ratio"),
        "sampler_ratio_max": max((m["sampler_ratio_max"] for _, m in means), default=1.0),
        "sampler_ratio_cut": _mean(means, "sampler_ratio_cut"),
    }


def _mean(means: Sequence[tuple[float, dict[str, float]]], key: str) -> float:
    tokens = math.fsum(n for n, _ in means)
    return math.fsum(n * m[key] for n, m in means) / tokens if tokens else 0.0


def _present(value: Tensor | None) -> Tensor:
    assert value is not None
    return value
