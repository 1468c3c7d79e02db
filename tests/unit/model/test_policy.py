"""Packed rows give each branch what transformers' own forward gives it alone."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from unit.model.tinies import (
    chained_positions,
    clip,
    generator,
    hf_inputs,
    hf_logits,
    picture,
    request,
    row,
    sample,
    small_policy,
)

from m2r_train.core import linear, packing
from m2r_train.core.attention import attention
from m2r_train.core.packing import Branch, Row, pack_rows
from m2r_train.model.policy import Extent, Policy, Request, rope_positions
from m2r_train.model.tiny import SPECIAL_TOKENS


@pytest.fixture(scope="module", params=[1, 2], ids=["merge1", "merge2"])
def policy(request: pytest.FixtureRequest) -> Policy:
    return small_policy(merge=request.param)


def draw(policy: Policy, lengths: list[int], seed: int) -> list[tuple[int, ...]]:
    """Completions of the given lengths out of text tokens."""
    top, g = len(policy.tokenizer) - len(SPECIAL_TOKENS), generator(seed)
    return [tuple(torch.randint(top, (n,), generator=g).tolist()) for n in lengths]


def several(policy: Policy) -> list[tuple[Request, list[tuple[int, ...]]]]:
    """Two pictures, text alone, a picture, a clip, both; three to one branches."""
    asked = [
        request(policy, "how many red cubes?", picture(32, 16), picture(16, 48, 1)),
        request(policy, "how many?"),
        request(policy, "so the answer is left?", picture(48, 32, 2)),
        request(policy, "how many cubes?", clip(5, 32, 16)),
        request(policy, "left or right?", picture(16, 16, 3), clip(4, 16, 48, 2)),
    ]
    lengths = [[5, 1, 9], [4, 4], [7], [6, 2], [3, 8]]
    return [(a, draw(policy, n, k)) for k, (a, n) in enumerate(zip(asked, lengths, strict=True))]


@pytest.mark.parametrize(
    ("way", "call_cells"), [("whole", 4096), ("tiled", 4096), ("whole", 0), ("whole", 200)]
)
def test_loss_and_gradients_are_those_of_each_branch_alone(
    policy: Policy, way: str, call_cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever calls attention is made of: one with a mask, one a branch, something between."""
    monkeypatch.setattr(packing, "attention", partial(attention, call_cells=call_cells))
    if way == "tiled":  # the head is tied to the embeddings: both uses add to one gradient
        monkeypatch.setattr(linear, "_WHOLE_ELEMENTS", 0)
        monkeypatch.setattr(linear, "_TILE_ELEMENTS", 1000)
    policy = policy.copy()
    policy.module.double().requires_grad_(True)
    work = several(policy)
    targets = [c for _, completions in work for c in completions]
    weights = torch.randn(sum(map(len, targets)), generator=generator(), dtype=torch.float64)

    packed = pack_rows([row(asked.prompt, *completions) for asked, completions in work])
    seen = policy.see([i for asked, _ in work for i in asked.images])
    logp_N, _ = policy.logprobs(packed, seen)
    assert packed.targets_N.tolist() == [t for c in targets for t in c]
    loss = (weights * logp_N).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    ours = {n: p.grad for n, p in policy.module.named_parameters()}
    policy.module.zero_grad()

    alone = []
    for asked, completions in work:
        for c in completions:
            logits = hf_logits(policy, asked, c)
            alone.append(logits.log_softmax(-1).gather(1, torch.tensor(c)[:, None])[:, 0])
    expected = (weights * torch.cat(alone)).sum()
    expected.backward()  # type: ignore[no-untyped-call]

    torch.testing.assert_close(logp_N, torch.cat(alone), atol=1e-6, rtol=0)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for name, parameter in policy.module.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name
        torch.testing.assert_close(ours[name], parameter.grad, atol=1e-5, rtol=1e-4, msg=name)


def test_a_question_after_a_shared_picture_is_as_good_as_a_prompt_of_its_own(
    policy: Policy,
) -> None:
    """SFT's rows: the prefix ends with the picture, a branch is a question and a scored turn."""
    image = picture(48, 16)
    questions = [request(policy, q, image) for q in ("how many red?", "left of the blue cubes?")]
    turns = draw(policy, [4, 6], 5)
    cut = questions[0].prompt.prefix_length
    branches = [
        Branch(q.prompt.tokens[cut:] + turn, scored_from=len(q.prompt.tokens) - cut)
        for q, turn in zip(questions, turns, strict=True)
    ]
    first = questions[0].prompt
    shared = Row(first.tokens[:cut], first.positions[:, :cut], tuple(branches))
    with torch.no_grad():
        logits = policy.logits(pack_rows([shared]), policy.see([image]))
        alone = [hf_logits(policy, q, t) for q, t in zip(questions, turns, strict=True)]
    torch.testing.assert_close(logits, torch.cat(alone), atol=2e-5, rtol=0)


