"""Below which difference a question is ambiguous and is not asked (docs/spatial-tasks.md)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """Metres, degrees, and shares of a picture's pixels or side.

    The first four say what counts as seen: a thing asked about covers ``seen`` of some frame and
    ``share`` of it is shown there; what covers less than ``unseen`` of every frame is not there
    for who watches; what lies between makes counting ambiguous.
    """

    seen: float = 0.004
    share: float = 0.6
    unseen: float = 0.0005
    image_share: float = 0.75
    distance: float = 0.3
    candidates: float = 0.15
    least_distance: float = 0.3
    angle: float = 10.0
    observer: float = 0.2
    depth: float = 0.5
    relation: float = 0.08
    appeared: float = 0.005
    unappeared: float = 0.001
    clearance: float = 0.25
    leg: float = 0.8


DEFAULT = Margins()
