"""A resource's name, and how a spec points at models and datasets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from m2r_train.api.schema import (
    DataUri,
    Model,
    Ratio,
    Rule,
    RunName,
    ShortText,
    StoreUri,
    Word,
    exactly_one,
    no_secret,
)

Split = Literal["sft", "rlvr", "eval"]
ModelKind = Literal["SFTJob", "RLVRJob"]
ColumnField = Literal[
    "id",
    "question",
    "answer",
    "image",
    "images",
    "video",
    "options",
    "task",
    "domain",
    "answer_type",
    "unit",
    "reward",
    "chain",
]


class Metadata(Model):
    """A resource's name and place; Kubernetes' other metadata keys are tolerated."""

    model_config = ConfigDict(extra="ignore")

    name: RunName = Field(description="Name of the run, unique within its kind and namespace.")
    namespace: Word = Field(default="default", description="Namespace of the run.")
    labels: Mapping[str, str] = Field(default_factory=dict, description="Labels, as Kubernetes.")
    annotations: Mapping[str, str] = Field(
        default_factory=dict, description="Annotations, as Kubernetes."
    )
    uid: ShortText | None = Field(default=None, description="Identity given by the API server.")
    generation: int | None = Field(default=None, description="Counts changes of the spec.")


class ModelFrom(Model):
    """Another run in the same namespace whose result is a model."""

    kind: ModelKind = Field(description="Kind of the run that makes the model.")
    name: RunName = Field(description="Name of the run that makes the model.")


class DatasetFrom(Model):
    """A synthesis run in the same namespace."""

    kind: Literal["DataSynthesisJob"] = Field(description="Kind of the run that makes the data.")
    name: RunName = Field(description="Name of the run that makes the data.")


class ModelRef(Model):
    """A model: a Hugging Face folder in a store, the result of another run, or a preset."""

    uri: StoreUri | None = Field(
        default=None, description="Hugging Face model folder in a store: s3://… or file:///…"
    )
    from_: ModelFrom | None = Field(
        default=None, description="Run whose result is the model; it is waited for."
    )
    preset: Literal["tiny"] | None = Field(
        default=None, description="Model made from a config, for tests and the quickstart."
    )
    rules = (exactly_one("uri", "from", "preset"), no_secret("uri"))


class DatasetRef(Model):
    """A dataset: a folder of parquet or JSON lines in a store, or a split of a synthesis run."""

    uri: DataUri | None = Field(
        default=None,
        description="Folder in a store (s3://…, file:///…), or a commit of a hub dataset: "
        "hf://datasets/OWNER/NAME@COMMIT",
    )
    from_: DatasetFrom | None = Field(
        default=None, description="Synthesis run whose result is the dataset; it is waited for."
    )
    split: Word | None = Field(
        default=None, description="Split to read; sft, rlvr or eval of a synthesis run."
    )
    columns: Mapping[ColumnField, Annotated[str, Field(min_length=1, max_length=128)]] = Field(
        default_factory=dict,
        max_length=13,
        description="Column of the user's data that holds each of our fields, where names differ.",
    )
    max_bad_ratio: Ratio = Field(
        default=0.01, description="Share of unreadable records above which the run fails."
    )
    rules = (
        exactly_one("uri", "from"),
        no_secret("uri"),
        Rule(
            path="split",
            cel="!has(self.from) || (has(self.split) && self.split in ['sft', 'rlvr', 'eval'])",
            message="must be sft, rlvr or eval when the dataset comes from a run; set it to one",
            check=lambda d: d.from_ is None or d.split in ("sft", "rlvr", "eval"),
        ),
    )
