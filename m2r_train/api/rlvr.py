"""RLVRJob: GRPO with verifiable rewards over several tasks (paper sections 3.1.2 to 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from m2r_train.api.common import Checkpoint, Engine, JobSpec, Schedule
from m2r_train.api.refs import DatasetRef, Metadata, ModelRef
from m2r_train.api.schema import (
    API_VERSION,
    Count,
    Model,
    PositiveCount,
    Ratio,
    Rule,
    Unbounded,
    WeightKind,
)
from m2r_train.api.sft import Beta, LearningRate
from m2r_train.api.status import JobStatus

TEMPERATURE_FLOOR = 0.01
Epsilon = Annotated[float, Field(ge=1e-12, le=1)]
Factor = Annotated[float, Field(ge=0, le=1000)]


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


class Rewards(Model):
    """What a completion earns: its task's reward, and a little for the format."""

    ednm: Ednm = Field(default_factory=Ednm, description="Reward of numeric spatial answers.")
    format_weight: Factor = Field(default=0.1, description="Weight of the format reward.")
    strict_format: bool = Field(
        default=False, description="Whether the format reward also asks for a boxed answer."
    )


class AdvantageWeight(Model):
    """Weight by group accuracy: sigma * acc * (1 - acc) (Eq. 6)."""

    kind: WeightKind = Field(default="Eq6", description="Off gives every group the weight 1.")
    sigma: Factor = Field(default=4.0, description="Scale; 4 makes the largest weight 1.")


class Kl(Model):
    """Coefficient of the KL term over the run (Eq. 7)."""

    schedule: Schedule = Field(
        default="Cosine", description="Cosine goes from start to end; Constant stays at start."
    )
    start: Factor = Field(default=0.04, description="Coefficient at the first step.")
    end: Factor = Field(default=0.0, description="Coefficient at the last step.")


class Clip(Model):
    """How far the probability ratio may move in one update."""

    low: Ratio = Field(default=0.2, description="Ratios below 1 - low are clipped.")
    high: Factor = Field(default=0.2, description="Ratios above 1 + high are clipped.")


class Optimization(Model):
    """The GRPO update."""

    learning_rate: LearningRate = Field(default=1e-6, description="Peak learning rate.")
    warmup_steps: Count = Field(default=0, description="Steps over which the learning rate rises.")
    schedule: Schedule = Field(default="Constant", description="Learning rate after the warm-up.")
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
        default=True, description="Whether the vision encoder stays as it is."
    )
    advantage_weight: AdvantageWeight = Field(
        default_factory=AdvantageWeight, description="Weight of a group by its accuracy."
    )
    advantage_std: Literal["Population", "Sample", "None"] = Field(
        default="Population", description="Standard deviation that advantages are divided by."
    )
    advantage_epsilon: Epsilon = Field(
        default=1e-4, description="Added to that standard deviation."
    )
    kl: Kl = Field(default_factory=Kl, description="Coefficient of the KL term.")
    clip: Clip = Field(default_factory=Clip, description="Bounds of the probability ratio.")
    loss_normalization: Literal["Sequence", "Token"] = Field(
        default="Sequence",
        description="Sequence averages each completion first, as the paper; Token averages all.",
    )
    updates_per_batch: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="Optimiser steps on each batch of rollouts."
    )


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
    checkpoint: RLVRCheckpoint = Field(
        default_factory=RLVRCheckpoint, description="How often state is saved."
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
            path="optimization.updatesPerBatch",
            cel="self.rollout.promptsPerStep % self.optimization.updatesPerBatch == 0",
            message="must divide rollout.promptsPerStep; set it to 1 or another divisor",
            check=lambda s: s.rollout.prompts_per_step % s.optimization.updates_per_batch == 0,
        ),
    )


class RLVRJob(Model):
    """Trains a policy with GRPO on verifiable rewards."""

    api_version: Literal["m2r.dev/v1alpha1"] = API_VERSION
    kind: Literal["RLVRJob"] = "RLVRJob"
    metadata: Metadata
    spec: RLVRSpec
    status: JobStatus | None = None
