"""DataSynthesisJob: questions with verifiable answers, reasoning chains, quality, difficulty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Final, Literal, get_args

from pydantic import Field

from m2r_train.api.common import EndpointRef, Engine, JobSpec
from m2r_train.api.evaljob import PUBLISHED
from m2r_train.api.refs import ColumnField, DatasetRef, Metadata, ModelRef, Split
from m2r_train.api.schema import (
    API_VERSION,
    LIST_SET,
    Count,
    ItemName,
    LongText,
    Model,
    OnOff,
    PositiveCount,
    Ratio,
    Rule,
    StoreUri,
    Unbounded,
    exactly_one,
    list_map,
    no_secret,
    unique_items,
    unique_keys,
)
from m2r_train.api.status import JobStatus

RoomTask = Literal[
    "ObjectCount",
    "RelationHorizontal",
    "RelationVertical",
    "RelativeDepth",
    "RelativeDistance",
    "AbsoluteDistance",
    "ObjectSize",
    "RoomSize",
    "SceneDescription",
    "ObjectLocation",
]
WalkTask = Literal[
    "ObjectCount",
    "ObjectSize",
    "RoomSize",
    "AbsoluteDistance",
    "RelativeDistance",
    "RelativeDirectionEasy",
    "RelativeDirectionMedium",
    "RelativeDirectionHard",
    "AppearanceOrder",
    "RoutePlan",
]
PictureTask = Literal["Count", "Relation", "Depth", "Distance"]
SimulatorTask = Literal[
    "ObjectCount",
    "RelationHorizontal",
    "RelationVertical",
    "RelativeDepth",
    "RelativeDistance",
    "AbsoluteDistance",
    "ObjectSize",
    "RoomSize",
    "SceneDescription",
    "ObjectLocation",
    "RelativeDirectionEasy",
    "RelativeDirectionMedium",
    "RelativeDirectionHard",
    "AppearanceOrder",
    "RoutePlan",
    "Count",
    "Relation",
    "Depth",
    "Distance",
]
SceneTask = Literal[
    "ObjectCount",
    "ObjectSize",
    "RoomSize",
    "AbsoluteDistance",
    "RelativeDistance",
    "RelativeDirectionEasy",
    "RelativeDirectionMedium",
    "RelativeDirectionHard",
    "AppearanceOrder",
    "RoutePlan",
    "Count",
    "Relation",
    "Depth",
    "Distance",
]
ROOM_TASKS: Final[tuple[str, ...]] = get_args(RoomTask)
WALK_TASKS: Final[tuple[str, ...]] = get_args(WalkTask)
PICTURE_TASKS: Final[tuple[str, ...]] = get_args(PictureTask)
FigureTask = Literal["Arithmetic", "BarChart", "ShapeCount"]

ALL_SPLITS: Final[tuple[Split, ...]] = ("sft", "rlvr", "eval")
ImageSize = Annotated[int, Field(ge=32, le=4096)]
Temperature = Annotated[float, Field(ge=0, le=10)]
CompletionTokens = Annotated[int, Field(ge=1, le=131072)]
ObjectCount = Annotated[int, Field(ge=1, le=6)]  # more hide each other (sim.options)


Frames = Annotated[int, Field(ge=4, le=256)]


def _cel_list(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(f"'{name}'" for name in names) + "]"


class Simulator(Model):
    """Rooms from the built-in simulator, with exact labels (paper section 2.2).

    A walk, and the tasks Count, Relation, Depth and Distance, are of furnished apartments
    (docs/spatial-tasks.md); the other tasks are of pictures of one room.
    """

    tasks: tuple[SimulatorTask, ...] = Field(
        min_length=1,
        max_length=19,
        json_schema_extra=LIST_SET,
        description="Spatial tasks to ask about.",
    )
    scenes: PositiveCount = Field(description="Rooms or apartments to make.")
    video: bool = Field(
        default=False, description="Whether a question shows a walk through an apartment."
    )
    frames: Frames = Field(default=32, description="Pictures of a walk.")
    image_size: ImageSize = Field(default=448, description="Side of a picture in pixels.")
    questions_per_scene: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="Questions asked about each room."
    )
    min_objects: ObjectCount = Field(
        default=2, description="Fewest objects in a single room; apartments are furnished fully."
    )
    max_objects: ObjectCount = Field(
        default=6, description="Most objects in a single room; apartments are furnished fully."
    )
    rules = (
        unique_items("tasks", "tasks"),
        Rule(
            path="tasks",
            cel=f"!self.video || self.tasks.all(t, t in {_cel_list(WALK_TASKS)})",
            message=f"of a walk must be among {', '.join(WALK_TASKS)}; remove the others",
            check=lambda s: not s.video or set(s.tasks) <= set(WALK_TASKS),
        ),
        Rule(
            path="tasks",
            cel=(
                f"self.video || self.tasks.all(t, t in {_cel_list(ROOM_TASKS)}) || "
                f"self.tasks.all(t, t in {_cel_list(PICTURE_TASKS)})"
            ),
            message=(
                "must be of one kind of picture: set video for RelativeDirection, AppearanceOrder "
                f"and RoutePlan, give {', '.join(PICTURE_TASKS)} a source of their own"
            ),
            check=lambda s: (
                s.video or set(s.tasks) <= set(ROOM_TASKS) or set(s.tasks) <= set(PICTURE_TASKS)
            ),
        ),
        Rule(
            path="maxObjects",
            cel="self.maxObjects >= self.minObjects",
            message="must be at least minObjects; raise it or lower minObjects",
            check=lambda s: s.max_objects >= s.min_objects,
        ),
    )


class Figures(Model):
    """Drawn general questions with exact answers."""

    tasks: tuple[FigureTask, ...] = Field(
        min_length=1,
        max_length=3,
        json_schema_extra=LIST_SET,
        description="General tasks to ask about.",
    )
    samples: PositiveCount = Field(description="Questions to draw.")
    image_size: ImageSize = Field(default=448, description="Side of a picture in pixels.")
    rules = (unique_items("tasks", "tasks"),)


class AnnotatedScenes(Model):
    """Real scenes with boxes, cameras and frames (docs/annotated-scenes.md)."""

    from_: ClassVar[None] = None  # no run makes them: an input like a dataset, by uri alone

    uri: StoreUri = Field(description="Folder with the scenes in a store: s3://… or file:///…")
    tasks: tuple[SceneTask, ...] = Field(
        min_length=1,
        max_length=14,
        json_schema_extra=LIST_SET,
        description="Spatial tasks to ask about.",
    )
    frames: Frames = Field(
        default=32, description="Most frames of a video; of longer ones every so many are taken."
    )
    questions_per_scene: Annotated[int, Field(ge=1, le=256)] = Field(
        default=8, description="Most questions asked about each video, and each single frame."
    )
    rules = (no_secret("uri"), unique_items("tasks", "tasks"))


class Source(Model):
    """Where questions come from: the simulator, figures, annotated scenes, or a dataset."""

    name: ItemName = Field(description="Name of the source; samples carry it.")
    simulator: Simulator | None = Field(default=None, description="Simulated rooms.")
    figures: Figures | None = Field(default=None, description="Drawn general questions.")
    dataset: DatasetRef | None = Field(
        default=None, description="A dataset with verifiable answers."
    )
    scenes: AnnotatedScenes | None = Field(
        default=None, description="Real scenes with annotations."
    )
    splits: tuple[Split, ...] = Field(
        default=ALL_SPLITS,
        min_length=1,
        max_length=3,
        json_schema_extra=LIST_SET,
        description="Outputs that this source may feed.",
    )
    weight: Unbounded = Field(
        default=1.0,
        description="Share of each output that it feeds, against the other sources; equal weights: "
        "each gives what it has.",
    )
    rules = (
        exactly_one("simulator", "figures", "dataset", "scenes"),
        unique_items("splits", "splits"),
    )

    @property
    def filmed(self) -> bool:
        """Whether its questions are known to show videos; a dataset's are when they are read."""
        walks = self.simulator is not None and self.simulator.video
        asked = () if self.scenes is None else self.scenes.tasks
        return walks or not set(asked) <= set(PICTURE_TASKS)


