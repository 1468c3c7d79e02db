"""The template teacher: a short chain of what was seen, read off the scene graph.

A chain looks at each thing that the question is about, in the same few words for every task, so
that what is learned from describing a scene is of use in answering: "at red 3" is a column 0..9 of
the picture, "z red 2.5" a depth in metres. The name comes right before its value on purpose: a
small model then looks a value up with the name it has just said, in one step (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Iterable

from m2r_train.sim.camera import Sight
from m2r_train.sim.scene import Solid


def chain(thought: str, answer: str) -> str:
    """A whole assistant turn in the output contract: one think block, one boxed answer."""
    return f"<think> {thought} </think><answer>\\boxed{{{answer}}}</answer>"


def decimal(value: float) -> str:
    """A number with one decimal, never "-0.0"."""
    return f"{round(value, 1) + 0.0:.1f}"


def concluded(thought: str, answer: str) -> str:
    """A thought that ends in its conclusion."""
    return f"{thought} so {answer}"


def columns(seen: Iterable[tuple[Solid, Sight]]) -> str:
    """Where across the picture: "at red 3 at green 7"."""
    return " ".join(f"at {solid.label} {sight.column}" for solid, sight in seen)


def rows(seen: Iterable[tuple[Solid, Sight]]) -> str:
    """Where down the picture: "row red 5 row green 3"."""
    return " ".join(f"row {solid.label} {sight.row}" for solid, sight in seen)


def depths(seen: Iterable[tuple[Solid, Sight]]) -> str:
    """How far in: "z red 2.5 z green 4.0"."""
    return " ".join(f"z {solid.label} {decimal(sight.depth)}" for solid, sight in seen)


def points(seen: Iterable[tuple[Solid, Sight]]) -> str:
    """Where on the floor, from the camera: "x red -0.4 z red 2.5 x green 1.2 z green 4.0"."""
    return " ".join(
        f"x {solid.label} {decimal(sight.x)} z {solid.label} {decimal(sight.depth)}"
        for solid, sight in seen
    )


def places(seen: Iterable[tuple[Solid, Sight]]) -> str:
    """Column and depth: "at red 3 z red 2.5"."""
    return " ".join(
        f"at {solid.label} {sight.column} z {solid.label} {decimal(sight.depth)}"
        for solid, sight in seen
    )
