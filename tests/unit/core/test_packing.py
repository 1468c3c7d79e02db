"""Rows that share a prefix: who sees whom, who predicts whom, drawn by hand and by rule."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from m2r_train.core.packing import Branch, Row, pack_rows


def text_row(prefix: tuple[int, ...], *branches: Branch, first: int = 0) -> Row:
    """A row whose prefix is text: its three position axes run together from ``first``."""
    return Row(prefix, torch.arange(first, first + len(prefix)).expand(3, -1), tuple(branches))


def test_two_branches_drawn_by_hand() -> None:
    packed = pack_rows([text_row((7, 8), Branch((1, 2)), Branch((3,))), text_row((9,))], 5)
    assert packed.tokens_RL.tolist() == [[7, 8, 1, 2, 3], [9, 5, 5, 5, 5]]
    for axis in packed.positions_3RL:
        assert axis[0].tolist() == [0, 1, 2, 3, 2]  # both branches go on from the prefix's end
    assert packed.mask_R1LL.shape == (2, 1, 5, 5)
    assert packed.mask_R1LL[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],  # the second branch sees the prefix and itself, not the first
    ]
    assert packed.mask_R1LL[1, 0].int().tolist() == torch.eye(5).int().tolist()
    assert packed.prefix_RL.int().tolist() == [[1, 1, 0, 0, 0], [1, 0, 0, 0, 0]]
    assert packed.source_N.tolist() == [1, 2, 1]  # first tokens are predicted by the prefix's end
    assert packed.targets_N.tolist() == [1, 2, 3]
    assert packed.branch_N.tolist() == [0, 0, 1]
    assert packed.offset_N.tolist() == [0, 1, 0]
    assert (packed.branches, packed.used) == (2, 6)
    assert packed.padding_ratio == pytest.approx(0.4)


def test_a_branchs_context_is_not_a_target() -> None:
    packed = pack_rows([text_row((7,), Branch((1, 2, 3, 4), scored_from=2), Branch((5,)))])
    assert packed.targets_N.tolist() == [3, 4, 5]
    assert packed.source_N.tolist() == [2, 3, 0]
    assert packed.offset_N.tolist() == [2, 3, 0]


def test_sources_of_a_later_row_count_the_padded_cells_before_it() -> None:
    packed = pack_rows([text_row((1,), Branch((2,))), text_row((3, 4), Branch((5, 6)))])
    assert packed.source_N.tolist() == [0, 5, 6]
    assert packed.branch_N.tolist() == [0, 1, 1]


def test_text_goes_on_from_the_largest_position_of_a_picture() -> None:
    positions = torch.tensor([[0, 1, 1], [0, 1, 1], [0, 1, 4]])
    packed = pack_rows([Row((1, 2, 3), positions, (Branch((4, 5)),))])
    assert packed.positions_3RL[:, 0, 3:].tolist() == [[5, 6]] * 3


def test_a_row_without_a_prefix_starts_at_zero_and_scores_its_second_token() -> None:
    packed = pack_rows([text_row((), Branch((1, 2), scored_from=1), Branch((3, 4), scored_from=1))])
    assert packed.positions_3RL[0, 0].tolist() == [0, 1, 0, 1]
    assert packed.source_N.tolist() == [0, 2]
    assert not packed.prefix_RL.any()


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


@given(rows=rows(), pad=st.just(0))
def test_every_cell_sees_its_own_past_and_every_target_comes_from_the_cell_before(
    rows: list[Row], pad: int
) -> None:
    packed = pack_rows(rows, pad)
    flat = packed.tokens_RL.flatten().tolist()
    pasts: dict[int, list[int]] = {}  # token -> what it may see, itself included
    expected: list[tuple[int, int]] = []  # (predicting token, target)
    for r in rows:
        for i, token in enumerate(r.prefix):
            pasts[token] = list(r.prefix[: i + 1])
        for branch in r.branches:
            path = (*r.prefix, *branch.tokens)
            for i, token in enumerate(branch.tokens):
                end = len(r.prefix) + i
                pasts[token] = list(path[: end + 1])
                if i >= branch.scored_from:
                    expected.append((path[end - 1], token))
    for k, line in enumerate(packed.tokens_RL.tolist()):
        for i, token in enumerate(line):
            seen = [line[j] for j in packed.mask_R1LL[k, 0, i].nonzero().flatten().tolist()]
            assert seen == (pasts[token] if token != pad else [pad])
    found = [flat[s] for s in packed.source_N.tolist()]
    assert list(zip(found, packed.targets_N.tolist(), strict=True)) == expected
    assert packed.used == sum(r.length for r in rows) == len(pasts)
    assert packed.branches == sum(len(r.branches) for r in rows)
