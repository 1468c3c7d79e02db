"""EvalJob: scores of a model on benchmarks, with standard errors, and gates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from m2r_train.api.common import Engine, JobSpec
from m2r_train.api.refs import DatasetRef, Metadata, ModelRef
from m2r_train.api.schema import API_VERSION, Model, Rule, list_map, unique_keys
from m2r_train.api.status import JobStatus

BenchmarkName = Literal[
    "mathvista",
    "mathvision",
    "mathverse",
    "dynamath",
    "we-math",
    "logicvista",
    "cv-bench",
    "vsi-bench",
    "synthetic",
]
ScoringRule = Literal["official", "vlmevalkit", "lmms-eval"]
Percent = Annotated[float, Field(ge=0, le=100)]


class Benchmark(Model):
    """A benchmark and its data."""

    name: BenchmarkName = Field(description="Which benchmark's rules score the answers.")
    data: DatasetRef = Field(
        description="The benchmark's questions: a copy of it as it is published."
    )
    rule: ScoringRule = Field(
        default="official",
        description="Whose rules score the answers; lmms-eval for cv-bench and vsi-bench only.",
    )
    frames: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=32, description="Frames shown of a video, evenly spaced."
    )
    partial: bool = Field(
        default=False,
        description="Score what is there of a benchmark with missing parts or records that cannot "
        "be scored; else an error.",
    )
    rules = (
        Rule(
            path="rule",
            cel="self.rule != 'lmms-eval' || self.name in ['cv-bench', 'vsi-bench']",
            message="must be official or vlmevalkit for this benchmark; set it to one",
            check=lambda b: b.rule != "lmms-eval" or b.name in ("cv-bench", "vsi-bench"),
        ),
    )


class Generation(Model):
    """How answers are generated."""

    engine: Engine = Field(
        default="vllm", description="vllm, or inprocess generation with transformers."
    )
    samples_per_question: Annotated[int, Field(ge=1, le=256)] = Field(
        default=1, description="Sampled answers to each question; the headline is their mean."
    )
    temperature: Annotated[float, Field(ge=0.01, le=10)] = Field(
        default=1.0, description="Temperature of the sampled answers."
    )
    greedy: bool = Field(
        default=True, description="Whether each question is answered greedily too, shown beside."
    )
    max_completion_tokens: Annotated[int, Field(ge=1, le=131072)] = Field(
        default=1024, description="Longest answer in tokens."
    )
    batch_size: Annotated[int, Field(ge=1, le=65536)] = Field(
        default=256, description="Questions generated together."
    )


class Gate(Model):
    """A score that the model has to reach."""

    benchmark: BenchmarkName = Field(description="One of the run's benchmarks.")
    min: Percent = Field(description="Lowest headline score that passes, in percent.")


class EvalSpec(JobSpec):
    """What to evaluate, and on what."""

    model: ModelRef = Field(description="Model to evaluate.")
    benchmarks: tuple[Benchmark, ...] = Field(
        min_length=1,
        max_length=16,
        json_schema_extra=list_map("name"),
        description="Benchmarks to run.",
    )
    generation: Generation = Field(
        default_factory=Generation, description="How answers are generated."
    )
    gates: tuple[Gate, ...] = Field(
        default=(),
        max_length=16,
        json_schema_extra=list_map("benchmark"),
        description="Scores below which the run fails.",
    )
    rules = (
        *JobSpec.rules,
        unique_keys("benchmarks", "benchmarks", "name"),
        unique_keys("gates", "gates", "benchmark"),
        Rule(
            path="gates",
            cel="self.gates.all(g, self.benchmarks.exists(b, b.name == g.benchmark))",
            message="must name benchmarks of this run only; add the benchmark or remove the gate",
            check=lambda s: {g.benchmark for g in s.gates} <= {b.name for b in s.benchmarks},
        ),
    )


class EvalJob(Model):
    """Scores a model on benchmarks."""

    api_version: Literal["m2r.dev/v1alpha1"] = API_VERSION
    kind: Literal["EvalJob"] = "EvalJob"
    metadata: Metadata
    spec: EvalSpec
    status: JobStatus | None = None