_FILMED: Final = (  # the same in CEL, of a source `s`
    "(has(s.simulator) && s.simulator.video || "
    f"has(s.scenes) && !s.scenes.tasks.all(t, t in {_cel_list(PICTURE_TASKS)}))"
)


class Generator(Model):
    """Who writes the reasoning chains."""

    model: ModelRef | None = Field(
        default=None,
        description="Teacher that the run's own pods load; left out, as endpoint is: templates, "
        "which know drawn and simulated questions.",
    )
    endpoint: EndpointRef | None = Field(
        default=None, description="Teacher behind an OpenAI-compatible endpoint."
    )
    engine: Engine = Field(default="inprocess", description="What draws a teacher model's chains.")
    prompt: LongText | None = Field(
        default=None,
        description="System prompt of the teacher; left out: the paper's, as in training.",
    )
    chains_per_question: Annotated[int, Field(ge=1, le=64)] = Field(
        default=4, description="Chains written for each question; the best one is kept."
    )
    temperature: Temperature = Field(default=0.9, description="Sampling temperature.")
    max_completion_tokens: CompletionTokens = Field(
        default=1024, description="Longest chain in tokens."
    )
    rules = (
        Rule(
            path="",
            cel="!has(self.model) || !has(self.endpoint)",
            message="must have at most one of model or endpoint; keep one and remove the other",
            check=lambda g: g.model is None or g.endpoint is None,
        ),
        Rule(
            path="prompt",
            cel="!has(self.prompt) || has(self.model) || has(self.endpoint)",
            message="is for a teacher, and templates read none; name a model or endpoint, or "
            "remove it",
            check=lambda g: g.prompt is None or g.teaches,
        ),
    )

    @property
    def teaches(self) -> bool:
        """Whether a model writes the chains, and not templates."""
        return self.model is not None or self.endpoint is not None


