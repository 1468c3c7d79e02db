"""What a run's spec asks of an update: rewards, advantages, loss, all defaults filled in.

One field names the loss (``optimization.loss``); a plan says what it brings with it. A field that
the spec sets itself has the last word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from m2r_train.api.rlvr import LossKind, RLVRSpec
from m2r_train.core.advantages import StdKind
from m2r_train.core.losses import KlEstimator, Normalization, Surrogate
from m2r_train.core.offpolicy import Correction
from m2r_train.core.rewards import EdnmOverride, RewardConfig
from m2r_train.core.shaping import OFF, Shaping


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What a loss brings with it; the defaults are the paper's GRPO."""

    surrogate: Surrogate = "TokenRatio"
    std: StdKind = "Population"
    normalization: Normalization = "Sequence"
    clip_low: float = 0.2
    clip_high: float = 0.2
    redraw_rounds: int = 0
    overlong_share: float = 0.0  # of the completion limit: where the penalty begins, from the end


_PLANS: Mapping[LossKind, _Plan] = MappingProxyType(
    {
        "Grpo": _Plan(),  # arXiv 2402.03300
        "DrGrpo": _Plan(std="None", normalization="Constant"),  # arXiv 2503.20783
        "Dapo": _Plan(  # arXiv 2503.14476
            normalization="Token", clip_high=0.28, redraw_rounds=3, overlong_share=0.2
        ),
        "Gspo": _Plan(surrogate="SequenceRatio", clip_low=3e-4, clip_high=4e-4),  # 2507.18071
        "Cispo": _Plan(  # arXiv 2506.13585
            surrogate="ClippedWeight", normalization="Token", clip_low=1.0, clip_high=4.0
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What is rewarded and how it becomes a loss."""

    rewards: RewardConfig
    sigma: float | None
    std: StdKind
    std_epsilon: float
    clip_low: float
    clip_high: float
    normalization: Normalization
    updates: int
    temperature: float
    surrogate: Surrogate = "TokenRatio"
    kl_estimator: KlEstimator = "K3"
    shaping: Shaping = OFF
    mask_truncated: bool = False
    max_tokens: int = 0
    correction: Correction | None = None  # of the sampler's gap
    correction_max: float = 2.0
    redraw_rounds: int = 0

    @classmethod
    def of(cls, spec: RLVRSpec) -> Objective:
        """The objective that a spec describes; what it leaves out is as its ``loss`` says."""
        ednm, opt, rollout = spec.rewards.ednm, spec.optimization, spec.rollout
        weight, plan = opt.advantage_weight, _PLANS[opt.loss]
        rounds, kind = rollout.dynamic_sampling.max_rounds, rollout.importance_sampling.kind
        if kind is None:
            kind = "TruncateToken" if rollout.engine == "vllm" else "Off"
        return cls(
            rewards=RewardConfig(
                kind=ednm.kind,
                gamma=ednm.gamma,
                lambda_=ednm.lambda_,
                epsilon=ednm.epsilon,
                per_task={
                    task: EdnmOverride(gamma=own.gamma, lambda_=own.lambda_)
                    for task, own in ednm.per_task.items()
                },
                format_weight=spec.rewards.format_weight,
                strict_format=spec.rewards.strict_format,
            ),
            sigma=weight.sigma if weight.kind == "Eq6" else None,
            std=opt.advantage_std or plan.std,
            std_epsilon=opt.advantage_epsilon,
            clip_low=plan.clip_low if opt.clip.low is None else opt.clip.low,
            clip_high=plan.clip_high if opt.clip.high is None else opt.clip.high,
            normalization=opt.loss_normalization or plan.normalization,
            updates=opt.updates_per_batch,
            temperature=rollout.temperature,
            surrogate=plan.surrogate,
            kl_estimator=opt.kl.estimator,
            shaping=_shaping(spec, plan),
            mask_truncated=opt.mask_truncated,
            max_tokens=rollout.max_completion_tokens,
            correction=None if kind == "Off" else kind,
            correction_max=rollout.importance_sampling.max,
            redraw_rounds=plan.redraw_rounds if rounds is None else rounds,
        )


def _shaping(spec: RLVRSpec, plan: _Plan) -> Shaping:
    rewards, limit = spec.rewards, spec.rollout.max_completion_tokens
    buffer = rewards.overlong.buffer_tokens
    shaping = Shaping(
        max_tokens=limit,
        buffer_tokens=round(plan.overlong_share * limit) if buffer is None else buffer,
        overlong_penalty=rewards.overlong.penalty,
        min_tokens=rewards.short.min_tokens,
        short_penalty=rewards.short.penalty,
        ngram=rewards.repetition.ngram,
        tolerance=rewards.repetition.tolerance,
        repetition_penalty=rewards.repetition.penalty,
    )
    return shaping if shaping.is_on else OFF
