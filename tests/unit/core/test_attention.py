"""However rows are cut into calls, each cell sees its prefix and its own past, and nothing else."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from m2r_train.core.attention import Attention, Cut, Shape, Whole, attention

SHAPES = st.lists(
    st.builds(
        Shape,
        st.integers(0, 7),
        st.lists(st.integers(1, 6), max_size=5).map(tuple),
    ),
    min_size=1,
    max_size=6,
)
CALL_CELLS = st.sampled_from([0, 1, 5, 20, 60, 200, 10**9])


def rule(shapes: list[Shape]) -> Tensor:
    """Who sees whom in the whole sequence, cell by cell."""
    cells = [
        (r, b, i)
        for r, shape in enumerate(shapes)
        for b, n in enumerate([shape.prefix, *shape.branches])
        for i in range(n)
    ]
    return torch.tensor(
        [
            [
                own == other or (own[0] == other[0] and other[1] in {0, own[1]} and other < own)
                for other in cells
            ]
            for own in cells
        ],
        dtype=torch.bool,
    ).view(len(cells), len(cells))


def seen_by(plan: Attention, total: int) -> Tensor:
    """The same as the calls say; a real cell that sees padding fails."""
    seen = torch.zeros((total, total), dtype=torch.bool)
    start = 0
    for part in plan.parts:
        if isinstance(part, Whole):
            _whole(part, seen, start)
        else:
            _cut(part, seen, start)
        start += part.cells
    assert start == total
    return seen


def _causal(mask: Tensor | None, n: int) -> Tensor:
    return torch.ones((n, n), dtype=torch.bool).tril() if mask is None else mask


def _whole(part: Whole, seen: Tensor, start: int) -> None:
    width = max(part.lengths)
    places = part.place_N.tolist()
    assert len(places) == part.cells
    for r, n in enumerate(part.lengths):
        mask = _causal(None if part.mask_R1TT is None else part.mask_R1TT[r, 0], width)
        assert bool(mask.any(1).all()), "a softmax over nothing is nan"
        own = places[:n]
        places = places[n:]
        assert own == list(range(r * width, r * width + n))
        assert not mask[:n, n:].any(), "padding is seen"
        seen[start : start + n, start : start + n] = mask[:n, :n]
        start += n


def _cut(part: Cut, seen: Tensor, start: int) -> None:
    end = start + part.trunk
    seen[start:end, start:end] = _causal(part.trunk_mask_TT, part.trunk)
    for q, mask in zip(part.runs, part.run_masks, strict=True):
        assert mask.shape == (q, part.prefix + q)
        seen[end : end + q, start : start + part.prefix] = mask[:, : part.prefix]
        seen[end : end + q, end : end + q] = mask[:, part.prefix :]
        end += q


@given(shapes=SHAPES, call_cells=CALL_CELLS)
def test_every_cell_sees_its_prefix_and_its_own_past(shapes: list[Shape], call_cells: int) -> None:
    plan = attention(shapes, call_cells)
    total = sum(s.length for s in shapes)
    assert torch.equal(seen_by(plan, total), rule(shapes))
    computed = sum(p.cells + p.padded for p in plan.parts)
    assert plan.padding_ratio == pytest.approx(1 - total / computed if computed else 0.0)


def test_dear_calls_are_few_and_cheap_calls_are_many() -> None:
    shapes = [Shape(50, (20, 20, 20)), Shape(40, (20, 20, 20))]
    (one,) = attention(shapes, 10**6).parts
    assert isinstance(one, Whole)
    assert one.lengths == (110, 100)
    assert one.padded == 10
    cheap = attention(shapes, 10).parts
    assert [type(p) for p in cheap] == [Cut, Cut]
    assert [(p.trunk, p.runs) for p in cheap if isinstance(p, Cut)] == [
        (50, (20, 20, 20)),
        (40, (20, 20, 20)),
    ]
    assert attention(shapes, 10).padding_ratio == 0.0


def test_long_branches_are_cut_and_short_ones_stay_together() -> None:
    """With what a call costs as measured."""
    short, long = Shape(60, (4,) * 8), Shape(2000, (500,) * 4)
    assert isinstance(attention([short]).parts[0], Whole)
    (part,) = attention([long]).parts
    assert isinstance(part, Cut)
    assert (part.trunk, part.runs) == (2500, (500, 500, 500))


def test_one_branch_is_a_causal_sequence_and_needs_no_mask() -> None:
    (part,) = attention([Shape(10, (20,)), Shape(0, (30,)), Shape(30, ())]).parts
    assert isinstance(part, Whole)
    assert part.mask_R1TT is None
    assert part.padded == 0


def test_rows_of_unlike_length_are_not_padded_to_each_other() -> None:
    plan = attention([Shape(100, (900,)), Shape(100, (880,)), Shape(50, (50,)), Shape(50, (45,))])
    assert [part.cells for part in plan.parts] == [1000, 980, 195]
    assert plan.padding_ratio == pytest.approx(5 / 2180)


def test_a_plan_moves_as_a_whole() -> None:
    plan = attention([Shape(3, (2, 2)), Shape(2000, (500,) * 3), Shape(5, (1,))])
    moved = plan.to(torch.device("meta"))
    tensors = [
        x
        for part in moved.parts
        for x in (
            (part.mask_R1TT, part.place_N)
            if isinstance(part, Whole)
            else (part.trunk_mask_TT, *part.run_masks)
        )
        if x is not None
    ]
    assert len(tensors) == 5
    assert {x.device.type for x in tensors} == {"meta"}
    assert moved.padding_ratio == plan.padding_ratio
