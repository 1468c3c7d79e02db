"""Status of the four kinds: what the operator reports, small and bounded.

Readers tolerate fields they do not know, so that an older tool reads a newer operator's status.
Fine-grained series belong in Prometheus; here stand the few facts that people ask for.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from m2r_train.api.schema import Count, LongText, Model, ShortText, Unbounded, list_map

Phase = Literal["Pending", "Queued", "Running", "Preempted", "Suspended", "Succeeded", "Failed"]
ConditionType = Literal[
    "Suspended",
    "DependenciesReady",
    "Admitted",
    "Running",
    "Preempted",
    "CheckpointReady",
    "Degraded",
    "Complete",
    "Failed",
    "GatesPassed",
]
Generation = Annotated[int, Field(ge=0)]


class StatusModel(Model):
    """Base of the status: unknown fields are dropped, not refused."""

    model_config = ConfigDict(extra="ignore")


class Condition(StatusModel):
    """A Kubernetes condition."""

    type: ShortText = Field(description="What the condition is about.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: ShortText = Field(description="One word for machines.")
    message: LongText = Field(default="", description="One line for people.")
    last_transition_time: datetime = Field(description="When the status last changed.")
    observed_generation: Generation | None = Field(
        default=None, description="Generation of the spec that the condition is about."
    )


class Restarts(StatusModel):
    """How often the run was started again."""

    charged: Count = Field(default=0, description="After crashes; these count.")
    disruptions: Count = Field(default=0, description="After disruptions; these cost nothing.")


class Progress(StatusModel):
    """How far the run is."""

    step: Count = Field(default=0, description="Steps done.")
    total_steps: Count | None = Field(default=None, description="Steps planned.")
    percent: Annotated[int, Field(ge=0, le=100)] = Field(default=0, description="Share done.")
    eta_seconds: Count | None = Field(default=None, description="Time still needed.")
    time: datetime | None = Field(default=None, description="When the last step was seen done.")


class Metrics(StatusModel):
    """The few figures that people look at first."""

    reward_mean: float | None = Field(default=None, description="Mean reward of the step.")
    tokens_per_second: Unbounded | None = Field(default=None, description="Throughput.")
    loss: float | None = Field(default=None, description="Loss of the step.")
    score: float | None = Field(default=None, description="Mean headline score in percent.")


class LastCheckpoint(StatusModel):
    """The newest state that the run can resume from."""

    uri: LongText = Field(description="Folder of the checkpoint.")
    step: Count = Field(description="Steps it holds.")
    time: datetime | None = Field(default=None, description="When it was committed.")


class ResumedFrom(StatusModel):
    """Where the current attempt began."""

    step: Count = Field(description="Step of the checkpoint.")
    lost_steps: Count = Field(default=0, description="Steps that had to be done again.")


class Failure(StatusModel):
    """Evidence of the last failure; it outlives the pod."""

    class_: ShortText = Field(description="Crash, Preempted, Stalled, BadSpec and so on.")
    attempt: Count | None = Field(default=None, description="Attempt that failed.")
    step: Count | None = Field(default=None, description="Last step it was seen to finish.")
    time: datetime | None = Field(default=None, description="When it failed.")
    exit_code: int | None = Field(default=None, ge=0, le=255, description="Exit code of the pod.")
    pod: ShortText | None = Field(default=None, description="Pod that failed.")
    node: ShortText | None = Field(default=None, description="Node it ran on.")
    message: LongText = Field(default="", description="One line for people.")


class Score(StatusModel):
    """One benchmark's headline score."""

    benchmark: ShortText = Field(description="Name of the benchmark.")
    value: float = Field(description="Score in percent.")
    n: Count | None = Field(default=None, description="Questions scored.")
    stderr: float | None = Field(default=None, description="Standard error in percent.")


class StatusOutputs(StatusModel):
    """What the run has made."""

    model_uri: LongText | None = Field(default=None, description="Folder of the model.")
    dataset_uri: LongText | None = Field(default=None, description="Folder of the dataset.")
    counts: Mapping[str, Count] = Field(
        default_factory=dict, max_length=64, description="Samples by split, kept and dropped."
    )
    scores: tuple[Score, ...] = Field(
        default=(),
        max_length=16,
        json_schema_extra=list_map("benchmark"),
        description="Headline scores.",
    )
    digest: ShortText | None = Field(default=None, description="Digest of the result's files.")


class ChildJob(StatusModel):
    """The Job that runs the current attempt."""

    name: ShortText = Field(description="Name of the Job.")
    uid: ShortText = Field(description="Identity of the Job.")


class ResolvedInput(StatusModel):
    """A model or dataset as the first attempt found it; later attempts read the same."""

    field: ShortText = Field(description="Field path in the spec.")
    uri: LongText = Field(description="Where it lies.")
    digest: ShortText | None = Field(default=None, description="Digest of its files.")


class JobStatus(StatusModel):
    """What is known of a run."""

    observed_generation: Generation | None = Field(
        default=None, description="Generation of the spec that the status is about."
    )
    conditions: tuple[Condition, ...] = Field(
        default=(),
        max_length=16,
        json_schema_extra=list_map("type"),
        description="Facts, each true, false or unknown.",
    )
    phase: ShortText | None = Field(
        default=None, description="Summary for people, derived from the conditions."
    )
    attempt: Count = Field(default=0, description="Attempts started.")
    restarts: Restarts | None = Field(default=None, description="Starts after the first.")
    start_time: datetime | None = Field(default=None, description="When pods first ran.")
    completion_time: datetime | None = Field(default=None, description="When the run ended.")
    active_seconds: Count | None = Field(
        default=None, description="Running time so far, without pauses."
    )
    progress: Progress | None = Field(default=None, description="How far the run is.")
    metrics: Metrics | None = Field(default=None, description="A few figures.")
    last_checkpoint: LastCheckpoint | None = Field(
        default=None, description="The newest state that the run can resume from."
    )
    resumed_from: ResumedFrom | None = Field(
        default=None, description="Where the current attempt began."
    )
    failure: Failure | None = Field(default=None, description="The last failure.")
    job: ChildJob | None = Field(default=None, description="Job of the current attempt.")
    inputs: tuple[ResolvedInput, ...] = Field(
        default=(),
        max_length=128,
        json_schema_extra=list_map("field"),
        description="What the run reads, fixed when it first starts.",
    )
    outputs: StatusOutputs | None = Field(default=None, description="What the run has made.")
