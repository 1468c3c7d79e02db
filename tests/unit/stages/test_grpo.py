"""One update is the objective as it is written, whatever way the batch is cut for computing."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from unit.model.tinies import clip, generator, hf_logits, picture, request, sample, small_policy

from m2r_train.api.errors import ConfigError
from m2r_train.api.rlvr import RLVRSpec
from m2r_train.core.losses import Normalization
from m2r_train.core.packing import PackedRows, Row, pack_rows
from m2r_train.core.records import Sample
from m2r_train.core.rewards import RewardConfig
from m2r_train.core.shaping import Shaping
from m2r_train.engine.local import AdamWConfig, LocalEngine
from m2r_train.model.policy import Policy, Request
from m2r_train.model.vision import Picture
from m2r_train.rollout import available
from m2r_train.rollout.available import why_no_vllm
from m2r_train.rollout.base import Completion, SamplingParams
from m2r_train.rollout.sampler import InProcessSampler
from m2r_train.stages import grpo
from m2r_train.stages.grpo import (
    Objective,
    Scored,
    UpdateStats,
    reference_of,
    score_groups,
    step_record,
    update,
)
from m2r_train.stages.rollouts import from_bytes, rollout_engine, to_bytes

ADAMW = AdamWConfig(beta1=0.9, beta2=0.95, weight_decay=0.0, gradient_clip=0.0)
OBJECTIVE = Objective(
    rewards=RewardConfig(),
    sigma=4.0,
    std="Population",
    std_epsilon=1e-4,
    clip_low=0.2,
    clip_high=0.3,
    normalization="Sequence",
    updates=1,
    temperature=0.8,
)
RIGHT = "<think>so 3</think><answer>\\boxed{3}</answer>"
BARE = "3"  # no tags: nothing is extracted, and the format earns nothing
WRONG = "<think>many red</think><answer>\\boxed{7}</answer>"
NEAR = "<think>so</think><answer>\\boxed{2}</answer>"


class Recorder(LocalEngine):
    """The engine itself, keeping the gradients that each step was given."""

    def __init__(
        self, policy: Policy, config: AdamWConfig = ADAMW, frozen: tuple[str, ...] = ()
    ) -> None:
        super().__init__(policy.module, config, frozen)
        self._policy = policy
        self.grads: list[dict[str, Tensor]] = []

    def step(self, learning_rate: float) -> float:
        named = self._policy.module.named_parameters()
        self.grads.append({n: p.grad.clone() for n, p in named if p.grad is not None})
        return super().step(learning_rate)


def completion(policy: Policy, text: str) -> Completion:
    """A completion with made-up log-probabilities of the sampler."""
    tokens = policy.text_tokens(text)
    return Completion(tokens, tuple(-0.5 - 0.01 * i for i in range(len(tokens))), truncated=False)


def batch(
    policy: Policy, *groups: tuple[str, ...], kinds: str = "en"
) -> tuple[list[Request], list[Sample], list[list[Completion]]]:
    """Prompts with a picture, a clip or neither, scored exactly (e) or by nearness (n)."""
    requests, samples = [], []
    for i in range(len(groups)):
        images: list[Picture] = [picture(32, 16, i)] if i % 2 == 0 else []
        if i % 4 == 1:
            images = [clip(3, 16, 16, i)]
        requests.append(request(policy, f"how many {i}?", *images))
        numeric = kinds[i % len(kinds)] == "n"
        samples.append(sample(id=f"q{i}", task="Size", reward="ednm" if numeric else "exact"))
    return requests, samples, [[completion(policy, t) for t in group] for group in groups]


def run(
    policy: Policy,
    groups: tuple[tuple[str, ...], ...],
    objective: Objective = OBJECTIVE,
    kl: float = 0.0,
    reference: Policy | None = None,
    rate: float = 1e-3,
) -> tuple[UpdateStats, Recorder]:
    engine = Recorder(policy)
    requests, samples, completions = batch(policy, *groups)
    scored = score_groups(policy, samples, completions, objective)
    return update(policy, reference, engine, requests, scored, objective, kl, rate), engine


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        scale = float(value.abs().max())
        torch.testing.assert_close(
            ours[name], value, atol=tolerance * max(scale, 1e-3), rtol=0, msg=name
        )


def other_policy(policy: Policy, amount: float = 0.05) -> Policy:
    """A reference that differs from the policy."""
    reference, g = policy.copy(), generator(9)
    with torch.no_grad():
        for parameter in reference.module.parameters():
            parameter.add_(amount * torch.randn(parameter.shape, generator=g))
    return reference


GROUPS = ((RIGHT, WRONG), (NEAR, BARE))

# By hand, from rewards.md. Prompt 0, exact match: totals 1 + .1 and 0 + .1, mean accuracy 1/2, so
# the weight is 4 * .5 * .5 = 1. Prompt 1, truth 3: NEAR has the relative error 1/3 and earns
# exp(-2/3) = .513417, and .1 for the format; BARE earns nothing. The mean accuracy is .256709 and
# the weight 4 * .256709 * .743291 = .763238. The deviation of two values is half their distance.
_WEIGHT = 4 * 0.2567085 * (1 - 0.2567085)
_UP = (0.513417 + 0.1) / 2
ADVANTAGES = [
    [0.5 / (0.5 + 1e-4), -0.5 / (0.5 + 1e-4)],
    [_WEIGHT * _UP / (_UP + 1e-4), -_WEIGHT * _UP / (_UP + 1e-4)],
]


def transcription(
    policy: Policy,
    reference: Policy,
    kl: float,
    old: list[list[Tensor]] | None,
    normalization: Normalization,
) -> tuple[Tensor, list[list[Tensor]]]:
    """Loss as rewards.md writes it, from transformers' own forward; and log-probabilities."""
    requests, _, completions = batch(policy, *GROUPS)
    sequences: list[Tensor] = []
    tokens: list[Tensor] = []
    logps: list[list[Tensor]] = []
    for i, (asked, group) in enumerate(zip(requests, completions, strict=True)):
        logps.append([])
        for g, c in enumerate(group):
            target = torch.tensor(c.tokens)[:, None]
            logp = (hf_logits(policy, asked, c.tokens) / 0.8).log_softmax(-1).gather(1, target)
            with torch.no_grad():
                logits = hf_logits(reference, asked, c.tokens)
                ref = (logits / 0.8).log_softmax(-1).gather(1, target)
            logps[i].append(logp.detach())
            before = logp.detach() if old is None else old[i][g]
            terms = []
            for t in range(len(c.tokens)):
                rho = (logp[t, 0] - before[t, 0]).exp()
                gain = torch.min(rho * ADVANTAGES[i][g], rho.clamp(0.8, 1.3) * ADVANTAGES[i][g])
                ratio = (ref[t, 0] - logp[t, 0]).exp()
                terms.append(gain - kl * (ratio - ratio.log() - 1))
            sequences.append(torch.stack(terms).mean())
            tokens += terms
    mean = torch.stack(sequences if normalization == "Sequence" else tokens).mean()
    return -mean, logps


