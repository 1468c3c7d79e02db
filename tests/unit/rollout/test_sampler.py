"""The in-process sampler draws from the policy that is trained, and from seeds alone."""

from __future__ import annotations

import math

import pytest
import torch
from unit.model.tinies import clip, hf_inputs, hf_logits, picture, request, row, small_policy

from m2r_train.core.losses import token_logprobs
from m2r_train.core.packing import pack_rows
from m2r_train.model.policy import Policy, Request
from m2r_train.rollout.base import Completion, SamplingParams
from m2r_train.rollout.sampler import InProcessSampler


def policy_that_stops(merge: int = 1, seed: int = 0, every: int = 12) -> Policy:
    """Every so-many-th token ends a completion, so that rows retire at different lengths."""
    policy = small_policy(seed, merge)
    policy.stop_tokens = (policy.end_of_turn, *range(0, len(policy.tokenizer), every))
    return policy


@pytest.fixture(scope="module", params=[1, 2], ids=["merge1", "merge2"])
def policy(request: pytest.FixtureRequest) -> Policy:
    return policy_that_stops(request.param)


@pytest.fixture(scope="module")
def asked(policy: Policy) -> list[Request]:
    """Prompts of several lengths: two pictures, none, one, a picture and a clip."""
    return [
        request(policy, "how many red cubes?", picture(32, 16), picture(16, 48, 1)),
        request(policy, "so?"),
        request(policy, "the answer is left right blue red?", picture(48, 32, 2)),
        request(policy, "how many?", picture(16, 16, 3), clip(3, 32, 16)),
    ]


SEEDS = [11, 22, 33, 44]
SAMPLED = SamplingParams(samples=5, temperature=1.3, max_tokens=24)
GREEDY = SamplingParams(samples=1, temperature=0.0, max_tokens=12)


def trained_logprobs(
    policy: Policy, asked: Request, completions: list[Completion], temperature: float
) -> list[float]:
    """Log-probabilities as the training forward gives them."""
    packed = pack_rows([row(asked.prompt, *(c.tokens for c in completions))])
    with torch.no_grad():
        logits = policy.logits(packed, policy.see(asked.images))
        out: list[float] = token_logprobs(logits[None], packed.targets_N[None], temperature)[
            0
        ].tolist()
    return out


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
def test_logprobs_are_those_of_the_training_forward(
    policy: Policy, asked: list[Request], temperature: float
) -> None:
    params = SamplingParams(4, temperature, 24)
    groups = InProcessSampler(policy).generate(asked, SEEDS, params)
    lengths = {len(c.tokens) for group in groups for c in group}
    assert len(lengths) > 3, "rows must retire at different times"
    for one, group in zip(asked, groups, strict=True):
        expected = trained_logprobs(policy, one, group, temperature)
        assert [p for c in group for p in c.logprobs] == pytest.approx(expected, abs=1e-4)


def test_greedy_is_transformers_generate(policy: Policy, asked: list[Request]) -> None:
    sampler = InProcessSampler(policy)
    groups = sampler.generate(asked, SEEDS, GREEDY)
    for one, (completion,) in zip(asked, groups, strict=True):
        out = policy.module.generate(
            **hf_inputs(policy, one),
            do_sample=False,
            max_new_tokens=GREEDY.max_tokens,
            eos_token_id=list(policy.stop_tokens),
        )
        policy.module.model.rope_deltas = None
        assert list(completion.tokens) == out[0, len(one.prompt.tokens) :].tolist()
        assert list(completion.logprobs) == pytest.approx(
            trained_logprobs(policy, one, [completion], 1.0), abs=1e-4
        )


def test_greedy_takes_one_sample_and_no_seed(policy: Policy, asked: list[Request]) -> None:
    sampler = InProcessSampler(policy)
    many = sampler.generate(asked, [1, 2, 3, 4], SamplingParams(8, 0.0, 12))
    assert many == sampler.generate(asked, [5, 6, 7, 8], SamplingParams(1, 0.0, 12))
    assert [len(group) for group in many] == [1] * 4


def tokens(groups: list[list[Completion]]) -> list[list[tuple[int, ...]]]:
    return [[c.tokens for c in group] for group in groups]


