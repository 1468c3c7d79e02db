"""RLVRJob: GRPO with verifiable rewards over several tasks (paper sections 3.1.2 to 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from m2r_train.api.common import Checkpoint, Engine, JobSpec, Parallelism, Schedule
from m2r_train.api.heldout import HeldOut
from m2r_train.api.ownreward import OwnReward
from m2r_train.api.refs import DatasetRef, Metadata, ModelRef
from m2r_train.api.schema import (
    API_VERSION,
    CorrectionKind,
    Count,
    Model,
    MonitorAction,
    PositiveCount,
    Ratio,
    Rule,
    Unbounded,
    WeightKind,
    list_map,
    unique_keys,
)
from m2r_train.api.sft import Beta, LearningRate
from m2r_train.api.status import JobStatus
from m2r_train.api.tuning import LearningRateSchedule, Tuning, tuning_rules

TEMPERATURE_FLOOR = 0.01
Epsilon = Annotated[float, Field(ge=1e-12, le=1)]
Factor = Annotated[float, Field(ge=0, le=1000)]


LossKind = Literal["Grpo", "DrGrpo", "Dapo", "Gspo", "Cispo"]


class ImportanceSampling(Model):
    """Weights for the gap between the engine that samples and the trainer's own numbers."""

    kind: CorrectionKind | None = Field(
        default=None,
        description=(
            "What is done above max. Left out: TruncateToken with vllm, Off with inprocess."
        ),
    )
    max: Annotated[float, Field(ge=1, le=1000)] = Field(
        default=2.0, description="Largest weight pi_trainer / pi_sampler."
    )


class DynamicSampling(Model):
    """Prompts that teach nothing are replaced by further ones (DAPO)."""

    max_rounds: Annotated[int, Field(ge=0, le=64)] | None = Field(
        default=None,
        description=(
            "Rounds in which prompts without signal are replaced. Left out: 3 with Dapo, else 0."
        ),
    )


class Rollout(Model):
    """How completions are sampled."""

    engine: Engine = Field(
        default="vllm", description="vllm, or inprocess generation with the training weights."
    )
    group_size: Annotated[int, Field(ge=2, le=1024)] = Field(
        default=8, description="Completions of each prompt; advantages compare within a group."
    )
    prompts_per_step: Annotated[int, Field(ge=1, le=65536)] = Field(
        default=256, description="Prompts of one step."
    )
    max_completion_tokens: Annotated[int, Field(ge=1, le=131072)] = Field(
        default=1024, description="Longest completion in tokens."
    )
    temperature: Annotated[float, Field(ge=TEMPERATURE_FLOOR, le=10)] = Field(
        default=1.0, description="Sampling temperature."
    )
    importance_sampling: ImportanceSampling = Field(
        default_factory=ImportanceSampling, description="Weights for the sampler's gap."
    )
    dynamic_sampling: DynamicSampling = Field(
        default_factory=DynamicSampling, description="Replacement of prompts without signal."
    )


class EdnmTask(Model):
    """Other EDNM parameters for one task."""

    gamma: Factor | None = Field(default=None, description="Left out: the common gamma.")
    lambda_: Factor | None = Field(default=None, description="Left out: the common lambda.")


class Ednm(Model):
    """Exponential decay numeric matching: gamma * exp(-lambda * relative error) (Eq. 9)."""

    kind: Literal["Ednm", "Binary"] = Field(
        default="Ednm", description="Binary scores numbers as right or wrong, for comparison."
    )
    gamma: Factor = Field(default=1.0, description="Reward of an exact answer.")
    lambda_: Factor = Field(default=2.0, description="How fast the reward falls with the error.")
    epsilon: Epsilon = Field(default=1e-8, description="Guards the division by a truth of 0.")
    per_task: Mapping[str, EdnmTask] = Field(
        default_factory=dict, max_length=64, description="Parameters by the sample's task."
    )


class Overlong(Model):
    """Penalty for completions close to the limit (DAPO, Eq. 13)."""

    buffer_tokens: Count | None = Field(
        default=None,
        description=(
            "Tokens before the limit that cost. Left out: a fifth of it with Dapo, else 0 (off)."
        ),
    )
    penalty: Factor = Field(default=1.0, description="Penalty at the limit.")


class Short(Model):
    """Penalty for completions that are too short to reason."""

    min_tokens: Count = Field(
        default=0, description="Tokens below which the penalty rises; 0 turns it off."
    )
    penalty: Factor = Field(default=1.0, description="Penalty of an empty completion.")


class Repetition(Model):
    """Penalty by the share of repeated n-grams of tokens."""

    penalty: Factor = Field(
        default=0.0, description="Penalty where everything repeats; 0 turns it off."
    )
    ngram: Annotated[int, Field(ge=1, le=256)] = Field(
        default=4, description="Tokens of an n-gram."
    )
    tolerance: Ratio = Field(default=0.2, description="Share of repetitions that costs nothing.")


