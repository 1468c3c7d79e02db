"""Where the questions of a DataSynthesisJob come from: simulators, figures, scenes, datasets."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal, get_args

from pydantic import Field

from m2r_train.api.refs import DatasetRef, Split
from m2r_train.api.schema import (
    LIST_SET,
    ItemName,
    Model,
    PositiveCount,
    Rule,
    StoreUri,
    Unbounded,
    cel_list,
    exactly_one,
    no_secret,
    unique_items,
)

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
SimulatorTask = Literal[RoomTask, WalkTask, PictureTask]
SceneTask = Literal[WalkTask, PictureTask]
ROOM_TASKS: Final[tuple[str, ...]] = get_args(RoomTask)
WALK_TASKS: Final[tuple[str, ...]] = get_args(WalkTask)
PICTURE_TASKS: Final[tuple[str, ...]] = get_args(PictureTask)
FigureTask = Literal["Arithmetic", "BarChart", "ShapeCount"]

ALL_SPLITS: Final[tuple[Split, ...]] = ("sft", "rlvr", "eval")
ImageSize = Annotated[int, Field(ge=32, le=4096)]
ObjectCount = Annotated[int, Field(ge=1, le=6)]  # more hide each other (sim.options)


Frames = Annotated[int, Field(ge=4, le=256)]


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
            cel=f"!self.video || self.tasks.all(t, t in {cel_list(WALK_TASKS)})",
            message=f"of a walk must be among {', '.join(WALK_TASKS)}; remove the others",
            check=lambda s: not s.video or set(s.tasks) <= set(WALK_TASKS),
        ),
        Rule(
            path="tasks",
            cel=(
                f"self.video || self.tasks.all(t, t in {cel_list(ROOM_TASKS)}) || "
                f"self.tasks.all(t, t in {cel_list(PICTURE_TASKS)})"
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