@pytest.mark.parametrize("normalization", ["Sequence", "Token"])
def test_an_update_is_the_objective_as_it_is_written(normalization: Normalization) -> None:
    """Rewards, Eq. 6, advantages, clipping, k3 and temperature, over three passes of one batch."""
    policy, twin = small_policy(), small_policy()
    reference = other_policy(policy)
    objective = replace(OBJECTIVE, normalization=normalization, updates=3)
    stats, engine = run(policy, GROUPS, objective, 0.3, reference, rate=3e-3)

    other = LocalEngine(twin.module, ADAMW)
    old: list[list[Tensor]] | None = None
    loss = torch.zeros(())
    for step in range(3):
        loss, logps = transcription(twin, reference, 0.3, old, normalization)
        old = old or logps
        loss.backward()  # type: ignore[no-untyped-call]
        named = twin.module.named_parameters()
        grads = {n: p.grad.clone() for n, p in named if p.grad is not None}
        assert_close(engine.grads[step], grads, 2e-3)
        other.step(3e-3)
    assert len(engine.grads) == 3
    assert stats.loss == pytest.approx(loss.item(), abs=2e-4)
    assert stats.clip_ratio > 0, "the last pass must clip something"


def test_advantages_are_those_worked_out_by_hand() -> None:
    policy = small_policy()
    _, samples, completions = batch(policy, *GROUPS)
    scored = score_groups(policy, samples, completions, OBJECTIVE)
    for own, expected in zip(scored.advantages, ADVANTAGES, strict=True):
        assert own.advantages == pytest.approx(expected, abs=1e-5)
    assert scored.texts == [[RIGHT, WRONG], [NEAR, BARE]]
    assert [[r.total for r in own] for own in scored.rewards] == [
        pytest.approx([1.1, 0.1]),
        pytest.approx([math.exp(-2 / 3) + 0.1, 0.0]),
    ]
    off = score_groups(policy, samples, completions, replace(OBJECTIVE, sigma=None))
    assert off.advantages[1].advantages[0] == pytest.approx(_UP / (_UP + 1e-4), abs=1e-5)