class Rewards(Model):
    """What a completion earns: its task's reward, and a little for the format."""

    ednm: Ednm = Field(default_factory=Ednm, description="Reward of numeric spatial answers.")
    format_weight: Factor = Field(default=0.1, description="Weight of the format reward.")
    strict_format: bool = Field(
        default=False, description="Whether the format reward also asks for a boxed answer."
    )
    overlong: Overlong = Field(
        default_factory=Overlong, description="Penalty for completions close to the limit."
    )
    short: Short = Field(default_factory=Short, description="Penalty for short completions.")
    repetition: Repetition = Field(
        default_factory=Repetition, description="Penalty for completions that repeat themselves."
    )
    own: tuple[OwnReward, ...] = Field(
        default=(),
        max_length=16,
        json_schema_extra=list_map("name"),
        description="Rewards of your own, each a function in a Python file (docs/own-rewards.md).",
    )
    rules = (
        unique_keys("own", "own", "name"),
        Rule(
            path="own",
            cel="self.own.filter(r, r.use == 'Replace').size() <= 1",
            message="at most one may have use: Replace; let the others Add",
            check=lambda r: sum(one.use == "Replace" for one in r.own) <= 1,
        ),
    )


class AdvantageWeight(Model):
    """Weight by group accuracy: sigma * acc * (1 - acc) (Eq. 6)."""

    kind: WeightKind = Field(default="Eq6", description="Off gives every group the weight 1.")
    sigma: Factor = Field(default=4.0, description="Scale; 4 makes the largest weight 1.")


class Kl(Model):
    """Coefficient of the KL term over the run (Eq. 7)."""

    schedule: Schedule = Field(
        default="Cosine",
        description="Cosine and Linear go from start to end; Constant stays at start.",
    )
    start: Factor = Field(default=0.04, description="Coefficient at the first step.")
    end: Factor = Field(default=0.0, description="Coefficient that it reaches after the last step.")
    estimator: Literal["K1", "K2", "K3"] = Field(
        default="K3",
        description="Estimate per token: K3 is never negative; K1 has K2's gradient.",
    )

    @property
    def ever(self) -> bool:
        """Whether any step has a KL term."""
        return bool(self.start or (self.schedule != "Constant" and self.end))


class Clip(Model):
    """How far the probability ratio may move in one update."""

    low: Ratio | None = Field(
        default=None,
        description="Ratios below 1 - low are clipped. Left out: 0.2; Gspo 0.0003; Cispo 1.",
    )
    high: Factor | None = Field(
        default=None,
        description=(
            "Ratios above 1 + high are clipped. Left out: 0.2; Dapo 0.28; Gspo 0.0004; Cispo 4."
        ),
    )


class Optimization(Tuning):
    """The GRPO update."""

    loss: LossKind = Field(
        default="Grpo",
        description=(
            "Grpo as the paper; also says what fields that are left out mean (docs/losses.md)."
        ),
    )
    learning_rate: LearningRate = Field(default=1e-6, description="Peak learning rate.")
    warmup_steps: Count = Field(default=0, description="Steps over which the learning rate rises.")
    schedule: LearningRateSchedule = Field(
        default="Constant",
        description="Learning rate after the warm-up; Wsd is stable, then decays (decayRatio).",
    )
    min_learning_rate_ratio: Ratio = Field(
        default=0.1, description="Learning rate at the end, as a share of the peak."
    )
    weight_decay: Ratio = Field(default=0.0, description="AdamW's weight decay.")
    adam_beta1: Beta = Field(default=0.9, description="AdamW's beta 1.")
    adam_beta2: Beta = Field(default=0.95, description="AdamW's beta 2.")
    gradient_clip: Unbounded = Field(
        default=1.0, description="Largest gradient norm; 0 means no clipping."
    )
    freeze_vision: bool = Field(
        default=True, description="Whether the vision encoder and its projector stay as they are."
    )
    advantage_weight: AdvantageWeight = Field(
        default_factory=AdvantageWeight, description="Weight of a group by its accuracy."
    )
    advantage_std: Literal["Population", "Sample", "None"] | None = Field(
        default=None,
        description="Deviation that advantages are divided by. Left out: Population; DrGrpo None.",
    )
    advantage_epsilon: Epsilon = Field(
        default=1e-4, description="Added to that standard deviation."
    )
    kl: Kl = Field(default_factory=Kl, description="Coefficient of the KL term.")
    clip: Clip = Field(default_factory=Clip, description="Bounds of the probability ratio.")
    loss_normalization: Literal["Sequence", "Token", "Constant"] | None = Field(
        default=None,
        description="What is averaged. Left out: Sequence; Dapo and Cispo Token; DrGrpo Constant.",
    )
    mask_truncated: bool = Field(
        default=False,
        description="Whether completions cut at the limit are left out of the loss.",
    )
    updates_per_batch: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="Optimiser steps on each batch of rollouts."
    )
    rules = tuning_rules()