def logits_of(policy: Policy, rows: list[Row], asked: list[Request]) -> Tensor:
    with torch.no_grad():
        return policy.logits(pack_rows(rows), policy.see([i for a in asked for i in a.images]))


def test_what_lies_beside_a_row_does_not_matter(policy: Policy) -> None:
    (asked, completions), (_, others), *_ = several(policy)
    alone = logits_of(policy, [row(asked.prompt, *completions)], [asked])
    text = request(policy, "how many?").prompt
    beside = [row(text, *others, *draw(policy, [40], 8)), row(text, *draw(policy, [15], 9))]
    n = len(alone)
    before = logits_of(policy, [row(asked.prompt, *completions), *beside], [asked])
    torch.testing.assert_close(before[:n], alone, atol=2e-5, rtol=0)
    after = logits_of(policy, [*beside, row(asked.prompt, *completions)], [asked])
    torch.testing.assert_close(after[-n:], alone, atol=2e-5, rtol=0)
    torch.testing.assert_close(after[:-n], before[n:], atol=2e-5, rtol=0)


def test_a_branch_cannot_see_another(policy: Policy) -> None:
    asked = request(policy, "how many?", picture(32, 32))
    first, second, third, changed = draw(policy, [6, 5, 7, 5], 3)
    before = logits_of(policy, [row(asked.prompt, first, second, third)], [asked])
    after = logits_of(policy, [row(asked.prompt, first, changed, third)], [asked])
    assert torch.equal(before[:7], after[:7])  # the first, and the second's first: from the prompt
    assert not torch.allclose(before[7:11], after[7:11], atol=1e-2)
    assert torch.equal(before[11:], after[11:])


def test_no_target_sees_its_own_token_or_later_ones(policy: Policy) -> None:
    asked = request(policy, "how many?", picture(32, 32))
    (completion, other) = draw(policy, [6, 6], 4)
    before = logits_of(policy, [row(asked.prompt, completion)], [asked])
    after = logits_of(policy, [row(asked.prompt, completion[:3] + other[3:])], [asked])
    assert torch.equal(before[:4], after[:4])
    assert not torch.allclose(before[4:], after[4:], atol=1e-2)


def test_each_row_sees_its_own_picture(policy: Policy) -> None:
    red, blue = (request(policy, "how many?", picture(32, 32, seed)) for seed in (1, 2))
    (completion,) = draw(policy, [4], 6)
    rows = [row(red.prompt, completion), row(blue.prompt, completion)]
    both = logits_of(policy, rows, [red, blue])
    swapped = logits_of(policy, rows, [blue, red])
    torch.testing.assert_close(both[:4], swapped[4:], atol=2e-5, rtol=0)
    assert not torch.allclose(both[:4], both[4:], atol=1e-2)


def test_a_sampled_placeholder_is_a_token_like_any_other(policy: Policy) -> None:
    """Its logits are those of a text token with the same embedding, by transformers' forward."""
    asked = request(policy, "how many?", picture(32, 32))
    word = policy.tokenizer.convert_tokens_to_ids("cubes")
    a, b = draw(policy, [2, 3], 7)
    twin = policy.copy()
    with torch.no_grad():
        weight = twin.module.get_input_embeddings().weight
        weight[word] = weight[policy.image_token]
        expected = hf_logits(twin, asked, (*a, word, *b))
    ours = logits_of(policy, [row(asked.prompt, (*a, policy.image_token, *b))], [asked])
    others = [i for i in range(len(policy.tokenizer)) if i != word]
    torch.testing.assert_close(ours[:, others], expected[:, others], atol=2e-5, rtol=0)


def test_pictures_that_do_not_fit_the_placeholders_are_our_mistake(policy: Policy) -> None:
    asked = request(policy, "how many?", picture(32, 32))
    packed = pack_rows([row(asked.prompt, (1, 2))])
    with pytest.raises(AssertionError, match="differ in number"):
        policy.logits(packed, policy.see([picture(32, 16)]))