class Judge(Model):
    """Who scores the chains."""

    model: ModelRef | None = Field(
        default=None,
        description="Judge that the run's own pods load, when all chains are written.",
    )
    endpoint: EndpointRef | None = Field(
        default=None, description="Judge behind an OpenAI-compatible endpoint."
    )
    engine: Engine | None = Field(
        default=None,
        description="What the judge of model replies with. Left out: vllm, or inprocess where a "
        "source of sft makes videos.",
    )
    prompt: LongText | None = Field(
        default=None,
        description="What the judge is asked, with {question}, {answer} and {chain}; left out: "
        "the built-in rubric.",
    )
    retries: Annotated[int, Field(ge=0, le=20)] = Field(
        default=3, description="Further questions about a chain whose verdict cannot be read."
    )
    canary_every: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=20, description="One chain with known scores is mixed in for so many others."
    )
    canaries_missed: Ratio = Field(
        default=0.25,
        description="Share of a shard's known chains above which the judge is refused.",
    )
    rules = (exactly_one("model", "endpoint"),)


class Quality(Model):
    """Which chains of a teacher model are good enough (paper section 2.1.1).

    Those of templates are right by construction, and are neither scored nor dropped.
    """

    filter: OnOff = Field(
        default="On",
        description="Whether a teacher model's chains below the bar are dropped or only scored.",
    )
    judge: Judge | None = Field(
        default=None, description="Model that scores; left out: the built-in rules score."
    )
    min_each: Annotated[int, Field(ge=1, le=5)] = Field(
        default=3, description="Lowest score (1 to 5) allowed in any of the three dimensions."
    )
    min_mean: Annotated[float, Field(ge=1, le=5)] = Field(
        default=4.0, description="Lowest mean (1 to 5) of the three scores."
    )


class Difficulty(Model):
    """Offline rollouts that measure each question: difficulty = 1 - accuracy (section 2.1.2)."""

    model: ModelRef = Field(description="Model whose rollouts measure.")
    rollouts: Annotated[int, Field(ge=1, le=256)] = Field(
        default=8, description="Rollouts of each question."
    )
    temperature: Temperature = Field(default=1.0, description="Sampling temperature.")
    max_completion_tokens: CompletionTokens = Field(
        default=1024, description="Longest rollout in tokens."
    )
    drop_unsolved: bool = Field(
        default=True, description="Whether questions that no rollout solves are dropped."
    )
    drop_solved: bool = Field(
        default=True, description="Whether questions that every rollout solves are dropped."
    )


PictureDistance = Annotated[int, Field(ge=0, le=128)]


_IS_PUBLISHED = f"self.name in {_cel_list(PUBLISHED)}"
_NO_COLUMNS = "!({})".format(
    " || ".join(f"has(self.dataset.columns.{name})" for name in get_args(ColumnField))
)


