"""Log-probabilities from hidden states: equal to the plain way, in tiles that hold no logits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from m2r_train.core import linear
from m2r_train.core.linear import linear_logprobs

N, V, D = 23, 37, 5
TILES = [(1, 1), (40, 7), (64, 23), (400, 8), (1 << 22, 4096)]


@pytest.fixture(params=TILES, ids=lambda tile: f"{tile[0]} elements of {tile[1]} tokens")
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiled way, whatever the size, in tiles of some sizes."""
    monkeypatch.setattr(linear, "_WHOLE_ELEMENTS", 0)
    monkeypatch.setattr(linear, "_TILE_ELEMENTS", request.param[0])
    monkeypatch.setattr(linear, "_TILE_TOKENS", request.param[1])


def batch(dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """(states, weight, targets); the logits reach from -60 to 60."""
    g = torch.Generator().manual_seed(seed)
    states = 4 * torch.randn(N, D, generator=g, dtype=torch.float64)
    weight = 2 * torch.randn(V, D, generator=g, dtype=torch.float64)
    targets = torch.randint(V, (N,), generator=g)
    return states.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(), targets


def plain(
    states: Tensor, weight: Tensor, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    logits = states @ weight.t() / temperature
    logp = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    return logp, torch.distributions.Categorical(logits=logits).entropy().detach()


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_tiles_give_the_plain_values_and_gradients(temperature: float) -> None:
    states, weight, targets = batch()
    upstream = torch.linspace(-1, 2, N, dtype=torch.float64)
    expected, expected_entropy = plain(states, weight, targets, temperature)
    logp, entropy = linear_logprobs(states, weight, targets, temperature)
    torch.testing.assert_close(logp, expected)
    torch.testing.assert_close(entropy, expected_entropy)
    assert not entropy.requires_grad
    ours = torch.autograd.grad((logp * upstream).sum(), (states, weight))
    theirs = torch.autograd.grad((expected * upstream).sum(), (states, weight))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("frozen", ["weight", "states"])
def test_a_frozen_side_gets_no_gradient_and_the_other_its_own(frozen: str) -> None:
    states, weight, targets = batch()
    other = {"weight": states, "states": weight}[frozen]
    plain(states, weight, targets, 1.0)[0].sum().backward()
    expected = other.grad
    assert expected is not None
    free = [x.detach().requires_grad_(x is other) for x in (states, weight)]
    linear_logprobs(free[0], free[1], targets)[0].sum().backward()
    grads = dict(zip(("states", "weight"), (x.grad for x in free), strict=True))
    assert grads.pop(frozen) is None
    torch.testing.assert_close(*grads.values(), expected)


@pytest.mark.usefixtures("tiles")
def test_a_tied_weight_adds_the_gradients_of_both_its_uses() -> None:
    _, weight, targets = batch()
    tokens = torch.arange(N) % V
    (expected,) = torch.autograd.grad(plain(weight[tokens], weight, targets, 1.0)[0].sum(), weight)
    (ours,) = torch.autograd.grad(linear_logprobs(weight[tokens], weight, targets)[0].sum(), weight)
    torch.testing.assert_close(ours, expected)


@pytest.mark.usefixtures("tiles")
def test_half_precision_is_summed_in_single_precision() -> None:
    """Over many tiles, bf16 sums would be off by a percent; only the products may be rounded."""
    states, weight, targets = batch(torch.bfloat16)
    logp, entropy = linear_logprobs(states, weight, targets)
    assert logp.dtype == entropy.dtype == torch.float32
    logits = (states @ weight.t()).double()
    exact = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(logp.double(), exact, rtol=1e-5, atol=2e-5)
    logp.sum().backward()
    wide = [x.detach().double().requires_grad_() for x in (states, weight)]
    plain(wide[0], wide[1], targets, 1.0)[0].sum().backward()
    for ours, theirs in zip((states, weight), wide, strict=True):
        assert ours.grad is not None and ours.grad.dtype == torch.bfloat16
        assert theirs.grad is not None
        scale = float(theirs.grad.abs().max())
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=0, atol=0.02 * scale)


@pytest.mark.usefixtures("tiles")
def test_huge_logits_are_stable_and_certain_ones_have_no_entropy() -> None:
    states = torch.tensor([[1e4, 0.0], [0.0, 1.0], [-1e4, 0.0]], requires_grad=True)
    weight = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    logp, entropy = linear_logprobs(states, weight, torch.tensor([0, 3, 1]))
    torch.testing.assert_close(logp, torch.tensor([-math.log(2), -math.log(4), 0.0]))
    torch.testing.assert_close(entropy, torch.tensor([math.log(2), math.log(4), 0.0]))
    logp.sum().backward()
    assert states.grad is not None and states.grad.isfinite().all()


@pytest.mark.usefixtures("tiles")
def test_two_calls_give_the_same_bits() -> None:
    runs = []
    for _ in range(2):
        states, weight, targets = batch(torch.float32)
        logp, entropy = linear_logprobs(states, weight, targets)
        logp.square().sum().backward()
        runs.append((logp.detach(), entropy, states.grad, weight.grad))
    for one, other in zip(*runs, strict=True):
        assert torch.equal(one, other)  # type: ignore[arg-type]


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "tiled"])
def test_entropies_that_nobody_asked_for_are_zero(
    whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "_WHOLE_ELEMENTS", N * V if whole else 0)
    states, weight, targets = batch()
    logp, entropy = linear_logprobs(states, weight, targets, entropies=False)
    torch.testing.assert_close(logp, plain(states, weight, targets, 1.0)[0])
    assert not entropy.any() and not entropy.requires_grad


class Largest(TorchDispatchMode):
    """The elements of the largest array that any operation makes, in both passes."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else (out,):
            if isinstance(one, Tensor):
                self.elements = max(self.elements, one.numel())
        return out


def test_no_array_of_tokens_by_vocabulary_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_WHOLE_ELEMENTS", 0)
    monkeypatch.setattr(linear, "_TILE_ELEMENTS", 60)
    monkeypatch.setattr(linear, "_TILE_TOKENS", 8)
    states, weight, targets = batch()
    with Largest() as largest:
        linear_logprobs(states, weight, targets)[0].sum().backward()
    assert largest.elements == weight.numel() < N * V / 4
    with Largest() as largest:
        plain(states, weight, targets, 1.0)[0].sum().backward()
    assert largest.elements == N * V


def test_a_small_product_is_made_whole_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the plain way computes, to the bit: small models lose neither time nor their numbers."""
    states, weight, targets = batch(torch.float32)
    monkeypatch.setattr(linear, "_tile", None)  # not to be called
    logp, _ = linear_logprobs(states, weight, targets)
    logits = torch.nn.functional.linear(states, weight)
    assert torch.equal(logp, linear.token_logprobs(logits[None], targets[None])[0])


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_not_positive_is_an_error(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        linear_logprobs(*batch(), temperature)