def test_a_sample_depends_on_its_seed_and_number_alone(
    policy: Policy, asked: list[Request]
) -> None:
    sampler = InProcessSampler(policy)
    together = tokens(sampler.generate(asked, SEEDS, SAMPLED))
    assert tokens(sampler.generate(asked, SEEDS, SAMPLED)) == together
    turned = tokens(sampler.generate(asked[::-1], SEEDS[::-1], SAMPLED))
    assert turned[::-1] == together
    for one, seed, expected in zip(asked, SEEDS, together, strict=True):
        assert tokens(sampler.generate([one], [seed], SAMPLED)) == [expected]
        fewer = tokens(sampler.generate([one], [seed], SamplingParams(2, 1.3, 24)))
        assert fewer == [expected[:2]]
        shorter = tokens(sampler.generate([one], [seed], SamplingParams(5, 1.3, 6)))
        assert shorter == [[t[:6] for t in expected]]


def test_other_seeds_and_other_numbers_give_other_samples(policy: Policy) -> None:
    endless = policy.copy()
    endless.stop_tokens = ()
    sampler, one = InProcessSampler(endless), request(endless, "how?")
    seen = [
        completion
        for seed in (0, 1, 2, 1 << 62, (1 << 63) - 1)
        for completion in tokens(sampler.generate([one], [seed], SamplingParams(6, 1.3, 24)))[0]
    ]
    assert len({t[:6] for t in seen}) == len(seen) == 30


@pytest.mark.parametrize("compact_below", [0.0, 0.5, 1.0])
def test_retiring_finished_rows_changes_nothing(
    policy: Policy, asked: list[Request], compact_below: float
) -> None:
    """0 never retires a row; 1 retires each at once."""
    usual = InProcessSampler(policy).generate(asked, SEEDS, SAMPLED)
    other = InProcessSampler(policy, compact_below).generate(asked, SEEDS, SAMPLED)
    assert tokens(other) == tokens(usual)
    flat = [[p for group in groups for c in group for p in c.logprobs] for groups in (usual, other)]
    assert flat[0] == pytest.approx(flat[1], abs=1e-5)
    assert [[c.truncated for c in g] for g in usual] == [[c.truncated for c in g] for g in other]


def test_a_stop_token_ends_a_completion_and_belongs_to_it(
    policy: Policy, asked: list[Request]
) -> None:
    groups = InProcessSampler(policy).generate(asked, SEEDS, SamplingParams(16, 1.3, 10))
    completions = [c for group in groups for c in group]
    for c in completions:
        assert 1 <= len(c.tokens) == len(c.logprobs) <= 10
        assert not set(c.tokens[:-1]) & set(policy.stop_tokens)
        assert c.truncated == (c.tokens[-1] not in policy.stop_tokens)
        assert not (c.truncated and len(c.tokens) < 10)
    stopped_at_the_limit = [c for c in completions if len(c.tokens) == 10 and not c.truncated]
    assert stopped_at_the_limit, "the case that a length test would get wrong"
    assert {c.truncated for c in completions} == {True, False}


@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_one_token_is_possible(policy: Policy, asked: list[Request], temperature: float) -> None:
    one = InProcessSampler(policy).generate(asked, SEEDS, SamplingParams(8, temperature, 1))
    longer = InProcessSampler(policy).generate(asked, SEEDS, SamplingParams(8, temperature, 6))
    assert tokens(one) == [[t[:1] for t in group] for group in tokens(longer)]
    for group in one:
        assert all(c.truncated == (c.tokens[0] not in policy.stop_tokens) for c in group)


def test_no_requests_give_no_completions(policy: Policy) -> None:
    assert InProcessSampler(policy).generate([], [], SAMPLED) == []


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_first_tokens_are_drawn_from_the_softmax(policy: Policy, temperature: float) -> None:
    """Chi-square over the tokens that are expected ten times or more, the rest in one bin."""
    one = request(policy, "how many red?", picture(32, 32))
    n = 6000
    groups = InProcessSampler(policy).generate([one], [7], SamplingParams(n, temperature, 1))
    drawn = torch.tensor([c.tokens[0] for c in groups[0]])
    with torch.no_grad():
        expected = (hf_logits(policy, one, (0,))[0] / temperature).softmax(-1) * n
    observed = torch.bincount(drawn, minlength=len(expected)).float()
    often = expected >= 10
    freedom = int(often.sum())
    assert freedom > 10
    o = torch.cat([observed[often], observed[~often].sum()[None]])
    e = torch.cat([expected[often], expected[~often].sum()[None]])
    statistic = float(((o - e) ** 2 / e).sum())
    # Wilson and Hilferty's normal approximation of the chi-square's upper tail
    z = ((statistic / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom))
    assert -3.5 < z < 3.5


