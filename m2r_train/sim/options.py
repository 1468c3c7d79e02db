"""What a user may set on the simulator, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from m2r_train.api.errors import SpecError

Style = Literal["auto", "solids", "furniture"]
Distance = Literal["closest", "centre"]

SMALLEST_IMAGE = 32
SMALLEST_FURNITURE_IMAGE = 160  # below this, legs and shelves are thinner than a pixel
MOST_OBJECTS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class SimOptions:
    """``image_size`` pixels a side; objects per scene; what stands there; how to measure.

    ``style`` "auto" is coloured solids for small pictures and furniture for large ones.
    ``distance`` "closest" measures between closest points, "centre" between middles on the floor.
    ``light`` 0..1 is the strength of the coloured wall light; left out: 0.8 for solids,
    0.15 for furniture.
    """

    image_size: int = 64
    min_objects: int = 2
    max_objects: int = 4
    style: Style = "auto"
    distance: Distance = "closest"
    light: float | None = None

    def __post_init__(self) -> None:
        """Raises SpecError naming the option and what to set."""
        if self.image_size < SMALLEST_IMAGE:
            raise SpecError(
                f"simulator.imageSize: {self.image_size} is too small, use {SMALLEST_IMAGE} or more"
            )
        if not 1 <= self.min_objects <= self.max_objects <= MOST_OBJECTS:
            raise SpecError(
                f"simulator.minObjects, maxObjects: {self.min_objects}, {self.max_objects} must"
                f" satisfy 1 <= minObjects <= maxObjects <= {MOST_OBJECTS}"
            )
        if self.style not in ("auto", "solids", "furniture"):
            raise SpecError(f"simulator.style: {self.style!r} is not auto, solids or furniture")
        if self.distance not in ("closest", "centre"):
            raise SpecError(f"simulator.distance: {self.distance!r} is not closest or centre")
        if self.light is not None and not 0 <= self.light <= 1:
            raise SpecError(f"simulator.light: {self.light} is not between 0 and 1")

    @property
    def furniture(self) -> bool:
        """Whether rooms are furnished rather than filled with coloured solids."""
        if self.style == "auto":
            return self.image_size >= SMALLEST_FURNITURE_IMAGE
        return self.style == "furniture"

    @property
    def wall_light(self) -> float:
        """Strength of the coloured wall light, 0..1."""
        if self.light is not None:
            return self.light
        return 0.15 if self.furniture else 0.8
