"""Which attention calls compute packed rows: nobody sees another sample, little is padded.

Rows lie behind each other in one sequence. What a row sees is a tree: the prefix its own past, a
branch the prefix and its own past. One mask over the whole sequence would cost its square, one
call a branch costs the calls. So each row is cut where it is cheapest, in cells (a query times a
key) and in calls:

* whole: one call with the row's mask. Neighbours of like length share a call, padded to the
  longest: the only padding there is.
* cut: a trunk (the prefix and its first branches), then runs of branches, each over the prefix and
  itself.

A row with at most one branch is an ordinary causal sequence and needs no mask.

Shapes: R rows of one call, T cells of its longest, P cells of a prefix, Q cells of a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

_CALL_CELLS = 4096
"""Cells that cost as much as one more call, forward and backward.

Measured on a core in float32: a call costs some 0.13 ms with its copies, which is 5400 cells of 4
heads of 32 and 1300 cells of 8 heads of 64.
"""

_CAUSAL_EXTRA = 384
"""Kernels skip what a causal mask hides in tiles: they compute n (n + 384) / 2 cells."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Cells of a row's prefix and of each of its branches."""

    prefix: int
    branches: tuple[int, ...]

    @property
    def length(self) -> int:
        """All cells of the row."""
        return self.prefix + sum(self.branches)

    @property
    def is_causal(self) -> bool:
        """Whether each cell sees all that are before it."""
        return len(self.branches) <= 1


@dataclass(frozen=True, slots=True)
class Whole:
    """Neighbouring rows in one call, padded on the right to the longest (T)."""

    lengths: tuple[int, ...]
    mask_R1TT: Tensor | None  # bool; None: causal
    place_N: Tensor  # of the rows' cells in the flat (R * T) grid

    @property
    def cells(self) -> int:
        """Cells of the sequence that the call computes."""
        return sum(self.lengths)

    @property
    def padded(self) -> int:
        """Cells that hold nothing and are computed as well."""
        return len(self.lengths) * max(self.lengths) - self.cells

    def to(self, device: torch.device) -> Whole:
        """The same on a device."""
        mask = self.mask_R1TT
        moved = None if mask is None else mask.to(device)
        return Whole(self.lengths, moved, self.place_N.to(device))


@dataclass(frozen=True, slots=True)
class Cut:
    """One row: its trunk, then runs of branches, each over the prefix and itself."""

    prefix: int
    trunk: int
    trunk_mask_TT: Tensor | None  # bool; None: causal
    runs: tuple[int, ...]
    run_masks: tuple[Tensor, ...]  # bool (Q, P + Q)

    @property
    def cells(self) -> int:
        """Cells of the sequence that the calls compute."""
        return self.trunk + sum(self.runs)

    @property
    def padded(self) -> int:
        """Nothing is."""
        return 0

    def to(self, device: torch.device) -> Cut:
        """The same on a device."""
        mask = self.trunk_mask_TT
        return Cut(
            self.prefix,
            self.trunk,
            None if mask is None else mask.to(device),
            self.runs,
            tuple(m.to(device) for m in self.run_masks),
        )


@dataclass(frozen=True, slots=True)
class Attention:
    """The calls for a packed sequence, in the order of its cells."""

    parts: tuple[Whole | Cut, ...]

    @property
    def padding_ratio(self) -> float:
        """Share of the computed cells that hold nothing."""
        padded = sum(part.padded for part in self.parts)
        used = sum(part.cells for part in self.parts)
        return padded / (padded + used) if used else 0.0

    def to(self, device: torch.device) -> Attention:
        """The same on a device."""
        return Attention(tuple(part.to(device) for part in self.parts))


def attention(shapes: Sequence[Shape], call_cells: int = _CALL_CELLS) -> Attention:
    """The cheapest calls for rows in this order, where a call costs ``call_cells`` cells."""
    parts: list[Whole | Cut] = []
    open_rows: list[Shape] = []
    for shape in shapes:
        if not shape.length:
            continue
        cut = _cut(shape, call_cells)
        if open_rows and (cut is not None or not _joins(shape, open_rows, call_cells)):
            parts.append(_whole(open_rows))
            open_rows = []
        if cut is not None:
            parts.append(cut)
        else:
            open_rows.append(shape)
    if open_rows:
        parts.append(_whole(open_rows))
    return Attention(tuple(parts))


def _joins(shape: Shape, rows: Sequence[Shape], call_cells: int) -> bool:
    """Whether padding costs less than a call of its own."""
    if shape.is_causal != rows[0].is_causal:
        return False
    longest = max(row.length for row in rows)
    if shape.length > longest:
        more = len(rows) * (shape.length**2 - longest**2)
    else:
        more = longest**2 - shape.length**2
    return more < call_cells


def _whole(rows: Sequence[Shape]) -> Whole:
    width = max(row.length for row in rows)
    return Whole(
        tuple(row.length for row in rows),
        None if rows[0].is_causal else torch.stack([_mask(row, width) for row in rows])[:, None],
        torch.cat([torch.arange(row.length) + r * width for r, row in enumerate(rows)]),
    )


def _mask(row: Shape, width: int) -> Tensor:
    """Who sees whom in a row, (T, T). Padding goes on the last branch, so that it sees itself."""
    lengths = [row.prefix, *row.branches]
    lengths[-1] += width - row.length
    segment = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    query, key = segment[:, None], segment[None, :]
    return ((key == 0) | (key == query)).tril_()


def _run_mask(prefix: int, branches: Sequence[int]) -> Tensor:
    """Who sees whom in a run of branches, (Q, P + Q)."""
    segment = torch.repeat_interleave(torch.arange(len(branches)), torch.tensor(branches))
    own = (segment[:, None] == segment[None, :]).tril_()
    return torch.cat([own.new_ones(len(own), prefix), own], dim=1)


def _cut(row: Shape, call_cells: int) -> Cut | None:
    """The cheapest cut of a row, None where it is cheapest whole."""
    count = len(row.branches)
    if row.is_causal:
        return None
    ends = [0, *accumulate(row.branches)]
    # best[j]: cost of the first j branches with the prefix, and where the last call begins
    # (-1: it is the trunk); a run behind the trunk sees the prefix and itself
    best: list[tuple[float, int]] = []
    for j in range(count + 1):
        n = row.prefix + ends[j]
        cells = min(n**2, n * (n + _CAUSAL_EXTRA) / 2) if j <= 1 else n**2
        options = [(call_cells + cells if n else 0.0, -1)]
        for i in range(j):
            q = ends[j] - ends[i]
            options.append((best[i][0] + call_cells + q * (row.prefix + q), i))
        best.append(min(options))
    bounds = [count]
    while best[bounds[-1]][1] >= 0:
        bounds.append(best[bounds[-1]][1])
    if len(bounds) == 1:
        return None
    bounds.reverse()
    in_trunk = bounds[0]
    trunk = Shape(row.prefix, row.branches[:in_trunk])
    runs = [row.branches[a:b] for a, b in pairwise(bounds)]
    return Cut(
        row.prefix,
        trunk.length,
        None if trunk.is_causal else _mask(trunk, trunk.length),
        tuple(sum(run) for run in runs),
        tuple(_run_mask(row.prefix, run) for run in runs),
    )
