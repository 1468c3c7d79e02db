"""Rows that share a prefix, packed into one sequence: no token is computed twice, none is padding.

A group's completions differ only after the prompt, so the prompt is computed once and every
completion attends to it. A row is ``[prefix | branch 0 | branch 1 | ...]``; a branch sees the
prefix and its own past, never another branch, and its positions go on from the prefix's end.
Log-probabilities equal those of G separate sequences; the work is that of P + sum(C) tokens
instead of G * P + sum(C). SFT uses the same rows to share an image between its questions.

The rows of a micro-batch lie behind each other in one sequence; positions start anew in each, and
``core.attention`` says who sees whom. Bins are filled by token count, whatever the lengths are.

Shapes: L tokens of the sequence, N tokens that are trained or scored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from m2r_train.core.attention import Attention, Shape, attention


@dataclass(frozen=True, slots=True)
class Branch:
    """Tokens after the prefix; ``scored[i]`` says whether token i is a target."""

    tokens: tuple[int, ...]
    scored_from: int = 0  # tokens before this index are context (the question), not targets


@dataclass(frozen=True, slots=True)
class Row:
    """A prefix with its 3-D rope positions (3 x P, time/height/width) and its branches.

    A branch goes on from the prefix's last position: times inside a clip may be later.
    """

    prefix: tuple[int, ...]
    positions: Tensor  # (3, P) int64
    branches: tuple[Branch, ...]

    @property
    def length(self) -> int:
        """Tokens of the row."""
        return len(self.prefix) + sum(len(b.tokens) for b in self.branches)


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Rows as one sequence, and where their targets are.

    ``source_N`` indexes the sequence's hidden states: the state that predicts target n.
    ``branch_N`` numbers branches over the whole batch in row order; ``offset_N`` is the target's
    index inside its branch.
    """

    tokens_L: Tensor
    positions_3L: Tensor
    prefix_L: Tensor  # bool: where placeholders of images may stand
    attention: Attention
    source_N: Tensor
    targets_N: Tensor
    branch_N: Tensor
    offset_N: Tensor
    branches: int

    def to(self, device: torch.device) -> PackedRows:
        """The same with every tensor on a device."""
        if self.tokens_L.device == device:
            return self
        return replace(
            self,
            tokens_L=self.tokens_L.to(device),
            positions_3L=self.positions_3L.to(device),
            prefix_L=self.prefix_L.to(device),
            attention=self.attention.to(device),
            source_N=self.source_N.to(device),
            targets_N=self.targets_N.to(device),
            branch_N=self.branch_N.to(device),
            offset_N=self.offset_N.to(device),
        )


def padding_ratio(packs: Iterable[PackedRows]) -> float:
    """Share of the cells that attention computes which hold no token; elsewhere there are none."""
    return Attention(tuple(part for p in packs for part in p.attention.parts)).padding_ratio


def cells(packs: Iterable[PackedRows]) -> tuple[int, int]:
    """(empty, all) cells that attention computes: what ``padding_ratio`` divides."""
    parts = [part for p in packs for part in p.attention.parts]
    empty = sum(part.padded for part in parts)
    return empty, empty + sum(part.cells for part in parts)


def pack_rows(rows: Sequence[Row]) -> PackedRows:
    """Lay rows behind each other in one sequence.

    Raises ValueError for a target with nothing before it: no state predicts it.
    """
    if any(not row.prefix and b.scored_from == 0 for row in rows for b in row.branches):
        raise ValueError("a row without a prefix cannot score a branch's first token")
    tokens: list[int] = []
    positions: list[Tensor] = []
    in_prefix: list[bool] = []
    source: list[int] = []
    targets: list[int] = []
    branch_of: list[int] = []
    offset_of: list[int] = []
    branch_number = 0
    for row in rows:
        p = len(row.prefix)
        tokens += row.prefix
        positions.append(row.positions)
        end_of_prefix = len(tokens) - 1
        next_position = int(row.positions[:, -1].max()) + 1 if p else 0
        in_prefix += [True] * p + [False] * (row.length - p)
        for branch in row.branches:
            start, n = len(tokens), len(branch.tokens)
            tokens += branch.tokens
            positions.append(torch.arange(next_position, next_position + n).expand(3, -1))
            scored = range(branch.scored_from, n)
            source += [start + i - 1 if i else end_of_prefix for i in scored]
            targets += branch.tokens[branch.scored_from :]
            branch_of += [branch_number] * len(scored)
            offset_of += scored
            branch_number += 1
    return PackedRows(
        tokens_L=torch.tensor(tokens, dtype=torch.long),
        positions_3L=torch.cat(positions, dim=1),
        prefix_L=torch.tensor(in_prefix, dtype=torch.bool),
        attention=attention(
            [Shape(len(r.prefix), tuple(len(b.tokens) for b in r.branches)) for r in rows]
        ),
        source_N=torch.tensor(source, dtype=torch.long),
        targets_N=torch.tensor(targets, dtype=torch.long),
        branch_N=torch.tensor(branch_of, dtype=torch.long),
        offset_N=torch.tensor(offset_of, dtype=torch.long),
        branches=branch_number,
    )
