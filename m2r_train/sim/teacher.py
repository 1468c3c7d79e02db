"""The template teacher: a short chain of what was seen, read off the scene graph.

A chain looks at each thing that the question is about, in the same few words for every task, so
that what is learned from describing a scene is of use in answering: "red at 3" is a column 0..9 of
the picture, "z 2.5" a depth in metres, "h 0.8" a height.
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
    """Where across the picture: "red at 3 green at 7"."""
    return " ".join(f"{solid.label} at {sight.column}" for solid, sight in seen)


def rows(seen: Iterable[tuple[Solid, Sight]]) -> str:
    """Where down the picture: "red row 5 green row 3"."""
    return " ".join(f"{solid.label} row {sight.row}" for solid, sight in seen)


def depths(seen: Iterable[tuple[Solid, Sight]]) -> str:
    """How far in: "red z 2.5 green z 4.0"."""
    return " ".join(f"{solid.label} z {decimal(sight.depth)}" for solid, sight in seen)


def points(seen: Iterable[tuple[Solid, Sight]]) -> str:
    """Where on the floor, from the camera: "red x -0.4 z 2.5 green x 1.2 z 4.0"."""
    return " ".join(
        f"{solid.label} x {decimal(sight.x)} z {decimal(sight.depth)}" for solid, sight in seen
    )


def places(seen: Iterable[tuple[Solid, Sight]]) -> str:
    """Column and depth: "red at 3 z 2.5"."""
    return " ".join(
        f"{solid.label} at {sight.column} z {decimal(sight.depth)}" for solid, sight in seen
    )


def description(seen: Iterable[tuple[Solid, Sight]]) -> str:
    """Everything about everything: "red at 3 z 2.5 h 0.8 green at 7 z 4.0 h 0.5"."""
    return " ".join(
        f"{solid.label} at {sight.column} z {decimal(sight.depth)} h {decimal(solid.height)}"
        for solid, sight in seen
    )