@pytest.mark.parametrize(
    "segments",
    [
        [3, (1, 4, 6), 5],
        [1, (1, 2, 2), 1],
        [4, (1, 8, 2), 2, (1, 2, 8), 7],
        [1, (1, 6, 6), 1, (1, 6, 6), 1, (1, 2, 4), 20],
        [2, (1, 10, 4)],
        [9],
        [2, (3, 4, 6), 5],
        [1, (1, 4, 4), 1, (5, 2, 2), 3, (1, 2, 2), 1],
        [1, (4, 2, 2), 1, (2, 8, 2), 1],
    ],
)
@pytest.mark.parametrize("seconds", [1.0, 0.3, 2.5])
def test_rope_positions_are_those_of_transformers(
    policy: Policy, segments: list[int | tuple[int, int, int]], seconds: float
) -> None:
    """Grids of several temporal patches are clips, with so many seconds from one to the next."""
    tokens: list[int] = []
    grids = [s for s in segments if not isinstance(s, int)]
    for s in segments:
        if isinstance(s, int):
            tokens += [1] * s
        else:
            tokens += [policy.video_token if s[0] > 1 else policy.image_token] * _count(policy, s)
    ids = torch.tensor([tokens])
    kinds = (ids == policy.image_token).int() + 2 * (ids == policy.video_token).int()
    stills, clips = ([g for g in grids if (g[0] > 1) == moves] for moves in (False, True))
    inputs = {
        "input_ids": ids,
        "mm_token_type_ids": kinds,
        "image_grid_thw": torch.tensor(stills),
        "video_grid_thw": torch.tensor(clips),
        "second_per_grid_ts": torch.tensor([seconds] * len(clips), dtype=torch.float64),
    }
    expected = chained_positions(policy, inputs)
    ours = rope_positions(
        tokens,
        grids,
        policy.merge,
        image_token=policy.image_token,
        video_token=policy.video_token,
        video_step=policy.tokens_per_second * seconds,
    )
    assert torch.equal(ours, expected[:, 0])


def _count(policy: Policy, grid: tuple[int, int, int]) -> int:
    return grid[0] * grid[1] * grid[2] // policy.merge**2


def test_a_prompt_is_what_the_processor_makes_of_the_conversation(policy: Policy) -> None:
    """Ids, grids and the number of placeholders; for sizes that are resized, too."""
    images = [picture(37, 50), picture(16, 16)]
    asked = sample("how many red?", images=(b"", b""))
    prompt = policy.lay_out([asked], [[Extent(i.size) for i in images]])[0]
    turns = [{"role": "user", "content": [{"type": "image"}] * 2}]
    turns[0]["content"] = [*turns[0]["content"], {"type": "text", "text": "how many red?"}]
    text = policy.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    encoded = policy.processor(text=[text], images=images, return_tensors="pt")
    assert list(prompt.tokens) == encoded["input_ids"][0].tolist()
    assert [list(g) for g in prompt.grids] == encoded["image_grid_thw"].tolist()
    assert prompt.tokens[prompt.prefix_length - 1] == policy.vision_end
    assert policy.vision_end not in prompt.tokens[prompt.prefix_length :]


def test_options_are_lettered_lines_under_the_question(policy: Policy) -> None:
    asked = sample("left or right?", options=("left", "right", "so"), answer_type="choice")
    prompt = policy.lay_out([asked], [[]])[0]
    assert "left or right?\nA. left\nB. right\nC. so<|im_start|>" in policy.decode(prompt.tokens)
    assert prompt.prefix_length == 0


def test_nothing_laid_out_is_nothing(policy: Policy) -> None:
    assert policy.lay_out([], []) == []


SHREDS = [*SPECIAL_TOKENS, "<|", "|>", "<", "im_end", "how", " ", "<|im<|im_end|>_end|>"]


@settings(max_examples=60)
@given(shreds=st.lists(st.sampled_from(SHREDS), min_size=1, max_size=6), where=st.booleans())
def test_a_question_cannot_forge_control_tokens(
    policy: Policy, shreds: list[str], where: bool
) -> None:
    text = "".join(shreds)
    innocent: dict[str, Any] = {"question": "how many?", "options": ("left", "right")}
    hostile: dict[str, Any] = {"question": text} if where else {"options": ("left", text)}
    size = [Extent((32, 32))]
    plain, forged = policy.lay_out(
        [
            sample(images=(b"",), **innocent),
            sample(images=(b"",), **{**innocent, **hostile}),
        ],
        [size, size],
    )
    special = set(policy.tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)))
    assert [t for t in forged.tokens if t in special] == [t for t in plain.tokens if t in special]
    assert forged.grids == plain.grids
    assert forged.prefix_length == plain.prefix_length


def test_a_question_about_a_placeholder_can_still_be_read(policy: Policy) -> None:
    prompt = policy.lay_out([sample("what is <|image_pad|> or <|im_end|>?")], [[]])[0]
    said = policy.decode(prompt.tokens)
    assert "image_pad|> or" in said
    assert "im_end|>?" in said


def test_a_copy_does_not_follow_the_original(policy: Policy) -> None:
    original = small_policy(seed=9)
    copied = original.copy()
    asked = request(original, "how many?", picture(16, 16))
    inputs = hf_inputs(original, asked)
    with torch.no_grad():
        before = copied.module(**inputs).logits
        for parameter in original.module.parameters():
            parameter.add_(0.1)
        assert torch.equal(copied.module(**inputs).logits, before)
        assert not torch.allclose(original.module(**inputs).logits, before)
    assert not any(p.requires_grad for p in copied.module.parameters())
    assert all(p.requires_grad for p in original.module.parameters())
    assert copied.stop_tokens == original.stop_tokens
