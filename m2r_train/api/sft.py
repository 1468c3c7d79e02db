"""SFTJob: the cold start, supervised fine-tuning on reasoning chains (paper section 3.1.1)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from m2r_train.api.common import Checkpoint, JobSpec, Parallelism
from m2r_train.api.heldout import SFTHeldOut
from m2r_train.api.refs import DatasetRef, Metadata, ModelRef
from m2r_train.api.schema import API_VERSION, Model, PositiveCount, Ratio, Unbounded
from m2r_train.api.status import JobStatus
from m2r_train.api.tuning import LearningRateSchedule, Tuning, tuning_rules

LearningRate = Annotated[float, Field(ge=0, le=1)]
Beta = Annotated[float, Field(ge=0, le=0.999999)]


class SFTTraining(Tuning):
    """How long and how fast to learn."""

    epochs: Annotated[float, Field(ge=0.001, le=1000)] = Field(
        default=1.0, description="Passes over the dataset."
    )
    steps: PositiveCount | None = Field(
        default=None, description="Optimiser steps; overrides epochs."
    )
    learning_rate: LearningRate = Field(default=1e-5, description="Peak learning rate.")
    min_learning_rate_ratio: Ratio = Field(
        default=0.1, description="Learning rate at the end, as a share of the peak."
    )
    warmup_ratio: Ratio = Field(
        default=0.03, description="Share of the steps over which the learning rate rises."
    )
    schedule: LearningRateSchedule = Field(
        default="Cosine",
        description="Learning rate after the warm-up; Wsd is stable, then decays (decayRatio).",
    )
    weight_decay: Ratio = Field(default=0.01, description="AdamW's weight decay.")
    adam_beta1: Beta = Field(default=0.9, description="AdamW's beta 1.")
    adam_beta2: Beta = Field(default=0.95, description="AdamW's beta 2.")
    gradient_clip: Unbounded = Field(
        default=1.0, description="Largest gradient norm; 0 means no clipping."
    )
    tokens_per_batch: PositiveCount = Field(
        default=262_144, description="Tokens of one optimiser step, over all nodes."
    )
    freeze_vision: bool = Field(
        default=False, description="Whether the vision encoder and its projector stay as they are."
    )
    rules = tuning_rules()


class SFTSpec(JobSpec):
    """What to fine-tune, on what, and how."""

    model: ModelRef = Field(description="Model to start from.")
    dataset: DatasetRef = Field(description="Samples with chains.")
    training: SFTTraining = Field(
        default_factory=SFTTraining, description="How long and how fast to learn."
    )
    checkpoint: Checkpoint = Field(
        default_factory=Checkpoint, description="How often state is saved."
    )
    evaluation: SFTHeldOut | None = Field(
        default=None, description="Evaluation during training; left out: none."
    )
    parallelism: Parallelism = Field(
        default_factory=Parallelism, description="How the processes of the run share the model."
    )
    rules = (*JobSpec.rules,)


class SFTJob(Model):
    """Fine-tunes a model on reasoning chains."""

    api_version: Literal["m2r.dev/v1alpha1"] = API_VERSION
    kind: Literal["SFTJob"] = "SFTJob"
    metadata: Metadata
    spec: SFTSpec
    status: JobStatus | None = None
