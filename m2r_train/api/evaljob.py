"""EvalJob: scores of a model on benchmarks, with standard errors, and gates."""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

from pydantic import Field

from m2r_train.api.common import EndpointRef, Engine, JobSpec
from m2r_train.api.refs import DatasetRef, Metadata, ModelRef
from m2r_train.api.schema import API_VERSION, Model, Rule, exactly_one, list_map, unique_keys
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
PromptForm = Literal["Tagged", "Published"]
PUBLISHED: Final = tuple(name for name in get_args(BenchmarkName) if name != "synthetic")
SHOWN_FRAMES: Final = 32  # of a video
JUDGED: Final = ("mathvista", "mathverse", "logicvista")  # those that ask a judge, if there is one
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
    form: PromptForm = Field(
        default="Tagged",
        description="Tagged: reasoning and <answer>, which is scored; Published: the published "
        "form, all is scored.",
    )
    frames: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=SHOWN_FRAMES, description="Frames shown of a video, evenly spaced."
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
        Rule(
            path="form",
            cel="self.form == 'Tagged' || self.name != 'synthetic'",
            message="must be Tagged for synthetic, which has no published form; set it to that",
            check=lambda b: b.form == "Tagged" or b.name != "synthetic",
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


class AnswerJudge(Model):
    """Who reads and compares answers where a benchmark's published protocol asks a model to."""

    model: ModelRef | None = Field(
        default=None, description="Judge that the run's own pods load, after all answers are there."
    )
    endpoint: EndpointRef | None = Field(
        default=None, description="Judge behind an OpenAI-compatible endpoint."
    )
    engine: Engine = Field(
        default="vllm", description="What the judge of model replies with; vllm or inprocess."
    )
    retries: Annotated[int, Field(ge=0, le=20)] = Field(
        default=4,
        description="Further questions about an answer whose reply cannot be read, each half a "
        "degree of temperature warmer.",
    )
    max_completion_tokens: Annotated[int, Field(ge=1, le=131072)] = Field(
        default=512, description="Longest reply in tokens."
    )
    fallback: Literal["None", "Rules"] = Field(
        default="None",
        description="What scores an answer when no reply could be read: nothing (it is wrong), or "
        "the rules.",
    )
    rules = (exactly_one("model", "endpoint"),)


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
    judge: AnswerJudge | None = Field(
        default=None,
        description="Model that judges answers to mathvista, mathverse and logicvista; left out: "
        "rules stand in for it.",
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
            path="judge",
            cel="!has(self.judge) || self.benchmarks.exists(b, "
            "b.name in ['mathvista', 'mathverse', 'logicvista'])",
            message="is asked by mathvista, mathverse and logicvista only; add one or remove it",
            check=lambda s: s.judge is None or any(b.name in JUDGED for b in s.benchmarks),
        ),
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
