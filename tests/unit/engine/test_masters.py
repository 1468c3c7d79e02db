"""A narrow parameter is the rounded copy of a float32 master, and its gradients add in float32."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from unit.model.tinies import generator

from m2r_train.engine.local import AdamWConfig, LocalEngine

CONFIG = AdamWConfig(beta1=0.9, beta2=0.95, weight_decay=0.1, gradient_clip=1.0)


class Net(nn.Module):
    def __init__(self, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        g = generator(0)
        self.first = nn.Parameter(torch.randn(6, 8, generator=g).to(dtype))
        self.second = nn.Parameter(torch.randn(8, generator=g).to(dtype))
        self.idle = nn.Parameter(torch.randn(8, generator=g).to(dtype), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return ((x @ self.first).relu() * self.second + self.idle).float()


def data(step: int) -> Tensor:
    return torch.randn(4, 6, generator=generator(100 + step)).to(torch.bfloat16)


def train(net: Net, engine: LocalEngine, steps: range, rate: float = 1e-2) -> None:
    for step in steps:
        for part in data(step).split(2):
            engine.backward(net(part).square().mean())
        engine.step(rate)


def test_steps_too_small_for_the_parameter_add_up_in_the_master() -> None:
    """An update of a thousandth of a weight's ulp moves nothing in bfloat16 alone."""
    net = Net()
    engine = LocalEngine(net, CONFIG)
    with torch.no_grad():
        before = net.first.clone()
    train(net, engine, range(1), rate=1e-6)
    assert torch.equal(net.first, before)
    train(net, engine, range(1, 400), rate=1e-4)
    moved = engine.state_dict()["param/first"]
    assert moved.dtype == torch.float32
    assert torch.equal(net.first, moved.bfloat16())
    assert not torch.equal(net.first, before)


def test_gradients_of_micro_batches_add_in_float32() -> None:
    net = Net()
    engine = LocalEngine(net, CONFIG)
    parts = [data(i) for i in range(16)]
    alone = []
    for part in parts:
        twin = Net()
        twin(part).square().mean().backward()
        assert twin.first.grad is not None
        alone.append(twin.first.grad.float())
    for part in parts:
        engine.backward(net(part).square().mean())
        assert net.first.grad is None  # nothing narrow is kept
    wide = torch.stack(alone).sum(0)
    narrow = torch.zeros_like(alone[0], dtype=torch.bfloat16)
    for one in alone:
        narrow += one
    got = engine._named["first"].grad
    assert got is not None
    torch.testing.assert_close(got, wide, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(narrow.float(), wide, rtol=1e-6, atol=1e-6)


def test_a_step_is_that_of_a_float32_engine_given_the_same_gradients() -> None:
    net, wide = Net(), Net().float()
    engine, other = LocalEngine(net, CONFIG), LocalEngine(wide, CONFIG)
    for step in range(5):
        for own in (net, wide):
            for _, p in own.named_parameters():
                p.grad = None
        engine.backward(net(data(step)).square().mean())
        for name, p in wide.named_parameters():
            if p.requires_grad:
                given = engine._named[name].grad
                assert given is not None
                p.grad = given.clone()
        assert engine.step(1e-2) == other.step(1e-2)
    for name, value in engine.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_a_restored_engine_goes_on_bit_for_bit() -> None:
    net = Net()
    engine = LocalEngine(net, CONFIG)
    train(net, engine, range(3))
    kept = load_tensors(save_tensors(dict(engine.state_dict())))
    train(net, engine, range(3, 7))

    again = Net()
    resumed = LocalEngine(again, CONFIG)
    resumed.load_state_dict(kept)
    train(again, resumed, range(3, 7))
    assert all(t.dtype == torch.float32 for t in kept.values())
    for name, value in engine.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert torch.equal(net.first, again.first)


def test_a_gradient_that_is_not_finite_leaves_master_and_parameter() -> None:
    net = Net()
    engine = LocalEngine(net, CONFIG)
    train(net, engine, range(2))
    before = {n: t.clone() for n, t in engine.state_dict().items()}
    engine.backward(net(data(0) * float("inf")).square().mean())
    assert not torch.isfinite(torch.tensor(engine.step(1e-2)))
    for name, value in engine.state_dict().items():
        assert torch.equal(value, before[name])
    train(net, engine, range(1))
    assert torch.isfinite(net.first).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_wide_parameter_is_its_own_master(dtype: torch.dtype) -> None:
    net = Net(dtype)
    assert LocalEngine(net, CONFIG)._named["first"] is net.first