class Benchmark(Model):
    """A dataset that must not be trained on."""

    name: ItemName = Field(
        description="Name of the benchmark; the eight of an EvalJob are read as they are published."
    )
    dataset: DatasetRef = Field(
        description="A copy of one of the eight, or any dataset: a columns map where names differ."
    )
    rules = (
        Rule(
            path="dataset.columns",
            cel=f"!({_IS_PUBLISHED}) || !has(self.dataset.columns) || {_NO_COLUMNS}",
            message="has no place in a benchmark that is read as published; remove it, or give "
            "data of your own another name",
            check=lambda b: b.name not in PUBLISHED or not b.dataset.columns,
        ),
        Rule(
            path="dataset.from",
            cel=f"!({_IS_PUBLISHED}) || !has(self.dataset.from)",
            message="is no benchmark as published; give the uri of a copy, or give the run's data "
            "another name",
            check=lambda b: b.name not in PUBLISHED or b.dataset.from_ is None,
        ),
    )


class Decontamination(Model):
    """Samples that a benchmark holds are dropped: never train on the test."""

    against: tuple[Benchmark, ...] = Field(
        min_length=1,
        max_length=32,
        json_schema_extra=list_map("name"),
        description="Benchmarks that no sample may come from.",
    )
    words: Annotated[int, Field(ge=4, le=64)] = Field(
        default=8, description="Questions are compared by their runs of so many words."
    )
    share: Annotated[float, Field(ge=0.1, le=1)] = Field(
        default=0.6,
        description="Share of a benchmark question's runs in a sample that makes it a copy.",
    )
    picture_distance: PictureDistance = Field(
        default=40, description="Most bits (of 256) in which the hash of a copied picture differs."
    )
    rules = (unique_keys("against", "against", "name"),)


class NearDuplicates(Model):
    """Of samples that ask nearly the same with the same answer, the first is kept."""

    similarity: Annotated[float, Field(ge=0.5, le=1)] = Field(
        default=0.8, description="Share of common word runs that makes two questions the same."
    )
    picture_distance: PictureDistance = Field(
        default=40, description="Most bits (of 256) in which the hashes of their pictures differ."
    )


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


def _no_films_by_vllm(path: str, there: str, engine: Callable[[Any], Engine | None]) -> Rule:
    """A model that is asked about the sources of sft draws by vllm only where none shows videos.

    ``there``: the CEL of whether such a model and its engine are named, by ``engine`` too.
    """
    return Rule(
        path=path,
        cel=(
            f"!({there}) || self.{path} != 'vllm' || "
            f"!self.sources.exists(s, 'sft' in s.splits && {_FILMED})"
        ),
        message=(
            "cannot be vllm where a source of sft makes videos (simulator.video, or scenes): vllm "
            f"is not shown them in this version; set {path}: inprocess, or take sft out of the "
            "source's splits"
        ),
        check=lambda spec: engine(spec) != "vllm" or not spec.teaches_films,
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
        _no_films_by_vllm(
            "generator.engine",
            "has(self.generator.model)",
            lambda spec: spec.generator.engine if spec.generator.model is not None else None,
        ),
        _no_films_by_vllm(
            "quality.judge.engine",
            "has(self.quality.judge) && has(self.quality.judge.model) && "
            "has(self.quality.judge.engine)",
            lambda spec: (
                judge.engine if (judge := spec.quality.judge) and judge.model is not None else None
            ),
        ),
    )

    @property
    def teaches_films(self) -> bool:
        """Whether a teacher and its judge are known to be asked about videos."""
        return any(source.filmed and "sft" in source.splits for source in self.sources)

    @property
    def judge_engine(self) -> Engine:
        """What a judge in the run's pods replies with."""
        judge = self.quality.judge
        named = None if judge is None else judge.engine
        return named or ("inprocess" if self.teaches_films else "vllm")


class DataSynthesisJob(Model):
    """Synthesises, filters and scores reasoning data."""

    api_version: Literal["m2r.dev/v1alpha1"] = API_VERSION
    kind: Literal["DataSynthesisJob"] = "DataSynthesisJob"
    metadata: Metadata
    spec: DataSynthesisSpec
    status: JobStatus | None = None
