"""Losses against hand-computed values, closed forms and a plain transcription of rewards.md 6."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from m2r_train.core import losses
from m2r_train.core.losses import Normalization, entropy, grpo_loss, sft_loss, token_logprobs

NORMALIZATIONS: list[Normalization] = ["Sequence", "Token"]


def one_token(rho: float, advantage: float, ref_ratio: float = 1.0, beta: float = 0.0) -> float:
    """-loss of one token with the given pi/pi_old, advantage and pi_ref/pi."""
    logp = torch.tensor([[math.log(rho)]], dtype=torch.float64)
    loss, _ = grpo_loss(
        logp,
        torch.zeros_like(logp),
        logp + math.log(ref_ratio),
        torch.tensor([advantage], dtype=torch.float64),
        torch.ones_like(logp),
        0.2,
        0.2,
        beta,
    )
    return -loss.item()


@pytest.mark.parametrize(
    ("advantage", "rho", "contribution"),
    [
        (0.816497, 1.5, 0.979796),
        (0.816497, 0.5, 0.408248),
        (-1.224745, 1.5, -1.837117),
        (-1.224745, 0.5, -0.979796),
    ],
)
def test_the_worked_clipping(advantage: float, rho: float, contribution: float) -> None:
    assert one_token(rho, advantage) == pytest.approx(contribution, abs=1e-6)


@pytest.mark.parametrize(("ref_ratio", "k3"), [(1.25, 0.026856), (0.8, 0.023144), (1.0, 0.0)])
def test_the_worked_k3(ref_ratio: float, k3: float) -> None:
    assert one_token(1.0, 0.0, ref_ratio, beta=1.0) == pytest.approx(-k3, abs=5e-7)


def random_batch(B: int = 6, T: int = 9, seed: int = 0) -> tuple[Tensor, ...]:
    """(logp, old, ref, advantages, mask) with ratios on both sides of the clip range."""
    g = torch.Generator().manual_seed(seed)
    old = -3 * torch.rand(B, T, generator=g, dtype=torch.float64)
    logp = old + 0.4 * torch.randn(B, T, generator=g, dtype=torch.float64)
    ref = old + 0.4 * torch.randn(B, T, generator=g, dtype=torch.float64)
    advantages = torch.randn(B, generator=g, dtype=torch.float64)
    lengths = torch.randint(1, T + 1, (B,), generator=g)
    mask = torch.arange(T)[None] < lengths[:, None]
    return logp.requires_grad_(), old, ref, advantages, mask


def transcription(
    batch: tuple[Tensor, ...], normalization: Normalization, low: float, high: float, beta: float
) -> Tensor:
    """The objective as rewards.md writes it: loops over samples and tokens, probabilities."""
    logp, old, ref, advantages, mask = batch
    samples, tokens = [], []
    for i in range(len(logp)):
        terms = []
        for t in range(logp.shape[1]):
            if not mask[i, t]:
                continue
            rho = logp[i, t].exp() / old[i, t].exp()
            clipped = min(max(rho, logp.new_tensor(1 - low)), logp.new_tensor(1 + high))
            gain = min(rho * advantages[i], clipped * advantages[i])
            ratio = ref[i, t].exp() / logp[i, t].exp()
            terms.append(gain - beta * (ratio - ratio.log() - 1))
        samples.append(sum(terms) / len(terms))
        tokens += terms
    parts = samples if normalization == "Sequence" else tokens
    return -sum(parts) / len(parts)  # type: ignore[return-value]


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("beta", [0.0, 0.04])
def test_loss_and_gradient_equal_the_transcription(
    normalization: Normalization, beta: float
) -> None:
    batch = random_batch()
    loss, _ = grpo_loss(*batch, 0.2, 0.28, beta, normalization)
    expected = transcription(batch, normalization, 0.2, 0.28, beta)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, batch[0])
    (expected_gradient,) = torch.autograd.grad(expected, batch[0])
    torch.testing.assert_close(gradient, expected_gradient)


def test_the_gradient_on_policy_is_the_closed_form() -> None:
    _, old, ref, advantages, mask = random_batch()
    logp = old.clone().requires_grad_()
    loss, stats = grpo_loss(logp, old, ref, advantages, mask, 0.2, 0.2, 0.04)
    loss.backward()
    # d(-rho A)/dlogp = -A at rho = 1;  d k3/dlogp = 1 - pi_ref/pi
    token = -advantages[:, None] + 0.04 * (1 - (ref - old).exp())
    expected = torch.where(mask, token / mask.sum(1, keepdim=True), 0.0) / len(old)
    torch.testing.assert_close(logp.grad, expected)
    assert stats["ratio"] == 1.0
    assert stats["clip_ratio"] == 0.0


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_micro_batches_add_up_to_the_gradient_of_one_batch(normalization: Normalization) -> None:
    batch = random_batch(B=7)
    whole, _ = grpo_loss(*batch, 0.2, 0.2, 0.04, normalization)
    (expected,) = torch.autograd.grad(whole, batch[0])
    normalizer = 7.0 if normalization == "Sequence" else float(batch[4].sum())
    total, sums, tokens = 0.0, torch.zeros(2, dtype=torch.float64), 0
    for rows in (slice(0, 3), slice(3, 4), slice(4, 7)):
        part = [x[rows] for x in batch]
        loss, stats = grpo_loss(*part, 0.2, 0.2, 0.04, normalization, normalizer)
        loss.backward()
        total += loss.item()
        sums += torch.stack([stats["kl"], stats["clip_ratio"]]).double() * stats["tokens"]
        tokens += int(stats["tokens"])
    torch.testing.assert_close(batch[0].grad, expected)
    assert total == pytest.approx(whole.item(), rel=1e-12)
    _, stats = grpo_loss(*batch, 0.2, 0.2, 0.04, normalization)
    means = torch.stack([stats["kl"], stats["clip_ratio"]]).double()
    torch.testing.assert_close(sums / tokens, means, rtol=1e-6, atol=0)


def test_the_two_normalizations_differ_by_length_and_agree_without() -> None:
    logp, old, ref, advantages, mask = random_batch()
    by = {n: grpo_loss(logp, old, ref, advantages, mask, 0.2, 0.2, 0, n)[0] for n in NORMALIZATIONS}
    assert abs(by["Sequence"] - by["Token"]) > 1e-3
    mask = torch.ones_like(mask)
    by = {n: grpo_loss(logp, old, ref, advantages, mask, 0.2, 0.2, 0, n)[0] for n in NORMALIZATIONS}
    torch.testing.assert_close(by["Sequence"], by["Token"])


@pytest.mark.parametrize("junk", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_padding_has_no_effect_whatever_it_holds(junk: float, normalization: Normalization) -> None:
    batch = random_batch()
    expected, expected_stats = grpo_loss(*batch, 0.2, 0.2, 0.04, normalization)
    (expected_gradient,) = torch.autograd.grad(expected, batch[0])
    mask = batch[4]
    dirty = [torch.where(mask, x.detach(), junk) for x in batch[:3]]
    dirty[0].requires_grad_()
    loss, stats = grpo_loss(*dirty, batch[3], mask, 0.2, 0.2, 0.04, normalization)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(dirty[0].grad, expected_gradient)
    torch.testing.assert_close(stats, expected_stats)


def test_the_statistics_count_clipped_tokens_by_side() -> None:
    log_ratio = torch.tensor([[0.5, -0.5, 0.0, 9.0], [0.5, -0.5, -0.5, 9.0]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 0]])
    zeros = torch.zeros_like(log_ratio)
    advantages = torch.tensor([1.0, -1.0])
    _, stats = grpo_loss(log_ratio, zeros, zeros, advantages, mask, 0.2, 0.2, 0.0)
    assert stats["clip_ratio_high"] == pytest.approx(1 / 6)  # rho > 1.2 with A > 0: the first
    assert stats["clip_ratio_low"] == pytest.approx(2 / 6)  # rho < 0.8 with A < 0: two below
    assert stats["clip_ratio"] == pytest.approx(3 / 6)
    assert stats["ratio"] == pytest.approx((2 * math.exp(0.5) + 3 * math.exp(-0.5) + 1) / 6)
    assert stats["kl"] == pytest.approx(
        (2 * (math.exp(-0.5) + 0.5 - 1) + 3 * (math.exp(0.5) - 0.5 - 1)) / 6
    )
    assert stats["tokens"] == 6
    assert not any(value.requires_grad for value in stats.values())


def test_without_a_coefficient_the_kl_is_measured_and_not_trained() -> None:
    batch = random_batch()
    with_ref, stats = grpo_loss(*batch, 0.2, 0.2, 0.0)
    without = [*batch[:2], None, *batch[3:]]
    loss, bare = grpo_loss(*without, 0.2, 0.2, 0.0)  # type: ignore[arg-type]
    assert loss.item() == with_ref.item()
    assert stats["kl"] > 0
    assert bare["kl"] == 0


def test_a_coefficient_without_a_reference_is_an_error() -> None:
    logp, old, _, advantages, mask = random_batch()
    with pytest.raises(ValueError, match="reference"):
        grpo_loss(logp, old, None, advantages, mask, 0.2, 0.2, 0.04)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_batch_without_tokens_has_a_loss_and_a_gradient_of_zero(
    normalization: Normalization,
) -> None:
    logp, old, ref, advantages, mask = random_batch()
    loss, stats = grpo_loss(
        logp, old, ref, advantages, torch.zeros_like(mask), 0.2, 0.2, 0.04, normalization
    )
    loss.backward()
    assert loss.item() == 0
    assert logp.grad is not None and not logp.grad.any()
    assert stats["tokens"] == 0


def test_sft_is_the_mean_over_assistant_tokens() -> None:
    logp = torch.tensor([[-1.0, -2.0, math.nan], [-4.0, -8.0, -16.0]], requires_grad=True)
    mask = torch.tensor([[1, 1, 0], [0, 1, 0]])
    loss = sft_loss(logp, mask)
    loss.backward()
    assert loss.item() == pytest.approx((1 + 2 + 8) / 3)
    torch.testing.assert_close(logp.grad, -mask / 3)
    assert sft_loss(logp, mask, normalizer=22.0).item() == pytest.approx(0.5)


def test_sft_micro_batches_add_up() -> None:
    logp, *_, mask = random_batch()
    whole = sft_loss(logp, mask)
    parts = [sft_loss(logp[r], mask[r], float(mask.sum())) for r in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close(sum(parts), whole)


def logits_and_targets(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    logits = 5 * torch.randn(3, 5, 11, generator=g, dtype=torch.float64)
    return logits.to(dtype), torch.randint(11, (3, 5), generator=g)


@pytest.fixture(params=[1, 23, 1 << 24], ids=["one row", "two rows", "all rows"])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(losses, "_CHUNK_ELEMENTS", request.param)
    return int(request.param)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_token_logprobs_are_log_softmax_at_the_targets(temperature: float) -> None:
    logits, targets = logits_and_targets()
    logits.requires_grad_()
    reference = torch.log_softmax(logits / temperature, -1).gather(-1, targets[..., None])[..., 0]
    logp = token_logprobs(logits, targets, temperature)
    torch.testing.assert_close(logp, reference)
    weights = torch.linspace(-1, 1, 15, dtype=torch.float64).view(3, 5)
    (expected,) = torch.autograd.grad((reference * weights).sum(), logits)
    (gradient,) = torch.autograd.grad((logp * weights).sum(), logits)
    torch.testing.assert_close(gradient, expected)


def test_the_gradient_of_token_logprobs_passes_gradcheck() -> None:
    logits, targets = logits_and_targets()
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: token_logprobs(x, targets, 0.9), (logits,))


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_entropy_is_that_of_the_distribution(temperature: float) -> None:
    logits, _ = logits_and_targets()
    expected = torch.distributions.Categorical(logits=logits / temperature).entropy()
    torch.testing.assert_close(entropy(logits, temperature), expected)
    uniform = torch.zeros(1, 1, 11)
    assert entropy(uniform).item() == pytest.approx(math.log(11), rel=1e-6)


def test_huge_and_forbidden_logits_are_stable() -> None:
    logits = torch.tensor([[[1e4, -1e4, -math.inf], [3e38, 3e38, -3e38]]], requires_grad=True)
    logp = token_logprobs(logits, torch.tensor([[0, 1]]))
    torch.testing.assert_close(logp, torch.tensor([[0.0, -math.log(2)]]))
    logp.sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    torch.testing.assert_close(entropy(logits), torch.tensor([[0.0, math.log(2)]]))


def test_half_precision_logits_are_summed_in_single_precision_without_a_copy() -> None:
    logits, targets = logits_and_targets(torch.bfloat16)
    logits.requires_grad_()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        logp = token_logprobs(logits, targets)
    assert logp.dtype == torch.float32
    exact = torch.log_softmax(logits.double(), -1).gather(-1, targets[..., None])[..., 0]
    torch.testing.assert_close(logp.double(), exact, rtol=1e-5, atol=1e-5)
    wide = [x for x in kept if x.numel() >= logits.numel() and x.dtype != torch.bfloat16]
    assert not wide
    logp.sum().backward()
    assert logits.grad is not None and logits.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_not_positive_is_an_error(temperature: float) -> None:
    logits, targets = logits_and_targets()
    with pytest.raises(ValueError, match="temperature"):
        token_logprobs(logits, targets, temperature)
    with pytest.raises(ValueError, match="temperature"):
        entropy(logits, temperature)
