"""Rows that share a prefix: who sees whom, who predicts whom, drawn by hand and by rule."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from m2r_train.core.attention import Whole
from m2r_train.core.packing import Branch, PackedRows, Row, pack_rows, padding_ratio


def text_row(prefix: tuple[int, ...], *branches: Branch, first: int = 0) -> Row:
    """A row whose prefix is text: its three position axes run together from ``first``."""
    return Row(prefix, torch.arange(first, first + len(prefix)).expand(3, -1), tuple(branches))


def seen(packed: PackedRows) -> list[list[int]]:
    """The mask of the only call."""
    (part,) = packed.attention.parts
    assert isinstance(part, Whole) and part.mask_R1TT is not None
    own: list[list[int]] = part.mask_R1TT[0, 0].int().tolist()
    return own


def test_two_branches_drawn_by_hand() -> None:
    packed = pack_rows([text_row((7, 8), Branch((1, 2)), Branch((3,)))])
    assert packed.tokens_L.tolist() == [7, 8, 1, 2, 3]
    for axis in packed.positions_3L:
        assert axis.tolist() == [0, 1, 2, 3, 2]  # both branches go on from the prefix's end
    assert seen(packed) == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],  # the second branch sees the prefix and itself, not the first
    ]
    assert packed.prefix_L.int().tolist() == [1, 1, 0, 0, 0]
    assert packed.source_N.tolist() == [1, 2, 1]  # first tokens are predicted by the prefix's end
    assert packed.targets_N.tolist() == [1, 2, 3]
    assert packed.branch_N.tolist() == [0, 0, 1]
    assert packed.offset_N.tolist() == [0, 1, 0]
    assert packed.branches == 2
    assert padding_ratio([packed]) == 0.0


def test_rows_lie_behind_each_other_and_positions_start_anew() -> None:
    packed = pack_rows([text_row((7, 8), Branch((1, 2)), Branch((3,))), text_row((9,))])
    assert packed.tokens_L.tolist() == [7, 8, 1, 2, 3, 9]
    assert packed.positions_3L[1].tolist() == [0, 1, 2, 3, 2, 0]
    assert packed.prefix_L.int().tolist() == [1, 1, 0, 0, 0, 1]
    assert [part.cells for part in packed.attention.parts] == [5, 1]


def test_what_attention_pads_is_told() -> None:
    packed = pack_rows([text_row((1, 2, 3, 4)), text_row((5,))])
    assert packed.tokens_L.tolist() == [1, 2, 3, 4, 5]
    assert padding_ratio([packed]) == pytest.approx(3 / 8)
    assert padding_ratio([packed, pack_rows([text_row((6, 7))])]) == pytest.approx(3 / 10)
    assert padding_ratio([]) == 0.0


def test_a_branchs_context_is_not_a_target() -> None:
    packed = pack_rows([text_row((7,), Branch((1, 2, 3, 4), scored_from=2), Branch((5,)))])
    assert packed.targets_N.tolist() == [3, 4, 5]
    assert packed.source_N.tolist() == [2, 3, 0]
    assert packed.offset_N.tolist() == [2, 3, 0]


def test_sources_of_a_later_row_count_the_cells_before_it() -> None:
    packed = pack_rows([text_row((1,), Branch((2,))), text_row((3, 4), Branch((5, 6)))])
    assert packed.source_N.tolist() == [0, 3, 4]
    assert packed.branch_N.tolist() == [0, 1, 1]


def test_text_goes_on_from_the_largest_position_of_a_picture() -> None:
    positions = torch.tensor([[0, 1, 1], [0, 1, 1], [0, 1, 4]])
    packed = pack_rows([Row((1, 2, 3), positions, (Branch((4, 5)),))])
    assert packed.positions_3L[:, 3:].tolist() == [[5, 6]] * 3


def test_text_goes_on_from_the_prefixs_end_and_not_from_a_clips_last_time() -> None:
    positions = torch.tensor([[0, 0, 9, 2], [0, 1, 1, 2], [0, 1, 1, 2]])
    packed = pack_rows([Row((1, 2, 3, 4), positions, (Branch((5, 6)),))])
    assert packed.positions_3L[:, 4:].tolist() == [[3, 4]] * 3


def test_a_row_without_a_prefix_starts_at_zero_and_scores_its_second_token() -> None:
    packed = pack_rows([text_row((), Branch((1, 2), scored_from=1), Branch((3, 4), scored_from=1))])
    assert packed.positions_3L[0].tolist() == [0, 1, 0, 1]
    assert packed.source_N.tolist() == [0, 2]
    assert not packed.prefix_L.any()


def test_a_target_that_nothing_predicts_is_refused() -> None:
    """Its source would be the last cell of the row before, or of the batch."""
    with pytest.raises(ValueError, match="without a prefix"):
        pack_rows([text_row((1,), Branch((2,))), text_row((), Branch((3, 4)))])


LENGTHS = st.integers(min_value=1, max_value=6)


@st.composite
def rows(draw: st.DrawFn) -> list[Row]:
    """Rows whose every token is a different number."""
    number = iter(range(1, 10_000))
    made = []
    for _ in range(draw(st.integers(1, 4))):
        prefix = tuple(next(number) for _ in range(draw(LENGTHS)))
        branches = []
        for n in draw(st.lists(LENGTHS, max_size=4)):
            scored = draw(st.integers(0, n))
            branches.append(Branch(tuple(next(number) for _ in range(n)), scored))
        made.append(text_row(prefix, *branches, first=draw(st.integers(0, 5))))
    return made


@given(rows=rows())
def test_every_target_comes_from_the_cell_before(rows: list[Row]) -> None:
    packed = pack_rows(rows)
    tokens = packed.tokens_L.tolist()
    expected = [  # (predicting token, target)
        ((*r.prefix, *branch.tokens)[len(r.prefix) + i - 1], branch.tokens[i])
        for r in rows
        for branch in r.branches
        for i in range(branch.scored_from, len(branch.tokens))
    ]
    found = [tokens[s] for s in packed.source_N.tolist()]
    assert list(zip(found, packed.targets_N.tolist(), strict=True)) == expected
    assert (
        len(tokens)
        == sum(r.length for r in rows)
        == sum(part.cells for part in packed.attention.parts)
    )
    assert packed.branches == sum(len(r.branches) for r in rows)
    assert packed.to(packed.tokens_L.device) is packed
    assert packed.to(torch.device("meta")).source_N.device.type == "meta"