def test_later_tokens_are_drawn_independently_of_earlier_ones(policy: Policy) -> None:
    """With flat logits the tokens of a row are the uniforms: pairs must not be correlated."""
    flat = policy.copy()
    flat.stop_tokens = ()
    with torch.no_grad():
        flat.module.model.language_model.norm.weight.zero_()
    one = request(flat, "how?")
    (group,) = InProcessSampler(flat).generate([one], [3], SamplingParams(2000, 1.0, 4))
    drawn = torch.tensor([c.tokens for c in group], dtype=torch.float64)
    assert float(drawn.mean()) == pytest.approx((len(flat.tokenizer) - 1) / 2, rel=0.02)
    correlation = torch.corrcoef(drawn.T) - torch.eye(4, dtype=torch.float64)
    assert float(correlation.abs().max()) < 4 / math.sqrt(2000)
    neighbours = torch.corrcoef(torch.stack([drawn[:-1, 0], drawn[1:, 0]]))
    assert abs(float(neighbours[0, 1])) < 4 / math.sqrt(2000)


def perturb(policy: Policy) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


def test_it_uses_new_weights_after_update_weights_and_old_ones_before() -> None:
    policy = policy_that_stops(seed=4)
    asked = [request(policy, "how many red?", picture(32, 32)), request(policy, "so?")]
    sampler = InProcessSampler(policy)
    before = sampler.generate(asked, [1, 2], SAMPLED)
    perturb(policy)  # in place, as an optimiser does
    assert sampler.generate(asked, [1, 2], SAMPLED) == before
    sampler.update_weights()
    after = sampler.generate(asked, [1, 2], SAMPLED)
    assert tokens(after) != tokens(before)
    assert after == InProcessSampler(policy).generate(asked, [1, 2], SAMPLED)
    for one, group in zip(asked, after, strict=True):
        expected = trained_logprobs(policy, one, group, SAMPLED.temperature)
        assert [p for c in group for p in c.logprobs] == pytest.approx(expected, abs=1e-4)


def test_sampling_leaves_the_policy_trainable() -> None:
    policy = policy_that_stops(seed=4)
    asked = [request(policy, "how many red?", picture(32, 32))]
    before = {n: p.detach().clone() for n, p in policy.module.named_parameters()}
    (group,) = InProcessSampler(policy).generate(asked, [1], SAMPLED)
    packed = pack_rows([row(asked[0].prompt, *(c.tokens for c in group))])
    policy.logits(packed, policy.see(asked[0].images)).sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in policy.module.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is not None


def test_a_placeholder_that_the_policy_samples_is_a_token_like_any_other() -> None:
    """It has no picture behind it, in the sampler as in training."""
    policy = small_policy(seed=6)
    policy.stop_tokens = (policy.end_of_turn,)
    asked = request(policy, "how many?", picture(32, 32))
    with torch.no_grad():  # both signs of a large row make large logits, and one is often drawn
        weight = policy.module.get_input_embeddings().weight
        weight[policy.image_token] *= 3
        weight[policy.video_token] = -weight[policy.image_token]
    (group,) = InProcessSampler(policy).generate([asked], [5], SamplingParams(16, 1.0, 16))
    inside = [c for c in group if policy.image_token in c.tokens[:-1]]
    assert inside
    expected = trained_logprobs(policy, asked, inside, 1.0)
    assert [p for c in inside for p in c.logprobs] == pytest.approx(expected, abs=1e-4)


def test_it_asks_before_each_token_whether_to_go_on(policy: Policy, asked: list[Request]) -> None:
    looks: list[int] = []
    engine = InProcessSampler(policy, look=lambda: looks.append(1))
    groups = engine.generate(asked, SEEDS, SAMPLED)
    assert len(looks) == max(len(c.tokens) for group in groups for c in group)


def test_what_is_raised_between_two_tokens_ends_the_drawing(
    policy: Policy, asked: list[Request]
) -> None:
    def leave() -> None:
        raise InterruptedError("asked to stop")

    engine = InProcessSampler(policy, look=leave)
    with pytest.raises(InterruptedError):
        engine.generate(asked, SEEDS, SAMPLED)


def test_prompts_are_laid_out_on_the_host_and_read_where_the_policy_is() -> None:
    here = small_policy()
    asked = [request(here, "how many?"), request(here, "so so?")]
    there = Policy(here.module.to("meta"), here.processor)  # any device but the host
    cache, *rest = InProcessSampler(there)._prefill(asked, samples=2, room=4)
    assert {part.device.type for pair in cache for part in pair} == {"meta"}
    assert rest[1].shape == (4, there.width)
