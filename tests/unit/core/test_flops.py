"""Operations by hand: 2 a weight and token forward, 6 with a backward pass, pairs by the mask."""

from __future__ import annotations

import pytest

from m2r_train.core.flops import (
    Load,
    Part,
    forward_flops,
    picture_load,
    row_load,
    total,
    update_flops,
)

TOWER = Part(through="patches", weights=100, width=8, pairs="whole_pairs")
LAYER = Part(through="tokens", weights=1000, learning=1000, learns=True, width=16)
HEAD = Part(through="targets", weights=50, learning=50, learns=True)


def test_six_operations_a_weight_and_token_and_twelve_a_pair() -> None:
    """PaLM's 6 N + 12 L H Q T, where the mask leaves T pairs a token."""
    load = Load(tokens=10, targets=10, token_pairs=10 * 10)
    assert update_flops([LAYER, HEAD], load) == 6 * (1000 + 50) * 10 + 12 * 16 * 100
    assert forward_flops([LAYER, HEAD], load) == 2 * (1000 + 50) * 10 + 4 * 16 * 100


def test_what_is_frozen_costs_two_before_and_four_behind_what_learns() -> None:
    frozen = Part(through="tokens", weights=1000, width=16)
    load = Load(tokens=10, token_pairs=7)
    assert update_flops([frozen], load) == 2 * 1000 * 10 + 4 * 16 * 7
    learns = Part(through="tokens", weights=0, learns=True)  # an embedding
    assert update_flops([learns, frozen], load) == 4 * 1000 * 10 + 12 * 16 * 7
    assert update_flops([frozen, learns], load) == update_flops([frozen], load)
    patches = Load(patches=5, tokens=1, whole_pairs=3)
    assert update_flops([TOWER, LAYER], patches) == 2 * 100 * 5 + 4 * 8 * 3 + 6 * 1000


def test_adapters_learn_and_are_not_there_where_nothing_is_trained() -> None:
    adapted = Part(through="tokens", weights=1000, adapters=20, learns=True)
    load = Load(tokens=10)
    assert update_flops([adapted], load) == (4 * 1000 + 6 * 20) * 10
    assert forward_flops([adapted], load) == 2 * 1000 * 10


def test_a_shared_prompt_counts_once() -> None:
    load = row_load(4, (2, 3), targets=5)
    assert (load.tokens, load.targets) == (9, 5)
    seen = [1, 2, 3, 4, 5, 6, 5, 6, 7]  # by each token: the prompt and the own past
    assert load.token_pairs == sum(seen)
    alone = row_load(6, (), 0) + row_load(7, (), 0)
    assert load.token_pairs < alone.token_pairs and load.tokens < alone.tokens


def test_patches_see_their_own_frame_or_window() -> None:
    load = picture_load((2, 4, 6), merge=2, window=4)
    assert (load.patches, load.visuals) == (48, 12)
    assert load.whole_pairs == 2 * 24 * 24
    assert load.window_pairs == 2 * (16 * 16 + 8 * 8)
    wide = picture_load((1, 4, 4), merge=1, window=8)
    assert wide.window_pairs == wide.whole_pairs


@pytest.mark.parametrize("field", Load.__slots__)
def test_loads_add_up_field_by_field(field: str) -> None:
    one, two = Load(**{field: 3}), Load(**{field: 4})
    assert total([one, two]) == Load(**{field: 7})
    assert total([]) == Load()
