"""How often to save: the interval that loses least to saving and to disruptions together."""

from __future__ import annotations

import math


def daly(cost: float, between: float) -> float:
    """Seconds of work between two saves (Daly, 2006, equation 37: Young's, to higher order).

    ``cost``: seconds that a save keeps the work waiting; ``between``: mean seconds between two
    disruptions.
    """
    ratio = cost / (2 * between)
    if ratio >= 1:
        return between
    return math.sqrt(2 * cost * between) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - cost


def steps_between_saves(
    *, step: float, blocking: float, upload: float, between: float, most: int
) -> int:
    """Steps from one save to the next: between 1 and ``most``.

    ``step``, ``blocking``, ``upload``: measured seconds of a step, of the part of a save that it
    waits for, and of the rest. One upload is on its way at a time, so that a shorter interval than
    an upload would make every save wait for the one before.
    """
    seconds = max(daly(blocking, between), upload)
    steps = math.ceil(seconds / step) if step > 0 else most
    return max(1, min(most, steps))


def give_up(left: float, rest: float, whole: float) -> bool:
    """Whether a save on its way should make room for one of the newest state, with ``left`` seconds
    until the process has to be gone.

    Only if both do not fit and the newest surely does: ``rest`` seconds are needed by the one on
    its way, ``whole`` by another one from its beginning.
    """
    return rest + whole > left and _SURELY * whole <= left


_SURELY = 1.5