class Monitors(Model):
    """Signs of a collapse, in means over some steps; a threshold of 0 turns a sign off."""

    action: MonitorAction = Field(
        default="Warn", description="Warn tells of a sign, Stop also ends the run as failed."
    )
    window_steps: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=20, description="Steps that a mean is taken over."
    )
    repetition: Ratio = Field(default=0.5, description="Share of completions in a loop.")
    short_chains: Ratio = Field(
        default=0.25, description="Completion length, as a share of that of the first steps."
    )
    truncated: Ratio = Field(default=0.9, description="Share of completions cut at the limit.")
    entropy: Ratio = Field(
        default=0.1, description="Entropy, as a share of that of the first steps."
    )
    no_signal: Ratio = Field(
        default=0.95, description="Share of groups whose completions all earn the same."
    )
    kl: Factor = Field(default=10.0, description="KL to the reference, in nats a token.")


class Curriculum(Model):
    """Which prompts come when (section 3.1.2)."""

    order: Literal["Ascending", "Shuffled", "Descending"] = Field(
        default="Ascending", description="Order by difficulty."
    )
    task_sampling: Literal["Uniform", "Proportional"] = Field(
        default="Uniform", description="How a batch's task is drawn."
    )
    batch_tasks: Literal["One", "Mixed"] = Field(
        default="One", description="Whether a batch holds one task or several."
    )


class Traces(Model):
    """What is kept of the model's words: whole groups, with what each completion earned."""

    every: PositiveCount | None = Field(
        default=None,
        description="Steps from trace to trace. Left out: as many as give at most 500 in a run.",
    )
    per_step: Annotated[int, Field(ge=0, le=1024)] = Field(
        default=2, description="Prompts of such a step that are kept; 0 keeps none."
    )


class RLVRCheckpoint(Checkpoint):
    """How often state is saved; a preempted run also saves when it is asked to stop."""

    every_steps: PositiveCount = Field(
        default=20, description="Steps between two checkpoints; with Auto the most."
    )


class RLVRSpec(JobSpec):
    """What to train, on what, and how."""

    model: ModelRef = Field(description="Policy to start from; also the KL reference.")
    dataset: DatasetRef = Field(description="Questions with verifiable answers.")
    steps: PositiveCount = Field(default=1000, description="Steps of rollout and update.")
    rollout: Rollout = Field(default_factory=Rollout, description="How completions are sampled.")
    rewards: Rewards = Field(default_factory=Rewards, description="What a completion earns.")
    optimization: Optimization = Field(default_factory=Optimization, description="The GRPO update.")
    curriculum: Curriculum = Field(
        default_factory=Curriculum, description="Which prompts come when."
    )
    monitors: Monitors = Field(
        default_factory=Monitors, description="Signs of a collapse, and what is done then."
    )
    traces: Traces = Field(
        default_factory=Traces, description="What the model was asked and said, step by step."
    )
    checkpoint: RLVRCheckpoint = Field(
        default_factory=RLVRCheckpoint, description="How often state is saved."
    )
    evaluation: HeldOut | None = Field(
        default=None, description="Greedy accuracy during training; left out: none."
    )
    parallelism: Parallelism = Field(
        default_factory=Parallelism, description="How the processes of the run share the model."
    )
    rules = (
        *JobSpec.rules,
        Rule(
            path="optimization.warmupSteps",
            cel="self.optimization.warmupSteps <= self.steps",
            message="must not be more than steps; lower it or raise steps",
            check=lambda s: s.optimization.warmup_steps <= s.steps,
        ),
        Rule(
            path="rewards.overlong.bufferTokens",
            cel=(
                "!has(self.rewards.overlong.bufferTokens) || "
                "self.rewards.overlong.bufferTokens <= self.rollout.maxCompletionTokens"
            ),
            message="must not be more than rollout.maxCompletionTokens; lower it",
            check=lambda s: (
                (s.rewards.overlong.buffer_tokens or 0) <= s.rollout.max_completion_tokens
            ),
        ),
        Rule(
            path="rewards.short.minTokens",
            cel="self.rewards.short.minTokens <= self.rollout.maxCompletionTokens",
            message="must not be more than rollout.maxCompletionTokens; lower it",
            check=lambda s: s.rewards.short.min_tokens <= s.rollout.max_completion_tokens,
        ),
    )


class RLVRJob(Model):
    """Trains a policy with GRPO on verifiable rewards."""

    api_version: Literal["m2r.dev/v1alpha1"] = API_VERSION
    kind: Literal["RLVRJob"] = "RLVRJob"
    metadata: Metadata
    spec: RLVRSpec
    status: JobStatus | None = None
