"""Which of several convex prisms apart from each other is painted first: planes between them say.

A prism that lies wholly outside a side of another cannot hide it from who stands inside of that
side, nor be hidden by it from who stands outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
_PLANE_SLACK = 1e-6
_NOWHERE = 1e9  # offset of a plane that nothing is beyond


@dataclass(frozen=True, slots=True)
class Prism:
    """A convex outline (counter-clockwise) from ``bottom`` to ``top``."""

    outline: tuple[tuple[float, float], ...]
    bottom: float
    top: float


@dataclass(frozen=True, slots=True)
class Order:
    """Which of n convex things may hide which, as seen from anywhere.

    ``planes`` (n, p, 4): outward normals and offsets; ``beyond`` (n, p, n): whether all of another
    thing is outside the plane.
    """

    planes: Array
    beyond: npt.NDArray[np.bool_]
    known: dict[bytes, list[int]] = field(default_factory=dict)

    def back_to_front(self, eye: Array) -> list[int]:
        """The n things in an order in which none is painted over by what it hides."""
        if len(self.planes) == 1:
            return [0]
        outside = self.planes[..., :3] @ eye > self.planes[..., 3]  # (n, p)
        key = outside.tobytes()
        if (found := self.known.get(key)) is None:
            found = self.known[key] = self._sorted(outside)
        return found

    def _sorted(self, outside: npt.NDArray[np.bool_]) -> list[int]:
        inner = np.any(self.beyond & ~outside[..., None], axis=1)  # [a, b]: b cannot hide a
        outer = np.any(self.beyond & outside[..., None], axis=1)  # [a, b]: a cannot hide b
        never = outer | inner.T  # [a, b]: a cannot hide b
        hides = never.T & ~never  # [a, b]: a may hide b, and b not a
        rows = np.packbits(hides, axis=1, bitorder="little")
        hidden = [int.from_bytes(row.tobytes(), "little") for row in rows]  # bit b of hidden[a]
        left = list(range(len(hidden)))
        waiting = (1 << len(left)) - 1
        order: list[int] = []
        while left:
            # What hides none of the others that are left is painted next; a ring is cut anywhere.
            pick = next((i for i in left if not hidden[i] & waiting), left[0])
            left.remove(pick)
            waiting ^= 1 << pick
            order.append(pick)
        return order


def order_of(prisms: Sequence[Prism]) -> Order:
    """The order of prisms by the planes of their sides, tops and undersides."""
    n, m = len(prisms), max(len(prism.outline) for prism in prisms)
    rims = np.array([(*p.outline, *p.outline[-1:] * (m - len(p.outline))) for p in prisms])
    bottom, top = np.array([(p.bottom, p.top) for p in prisms]).T
    along = rims[:, [*range(1, m), 0]] - rims
    planes = np.zeros((n, m + 2, 4))
    planes[:, :m, 0], planes[:, :m, 1] = along[..., 1], -along[..., 0]
    planes[:, :m, 3] = (planes[:, :m, :2] * rims).sum(axis=2)
    planes[:, :m, 3][~along.any(axis=2)] = _NOWHERE  # a corner repeated to fill up the row
    planes[:, m, 2], planes[:, m, 3] = 1.0, top
    planes[:, m + 1, 2], planes[:, m + 1, 3] = -1.0, -bottom
    # The nearest of a prism's corners to a plane: of its rim, and of its two heights.
    across = np.einsum("ipc,jvc->ipjv", planes[..., :2], rims).min(axis=3)
    upright = planes[..., 2:3] * np.where(planes[..., 2:3] > 0, bottom, top)
    beyond = across + upright - planes[..., 3:] > -_PLANE_SLACK
    beyond[np.arange(n), :, np.arange(n)] = False
    return Order(planes, beyond)
