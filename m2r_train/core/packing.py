"""Rows that share a prefix: one prompt and its G completions as one sequence.

A group's completions differ only after the prompt, so the prompt is computed once and every
completion attends to it. A row is ``[prefix | branch 0 | branch 1 | ...]``; a branch sees the
prefix and its own past, never another branch, and its positions go on from the prefix's end.
Log-probabilities equal those of G separate sequences; the work is that of P + sum(C) tokens
instead of G * P + sum(C). SFT uses the same rows to share an image between its questions.

Shapes: R rows, L tokens of the longest row, N tokens that are trained or scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Branch:
    """Tokens after the prefix; ``scored[i]`` says whether token i is a target."""

    tokens: tuple[int, ...]
    scored_from: int = 0  # tokens before this index are context (the question), not targets


@dataclass(frozen=True, slots=True)
class Row:
    """A prefix with its 3-D rope positions (3 x P, time/height/width) and its branches."""

    prefix: tuple[int, ...]
    positions: Tensor  # (3, P) int64
    branches: tuple[Branch, ...]

    @property
    def length(self) -> int:
        """Tokens of the row, padding not counted."""
        return len(self.prefix) + sum(len(b.tokens) for b in self.branches)


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Rows as tensors, and where their targets are.

    ``source_N`` indexes the flattened (R * L) hidden states: the state that predicts target n.
    ``branch_N`` numbers branches over the whole batch in row order; ``offset_N`` is the target's
    index inside its branch.
    """

    tokens_RL: Tensor
    positions_3RL: Tensor
    mask_R1LL: Tensor
    prefix_RL: Tensor  # bool: where placeholders of images may stand
    source_N: Tensor
    targets_N: Tensor
    branch_N: Tensor
    offset_N: Tensor
    branches: int
    used: int  # cells that hold a token

    @property
    def padding_ratio(self) -> float:
        """Share of the R x L cells that hold no token."""
        return 1.0 - self.used / self.tokens_RL.numel()


def pack_rows(rows: Sequence[Row], pad_token: int = 0) -> PackedRows:
    """Lay rows side by side, padded on the right to the longest.

    Padding cells attend to themselves only, so that no attention row is empty (a softmax over
    nothing is NaN); nothing real attends to them and no target reads them.
    Raises ValueError for a target with nothing before it: no state predicts it.
    """
    if any(not row.prefix and b.scored_from == 0 for row in rows for b in row.branches):
        raise ValueError("a row without a prefix cannot score a branch's first token")
    width = max(row.length for row in rows)
    tokens = torch.full((len(rows), width), pad_token, dtype=torch.long)
    positions = torch.zeros((3, len(rows), width), dtype=torch.long)
    segment = torch.full((len(rows), width), -1, dtype=torch.long)  # 0 = prefix, 1.. = branches
    source: list[int] = []
    targets: list[int] = []
    branch_of: list[int] = []
    offset_of: list[int] = []
    branch_number = 0
    for r, row in enumerate(rows):
        p = len(row.prefix)
        tokens[r, :p] = torch.tensor(row.prefix, dtype=torch.long)
        positions[:, r, :p] = row.positions
        segment[r, :p] = 0
        next_position = int(row.positions.max()) + 1 if p else 0
        start = p
        for b, branch in enumerate(row.branches, start=1):
            n = len(branch.tokens)
            tokens[r, start : start + n] = torch.tensor(branch.tokens, dtype=torch.long)
            positions[:, r, start : start + n] = torch.arange(next_position, next_position + n)
            segment[r, start : start + n] = b
            for i in range(branch.scored_from, n):
                source.append(r * width + (start + i - 1 if i else p - 1))
                targets.append(branch.tokens[i])
                branch_of.append(branch_number)
                offset_of.append(i)
            branch_number += 1
            start += n
    index = torch.arange(width)
    causal = index[None, :] <= index[:, None]
    query, key = segment[:, :, None], segment[:, None, :]
    visible = ((key == 0) | (key == query)) & causal & (key >= 0) & (query >= 0)
    visible |= torch.eye(width, dtype=torch.bool) & (segment == -1)[:, :, None]
    return PackedRows(
        tokens_RL=tokens,
        positions_3RL=positions,
        mask_R1LL=visible[:, None],
        prefix_RL=segment == 0,
        source_N=torch.tensor(source, dtype=torch.long),
        targets_N=torch.tensor(targets, dtype=torch.long),
        branch_N=torch.tensor(branch_of, dtype=torch.long),
        offset_N=torch.tensor(offset_of, dtype=torch.long),
        branches=branch_number,
        used=sum(row.length for row in rows),
    )
