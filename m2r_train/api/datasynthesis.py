"""DataSynthesisJob: questions with verifiable answers, reasoning chains, quality, difficulty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from m2r_train.api.chains import Difficulty, Generator, Quality
from m2r_train.api.cleaning import Decontamination, NearDuplicates
from m2r_train.api.common import JobSpec
from m2r_train.api.refs import Metadata, Split
from m2r_train.api.schema import (
    API_VERSION,
    Count,
    Model,
    Rule,
    list_map,
    unique_keys,
)
from m2r_train.api.sources import ALL_SPLITS, Source
from m2r_train.api.status import JobStatus


class Outputs(Model):
    """How many samples each split gets; the splits share no sample."""

    sft: Count = Field(default=0, description="Samples with chains for supervised fine-tuning.")
    rlvr: Count = Field(default=0, description="Samples for RLVR, in order of difficulty.")
    eval: Count = Field(default=0, description="Samples held out for evaluation.")
    rules = (
        Rule(
            path="",
            cel="self.sft + self.rlvr + self.eval > 0",
            message="must ask for at least one sample; set sft, rlvr or eval above 0",
            check=lambda o: o.sft + o.rlvr + o.eval > 0,
        ),
    )


PAPER_OUTPUTS: Final = Outputs(sft=168_000, rlvr=126_200, eval=2_000)


def _split_has_source(split: Split) -> Rule:
    def check(spec: Any) -> bool:
        wanted = getattr(spec.outputs, split) > 0
        return not wanted or any(split in source.splits for source in spec.sources)

    return Rule(
        path=f"outputs.{split}",
        cel=f"self.outputs.{split} == 0 || self.sources.exists(s, '{split}' in s.splits)",
        message=f"no source feeds this split; add {split} to a source's splits or set it to 0",
        check=check,
    )


_teacher_known: Callable[[Any], bool] = lambda spec: (  # noqa: E731 - sits beside its CEL twin
    spec.outputs.sft == 0
    or spec.generator.teaches
    or not any(s.dataset is not None and "sft" in s.splits for s in spec.sources)
)


class DataSynthesisSpec(JobSpec):
    """What to synthesise."""

    sources: tuple[Source, ...] = Field(
        min_length=1,
        max_length=32,
        json_schema_extra=list_map("name"),
        description="Where questions come from.",
    )
    generator: Generator = Field(
        default_factory=Generator, description="Who writes the reasoning chains."
    )
    quality: Quality = Field(
        default_factory=Quality, description="Which chains are good enough to learn from."
    )
    difficulty: Difficulty | None = Field(
        default=None, description="How difficulty is measured; left out: it is not."
    )
    decontamination: Decontamination | None = Field(
        default=None,
        description="Benchmarks that no sample may come from; left out: nothing is compared.",
    )
    near_duplicates: NearDuplicates | None = Field(
        default=None,
        description="How near-duplicates are found; left out: only exact ones are dropped.",
    )
    outputs: Outputs = Field(default=PAPER_OUTPUTS, description="How many samples each split gets.")
    shards: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=8, description="Parts that are worked on and resumed separately."
    )
    rules = (
        *JobSpec.rules,
        unique_keys("sources", "sources", "name"),
        *(_split_has_source(split) for split in ALL_SPLITS),
        Rule(
            path="generator.model",
            cel=(
                "self.outputs.sft == 0 || has(self.generator.model) || "
                "has(self.generator.endpoint) || "
                "!self.sources.exists(s, has(s.dataset) && 'sft' in s.splits)"
            ),
            message=(
                "templates cannot write chains for a dataset source; name a teacher model or "
                "endpoint, "
                "or take sft out of the source's splits"
            ),
            check=_teacher_known,
        ),
    )


class DataSynthesisJob(Model):
    """Synthesises, filters and scores reasoning data."""

    api_version: Literal["m2r.dev/v1alpha1"] = API_VERSION
    kind: Literal["DataSynthesisJob"] = "DataSynthesisJob"
    metadata: Metadata
    spec: DataSynthesisSpec
    status: JobStatus | None = None