MANY = ((RIGHT, WRONG, BARE, RIGHT), (NEAR, BARE, RIGHT), (WRONG, RIGHT), (BARE, NEAR, WRONG))


@pytest.mark.parametrize("normalization", ["Sequence", "Token"])
@pytest.mark.parametrize("cells", [1, 120])
def test_the_size_of_micro_batches_changes_nothing(
    cells: int, normalization: Normalization, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = replace(OBJECTIVE, normalization=normalization, updates=2)
    reference = other_policy(small_policy())
    whole = run(small_policy(), MANY, objective, 0.1, reference)
    monkeypatch.setattr(grpo, "_CELLS", cells)
    parts = run(small_policy(), MANY, objective, 0.1, reference)
    for one, other in zip(whole[1].grads, parts[1].grads, strict=True):
        assert_close(other, one, 1e-4)
    for name in UpdateStats.__dataclass_fields__.keys() - {"padding"}:
        expected = getattr(whole[0], name)
        assert getattr(parts[0], name) == pytest.approx(expected, rel=1e-4, abs=1e-5), name


# Only the third group has a signal. In the first what differs is the format; both are wrong, so
# Eq. 6 weighs the difference with 0.
DEAD = ((WRONG, BARE), (BARE, BARE), (RIGHT, WRONG), (NEAR, NEAR))


@pytest.mark.parametrize("normalization", ["Sequence", "Token"])
def test_groups_without_an_advantage_are_left_out_and_the_gradient_is_the_same(
    normalization: Normalization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept by a KL coefficient that has no reference to act on, they add nothing."""
    passes: list[int] = []

    def count(rows: list[Row]) -> PackedRows:
        passes.append(len(rows))
        return pack_rows(rows)

    monkeypatch.setattr(grpo, "pack_rows", count)
    objective = replace(OBJECTIVE, normalization=normalization)
    (left_out, out), (kept, all_in) = (
        run(small_policy(), DEAD, objective, kl) for kl in (0.0, 0.1)
    )
    assert passes == [1, 4]
    assert_close(out.grads[0], all_in.grads[0], 1e-4)
    assert left_out.loss == pytest.approx(kept.loss, abs=1e-6)
    assert left_out.grad_norm == pytest.approx(kept.grad_norm, rel=1e-4)


def test_a_frozen_tower_is_asked_once_a_step() -> None:
    """By rollout, policy and reference together; gradients and loss stay what they are."""
    policy, plain = small_policy(), small_policy()
    policy.freeze_vision()
    towers = {"shared": policy, "plain": plain}
    stats, asked = {}, {}
    for name, own in towers.items():
        calls: list[int] = []
        engine = Recorder(own, frozen=("model.visual.",))
        reference, sampler = reference_of(own), InProcessSampler(own)
        for one in (own, reference, sampler._policy):
            one.module.model.visual.patch_embed.register_forward_hook(
                lambda *_, c=calls: c.append(1)
            )
        requests, samples, _ = batch(own, *MANY)
        own.show([image for r in requests for image in r.images])
        groups = sampler.generate(requests, [1, 2, 3, 4], SamplingParams(3, 1.0, 8))
        scored = score_groups(own, samples, groups, OBJECTIVE)
        stats[name] = update(own, reference, engine, requests, scored, OBJECTIVE, 0.1, 1e-3)
        asked[name] = len(calls)
    assert asked == {"shared": 1, "plain": 3}
    assert stats["shared"].loss == pytest.approx(stats["plain"].loss, abs=1e-5)
    assert stats["shared"].grad_norm == pytest.approx(stats["plain"].grad_norm, rel=1e-3)


def test_a_batch_without_any_advantage_moves_nothing() -> None:
    policy = small_policy()
    before = {n: p.detach().clone() for n, p in policy.module.named_parameters()}
    stats, _ = run(policy, ((RIGHT, RIGHT), (BARE, BARE)))
    assert (stats.loss, stats.grad_norm) == (0.0, 0.0)
    assert all(torch.equal(p, before[n]) for n, p in policy.module.named_parameters())


def test_kl_pulls_on_groups_without_an_advantage_too() -> None:
    policy = small_policy()
    reference = other_policy(policy)
    stats, _ = run(policy, ((RIGHT, RIGHT), (BARE, BARE)), OBJECTIVE, 0.1, reference)
    assert stats.kl > 1e-4
    assert stats.grad_norm > 1e-4
    assert stats.loss == pytest.approx(_sequence_mean_kl(reference) * 0.1, rel=1e-4)
    half, _ = run(small_policy(), ((RIGHT, RIGHT), (BARE, BARE)), OBJECTIVE, 0.05, reference)
    assert half.grad_norm == pytest.approx(stats.grad_norm / 2, rel=1e-3)


def _sequence_mean_kl(reference: Policy) -> float:
    """Mean over completions of their mean k3, from transformers' own forward."""
    policy = small_policy()
    requests, _, completions = batch(policy, (RIGHT, RIGHT), (BARE, BARE))
    means = []
    for asked, group in zip(requests, completions, strict=True):
        for c in group:
            with torch.no_grad():
                target = torch.tensor(c.tokens)[:, None]
                ours, theirs = (
                    (hf_logits(p, asked, c.tokens) / 0.8).log_softmax(-1).gather(1, target)
                    for p in (policy, reference)
                )
            away = (theirs - ours).double()
            means.append(float((away.exp() - away - 1).mean()))
    return sum(means) / len(means)


def test_the_kl_to_an_equal_reference_is_nothing() -> None:
    policy = small_policy()
    stats, _ = run(policy, GROUPS, OBJECTIVE, 0.1, reference_of(policy))
    assert stats.kl == pytest.approx(0.0, abs=1e-9)


def test_updates_leave_the_reference_as_it_was() -> None:
    policy = small_policy()
    reference = reference_of(policy)
    before = {n: p.detach().clone() for n, p in reference.module.named_parameters()}
    stats, _ = run(policy, GROUPS, replace(OBJECTIVE, updates=3), 0.1, reference, rate=1e-2)
    assert stats.kl > 0, "by the third pass the policy has left it"
    assert all(torch.equal(p, before[n]) for n, p in reference.module.named_parameters())
    assert all(p.grad is None for p in reference.module.parameters())
    moved = dict(policy.module.named_parameters())
    assert not any(torch.equal(moved[n], value) for n, value in before.items() if value.ndim > 1)


def test_an_update_makes_rewarded_completions_likelier() -> None:
    policy = small_policy()
    requests, _, groups = batch(policy, (RIGHT, WRONG))

    def gap() -> float:
        with torch.no_grad():
            right, wrong = (
                hf_logits(policy, requests[0], c.tokens)
                .log_softmax(-1)
                .gather(1, torch.tensor(c.tokens)[:, None])
                .sum()
                for c in groups[0]
            )
        return float(right - wrong)

    before = gap()
    run(policy, ((RIGHT, WRONG),), rate=1e-3)
    assert gap() > before + 0.1


def test_the_distance_to_the_sampler_is_zero_on_its_own_rollouts() -> None:
    policy = small_policy()
    requests, samples, _ = batch(policy, (RIGHT,), (RIGHT,))
    groups = InProcessSampler(policy).generate(requests, [1, 2], SamplingParams(4, 0.8, 12))
    scored = score_groups(policy, samples, groups, OBJECTIVE)
    engine = LocalEngine(policy.module, ADAMW)
    # a coefficient, so that groups without an advantage are looked at
    stats = update(policy, None, engine, requests, scored, OBJECTIVE, 0.1, 0.0)
    assert 0 <= stats.logp_diff < 1e-5
    off = [[replace(c, logprobs=tuple(p - 0.25 for p in c.logprobs)) for c in g] for g in groups]
    scored = score_groups(policy, samples, off, OBJECTIVE)
    stats = update(policy, None, engine, requests, scored, OBJECTIVE, 0.1, 0.0)
    assert stats.logp_diff == pytest.approx(0.25, abs=1e-4)


def test_the_distance_to_the_sampler_is_that_of_the_policy_that_drew() -> None:
    """Further passes over a batch move the policy away, and not the sampler."""
    one, _ = run(small_policy(), GROUPS)
    three, _ = run(small_policy(), GROUPS, replace(OBJECTIVE, updates=3), rate=1e-2)
    assert three.logp_diff == one.logp_diff


def test_a_steps_record_is_made_of_plain_means() -> None:
    policy = small_policy()
    _, samples, groups = batch(policy, (RIGHT, WRONG), (NEAR, BARE), (BARE, BARE), kinds="ene")
    groups[1][1] = replace(groups[1][1], truncated=True)
    scored = score_groups(policy, samples, groups, OBJECTIVE)
    stats = UpdateStats(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    record = step_record(scored, stats, "mixed")
    near = math.exp(-2 / 3)
    totals = [1.1, 0.1, near + 0.1, 0.0, 0.0, 0.0]
    mean = sum(totals) / 6
    lengths = [len(policy.text_tokens(t)) for t in (RIGHT, WRONG, NEAR, BARE, BARE, BARE)]
    expected: dict[str, Any] = {
        "task": "mixed",
        "prompts": 3,
        "reward": mean,
        "reward_std": math.sqrt(sum((t - mean) ** 2 for t in totals) / 6),
        "accuracy": (1 + near) / 6,
        "format_valid": 0.5,
        "completion_tokens": sum(lengths) / 6,
        "truncated": 1 / 6,
        "repetition": 0.0,
        "zero_signal": 1 / 3,
        "advantage_weight": (1 + _WEIGHT + 0) / 3,
        "loss": 1.0,
        "grad_norm": 2.0,
        "kl": 3.0,
        "entropy": 4.0,
        "clip_ratio": 5.0,
        "sampler_logp_diff": 6.0,
        "padding": 0.0,
        "exact": 0.25,
        "ednm": near / 2,
    }
    assert record == {k: v if isinstance(v, str) else pytest.approx(v) for k, v in expected.items()}
    only = Scored(
        samples[:1], groups[:1], scored.texts[:1], scored.rewards[:1], scored.advantages[:1]
    )
    assert "ednm" not in step_record(only, stats, "Size")


def test_an_objective_is_what_the_spec_says() -> None:
    spec = RLVRSpec.model_validate(
        {
            "model": {"preset": "tiny"},
            "dataset": {"uri": "file:///data"},
            "rollout": {"temperature": 0.7},
            "rewards": {
                "ednm": {
                    "kind": "Binary",
                    "gamma": 2.0,
                    "lambda": 3.0,
                    "epsilon": 1e-6,
                    "perTask": {"RoomSize": {"lambda": 1.5}},
                },
                "formatWeight": 0.4,
                "strictFormat": True,
            },
            "optimization": {
                "advantageWeight": {"kind": "Eq6", "sigma": 5.0},
                "advantageStd": "Sample",
                "advantageEpsilon": 1e-3,
                "clip": {"low": 0.1, "high": 0.28},
                "lossNormalization": "Token",
                "updatesPerBatch": 2,
            },
        }
    )
    objective = Objective.of(spec)
    rewards = objective.rewards
    assert rewards.for_task("RoomSize") == ("Binary", 2.0, 1.5, 1e-6)
    assert rewards.for_task("ObjectSize") == ("Binary", 2.0, 3.0, 1e-6)
    assert (rewards.format_weight, rewards.strict_format) == (0.4, True)
    assert objective == Objective(
        rewards=rewards,
        sigma=5.0,
        std="Sample",
        std_epsilon=1e-3,
        clip_low=0.1,
        clip_high=0.28,
        normalization="Token",
        updates=2,
        temperature=0.7,
        max_tokens=1024,
        correction="TruncateToken",
    )
    off = {"optimization": {"advantageWeight": {"kind": "Off"}}}
    plain = {"model": {"preset": "tiny"}, "dataset": {"uri": "file:///data"}}
    assert Objective.of(RLVRSpec.model_validate({**plain, **off})).sigma is None


# the journal's bytes

FLOATS = st.floats(width=32, allow_nan=False)


@st.composite
def journal_groups(draw: st.DrawFn) -> list[list[Completion]]:
    samples = draw(st.integers(1, 4))
    groups = []
    for _ in range(draw(st.integers(1, 4))):
        group = []
        for _ in range(samples):
            pairs = draw(st.lists(st.tuples(st.integers(0, 2**31 - 1), FLOATS), min_size=1))
            tokens, logprobs = zip(*pairs, strict=True)
            group.append(Completion(tokens, logprobs, draw(st.booleans())))
        groups.append(group)
    return groups


@settings(max_examples=40)
@given(groups=journal_groups())
def test_rollouts_come_back_from_their_bytes_bit_for_bit(groups: list[list[Completion]]) -> None:
    data = to_bytes(groups)
    back = from_bytes(data, len(groups[0]))
    assert repr(back) == repr(groups)  # by repr: -0.0 equals 0.0
    assert to_bytes(back) == data


def test_what_the_sampler_drew_comes_back_bit_for_bit() -> None:
    policy = small_policy()
    requests, _, _ = batch(policy, (RIGHT,), (RIGHT,))
    groups = InProcessSampler(policy).generate(requests, [1, 2], SamplingParams(3, 1.0, 20))
    assert from_bytes(to_bytes(groups), 3) == groups


def test_an_engine_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = small_policy()
    assert isinstance(rollout_engine("inprocess", policy), InProcessSampler)
    with pytest.raises(ConfigError, match=r"vllm is not installed; install .*engine: inprocess"):
        rollout_engine("vllm", policy)
    monkeypatch.setattr(available, "find_spec", lambda _name: object())
    assert why_no_vllm() is None


def test_an_update_may_be_broken_off_until_a_parameter_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(grpo, "_CELLS", 1)  # a micro-batch for each prompt
    policy = small_policy()
    engine = Recorder(policy)
    requests, samples, completions = batch(policy, *GROUPS)
    twice = replace(OBJECTIVE, updates=2)
    scored = score_groups(policy, samples, completions, twice)
    steps_when_asked: list[int] = []

    def look() -> None:
        steps_when_asked.append(len(engine.grads))

    update(policy, None, engine, requests, scored, twice, 0.0, 1e-3, look)
    assert steps_when_asked == [0, 0]  # before each micro-batch of the first pass, then never
    assert len(engine.grads) == 2


def test_an_update_that_is_broken_off_leaves_every_parameter_as_it_was() -> None:
    policy = small_policy()
    before = {n: p.detach().clone() for n, p in policy.module.named_parameters()}
    engine = Recorder(policy)
    requests, samples, completions = batch(policy, *GROUPS)
    scored = score_groups(policy, samples, completions, OBJECTIVE)

    def leave() -> None:
        raise InterruptedError("asked to stop")

    with pytest.raises(InterruptedError):
        update(policy, None, engine, requests, scored, OBJECTIVE, 0.0, 1e-3, leave)
    assert all(torch.equal(p, before[n]) for n, p in policy.module.named_parameters())


# the members of the family, as far as an update has a part in them


def cut(policy: Policy) -> tuple[list[Request], Scored, Scored]:
    """Two groups, of which one completion was truncated; and the same as if it had not been."""
    requests, samples, groups = batch(policy, (RIGHT, WRONG), (NEAR, RIGHT))
    whole = score_groups(policy, samples, groups, OBJECTIVE)
    groups[1][0] = replace(groups[1][0], truncated=True)
    return requests, score_groups(policy, samples, groups, OBJECTIVE), whole


def gradient_of(scored: Scored, requests: list[Request], objective: Objective) -> dict[str, Tensor]:
    policy = small_policy()
    engine = Recorder(policy)
    update(policy, None, engine, requests, scored, objective, 0.0, 0.0)
    return engine.grads[0]


def test_truncated_completions_can_be_left_out_of_the_loss_and_its_normaliser() -> None:
    """As if their advantage were 0; by tokens, they are not among those that are averaged."""
    policy = small_policy()
    requests, scored, whole = cut(policy)
    silent = replace(whole.advantages[1], advantages=[0.0, whole.advantages[1].advantages[1]])
    as_if = replace(whole, advantages=[whole.advantages[0], silent])
    assert_close(
        gradient_of(scored, requests, replace(OBJECTIVE, mask_truncated=True)),
        gradient_of(as_if, requests, OBJECTIVE),
        1e-4,
    )
    by_token = replace(OBJECTIVE, normalization="Token")
    masked = gradient_of(scored, requests, replace(by_token, mask_truncated=True))
    lengths = [len(c.tokens) for group in scored.groups for c in group]
    share = sum(lengths) / (sum(lengths) - lengths[2])
    plain = gradient_of(as_if, requests, by_token)
    assert_close(masked, {n: g * share for n, g in plain.items()}, 1e-4)


def test_figures_are_of_the_tokens_in_the_loss_whatever_the_micro_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = small_policy()
    requests, scored, _ = cut(policy)
    objective = replace(OBJECTIVE, mask_truncated=True)
    seen = []
    for cells in (1, 10_000):
        monkeypatch.setattr(grpo, "_CELLS", cells)
        seen.append(update(policy, None, Recorder(policy), requests, scored, objective, 0.0, 0.0))
    assert seen[0].entropy == pytest.approx(seen[1].entropy, rel=1e-5)
    assert seen[0].logp_diff == pytest.approx(seen[1].logp_diff, rel=1e-5)


def test_a_constant_normaliser_is_completions_times_the_limit() -> None:
    policy = small_policy()
    requests, scored, _ = cut(policy)
    by_token = gradient_of(scored, requests, replace(OBJECTIVE, normalization="Token"))
    constant = replace(OBJECTIVE, normalization="Constant", max_tokens=50)
    tokens = sum(len(c.tokens) for group in scored.groups for c in group)
    assert_close(
        gradient_of(scored, requests, constant),
        {n: g * tokens / (4 * 50) for n, g in by_token.items()},
        1e-4,
    )


def test_the_samplers_gap_is_weighed_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampler whose log-probabilities are off by log 2: every ratio is 1/2, and so the loss."""
    monkeypatch.setattr(grpo, "_CELLS", 1)
    policy = small_policy()
    requests, samples, _ = batch(policy, (RIGHT,), (RIGHT,))
    groups = InProcessSampler(policy).generate(requests, [1, 2], SamplingParams(2, 0.8, 9))
    off = [
        [replace(c, logprobs=tuple(p + math.log(2) for p in c.logprobs)) for c in g] for g in groups
    ]
    scored = score_groups(policy, samples, off, OBJECTIVE)
    given = [replace(a, advantages=[1.0, -1.0]) for a in scored.advantages]
    scored = replace(scored, advantages=given)
    engine = LocalEngine(policy.module, ADAMW)
    corrected = replace(OBJECTIVE, correction="TruncateToken", correction_max=2.0)
    stats = update(policy, None, engine, requests, scored, corrected, 0.0, 0.0)
    assert stats.gap == pytest.approx(
        {"sampler_ratio": 0.5, "sampler_ratio_max": 0.5, "sampler_ratio_cut": 0.0}, rel=1e-4
    )
    assert step_record(scored, stats, "Size")["sampler_ratio"] == pytest.approx(0.5, rel=1e-4)
    plain = gradient_of(scored, requests, OBJECTIVE)
    assert_close(
        gradient_of(scored, requests, corrected), {n: g / 2 for n, g in plain.items()}, 1e-4
    )
    low = replace(corrected, correction="MaskToken", correction_max=0.4)
    stats = update(policy, None, engine, requests, scored, low, 0.0, 0.0)
    assert stats.gap["sampler_ratio_cut"] == 1.0
    assert stats.grad_norm == 0.0
    assert update(policy, None, engine, requests, scored, OBJECTIVE, 0.0, 0.0).gap == {}


def test_penalties_change_the_total_and_neither_accuracy_nor_weight() -> None:
    policy = small_policy()
    _, samples, groups = batch(policy, (RIGHT, WRONG))
    length = len(groups[0][0].tokens)
    shaping = Shaping(min_tokens=2 * length, short_penalty=0.5)
    plain = score_groups(policy, samples, groups, OBJECTIVE)
    shaped = score_groups(policy, samples, groups, replace(OBJECTIVE, shaping=shaping))
    before, after = plain.rewards[0][0], shaped.rewards[0][0]
    assert after == replace(before, total=pytest.approx(before.total - 0.25))
    assert shaped.advantages[0].weight == plain.advantages[0].weight
