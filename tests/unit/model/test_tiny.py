"""The preset ``tiny``: pure in its seed, and a tokenizer that any text survives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from unit.model.tinies import WORDS, small_policy

from m2r_train.model.policy import Policy
from m2r_train.model.tiny import SPECIAL_TOKENS, tiny_model
from m2r_train.sim import TASKS, VOCABULARY, generate


@pytest.fixture(scope="module")
def tiny() -> Policy:
    return Policy(*tiny_model(VOCABULARY, seed=0))


def test_it_has_about_0_9_million_parameters(tiny: Policy) -> None:
    count = sum(p.numel() for p in tiny.module.parameters())
    assert 850_000 < count < 950_000


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, again, other = (small_policy(seed).module.state_dict() for seed in (3, 3, 4))
    assert first.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    drawn = [name for name, value in first.items() if value.ndim >= 2]
    assert drawn
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def test_every_drawn_weight_has_the_scale_of_the_shape(tiny: Policy) -> None:
    for name, value in tiny.module.named_parameters():
        if value.ndim == 2 and value.numel() > 1000:
            assert float(value.detach().std()) == pytest.approx(0.08, rel=0.1), name


@pytest.mark.parametrize("word", VOCABULARY)
def test_a_word_of_the_vocabulary_is_one_token(tiny: Policy, word: str) -> None:
    assert len(tiny.tokenizer(word, add_special_tokens=False)["input_ids"]) == 1
    if word[0].isalpha():
        after_a_space = tiny.tokenizer(f"a {word}", add_special_tokens=False)["input_ids"]
        assert len(after_a_space) == 2


def test_numbers_are_written_digit_by_digit(tiny: Policy) -> None:
    ids = tiny.tokenizer("0123456789", add_special_tokens=False)["input_ids"]
    assert len(set(ids)) == 10
    assert tiny.tokenizer("77", add_special_tokens=False)["input_ids"] == [ids[7], ids[7]]


@pytest.mark.parametrize("task", TASKS)
def test_the_simulator_speaks_in_whole_words(tiny: Policy, task: str) -> None:
    """A token that is a single letter would mean that a word fell to bytes."""
    for index in range(4):
        made = generate(task, 11, index)
        assert made.chain is not None
        for text in (made.question, made.chain):
            ids = tiny.tokenizer(text, add_special_tokens=False)["input_ids"]
            pieces = [tiny.tokenizer.decode([i]) for i in ids]
            assert "".join(pieces) == text
            letters = {p.strip() for p in pieces if len(p.strip()) == 1 and p.strip().isalpha()}
            assert letters <= set(VOCABULARY), text


FRAGMENTS: tuple[str, ...] = (
    *WORDS,
    " left",
    "  ",
    "\n",
    "12",
    "<think>",
    "</think><answer>\\boxed{",
    "}</answer>",
)
FRAGMENTS += ("<", "}", "é", "e\u0301", "日本", "🙂", "\u200d", "\x00", "a\u00a0b", "\ufeff", "Ġ")
TEXTS = st.text() | st.lists(st.sampled_from(FRAGMENTS)).map("".join)


@given(text=TEXTS)
def test_any_text_comes_back_from_its_tokens(tiny: Policy, text: str) -> None:
    tokens = tiny.text_tokens(text)
    assert tokens[-1] == tiny.end_of_turn
    assert tiny.decode(tokens) == text


def test_special_tokens_are_one_token_each_and_the_last_of_the_vocabulary(tiny: Policy) -> None:
    ids = [tiny.tokenizer(t, add_special_tokens=False)["input_ids"] for t in SPECIAL_TOKENS]
    n = len(tiny.tokenizer)
    assert ids == [[n - len(SPECIAL_TOKENS) + i] for i in range(len(SPECIAL_TOKENS))]
    assert tiny.module.config.text_config.vocab_size == n
