"""The optimiser's state is tensors by name; what is saved goes on as if nothing had happened."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from unit.model.tinies import generator, small_policy

from m2r_train.engine.local import AdamWConfig, LocalEngine

CONFIG = AdamWConfig(beta1=0.9, beta2=0.95, weight_decay=0.1, gradient_clip=1.0)
VISION = ("model.visual.",)


class Net(nn.Module):
    """A tower to freeze, a matrix, a bias, a norm: one of each kind that is treated differently."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        g = generator(seed)
        self.tower = nn.ParameterDict({"weight": nn.Parameter(torch.randn(3, 4, generator=g))})
        self.towering = nn.Parameter(torch.randn(4, 3, generator=g))
        self.bias = nn.Parameter(torch.randn(3, generator=g))
        self.norm = nn.ParameterDict({"weight": nn.Parameter(torch.randn(3, generator=g))})

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = (x @ self.tower["weight"]).relu()
        out: Tensor = (hidden @ self.towering + self.bias) * self.norm["weight"]
        return out


def values(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def backward(module: nn.Module, step: int, scale: float = 1.0) -> None:
    x = torch.randn(8, 3, generator=generator(step))
    (scale * module(x).square().mean()).backward()


def train(module: nn.Module, engine: LocalEngine, steps: range) -> list[float]:
    norms = []
    for step in steps:
        backward(module, step)
        norms.append(engine.step(0.01 * (step + 1)))
    return norms


def test_steps_are_those_of_adamw_written_out() -> None:
    net, twin = Net(), Net()
    engine = LocalEngine(net, CONFIG)
    train(net, engine, range(4))
    m = {n: torch.zeros_like(p) for n, p in twin.named_parameters()}
    v = {n: torch.zeros_like(p) for n, p in twin.named_parameters()}
    for step in range(4):
        backward(twin, step)
        grads = {n: p.grad for n, p in twin.named_parameters() if p.grad is not None}
        norm = torch.sqrt(sum((g.square().sum() for g in grads.values()), torch.zeros(())))
        rate = 0.01 * (step + 1)
        with torch.no_grad():
            for name, p in twin.named_parameters():
                g = grads[name] * min(1.0, 1.0 / (float(norm) + 1e-6))
                m[name] = 0.9 * m[name] + 0.1 * g
                v[name] = 0.95 * v[name] + 0.05 * g.square()
                p.mul_(1 - rate * (0.1 if p.ndim >= 2 else 0.0))
                m_hat, v_hat = m[name] / (1 - 0.9 ** (step + 1)), v[name] / (1 - 0.95 ** (step + 1))
                p.sub_(rate * m_hat / (v_hat.sqrt() + 1e-8))
        twin.zero_grad()
    for name, value in values(net).items():
        torch.testing.assert_close(value, dict(twin.named_parameters())[name], msg=name)


def test_only_matrices_are_decayed() -> None:
    net = Net()
    engine = LocalEngine(net, CONFIG)
    before = values(net)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    engine.step(0.5)
    for name, value in values(net).items():
        share = 1 - 0.5 * 0.1 if value.ndim == 2 else 1.0
        torch.testing.assert_close(value, share * before[name])


@pytest.mark.parametrize("saved_after", [0, 1, 3])
def test_a_run_that_was_saved_goes_on_bit_for_bit(saved_after: int) -> None:
    net = Net()
    engine = LocalEngine(net, CONFIG, ("tower.",))
    norms = train(net, engine, range(saved_after))
    data = save_tensors(engine.state_dict())
    norms += train(net, engine, range(saved_after, 6))

    other = Net(seed=0)  # the frozen part is that of the model the run started from
    with torch.no_grad():
        other.towering.add_(1.0)
    resumed = LocalEngine(other, CONFIG, ("tower.",))
    resumed.load_state_dict(load_tensors(data))
    assert train(other, resumed, range(saved_after, 6)) == norms[saved_after:]
    expected = values(net)
    assert all(torch.equal(value, expected[name]) for name, value in values(other).items())
    assert save_tensors(resumed.state_dict()) == save_tensors(engine.state_dict())


def test_a_model_that_was_saved_goes_on_bit_for_bit() -> None:
    """The same with tied embeddings and a frozen tower, as the stages have them."""

    def loss(seed: int) -> Tensor:
        ids = torch.randint(0, 90, (2, 9), generator=generator(seed))
        out: Tensor = policy.module(input_ids=ids, labels=ids, use_cache=False).loss
        return out

    results = []
    data = b""
    for resumed in (False, True):
        policy = small_policy()
        engine = LocalEngine(policy.module, CONFIG, VISION)
        if resumed:
            engine.load_state_dict(load_tensors(data))
        for step in range(2 if resumed else 0, 4):
            if step == 2 and not resumed:
                data = save_tensors(engine.state_dict())
            loss(step).backward()  # type: ignore[no-untyped-call]
            engine.step(0.01)
        results.append(values(policy.module))
    assert results[0].keys() == results[1].keys()
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())


def test_a_state_comes_to_where_the_parameters_are() -> None:
    net, there = Net(), Net().to("meta")  # any device that is not the file's
    engine, resumed = LocalEngine(net, CONFIG), LocalEngine(there, CONFIG)
    train(net, engine, range(1))
    resumed.load_state_dict(load_tensors(save_tensors(engine.state_dict())))
    devices = {n: t.device.type for n, t in resumed.state_dict().items() if "adam_t/" not in n}
    assert devices == dict.fromkeys(devices, "meta")


def test_a_loaded_state_does_not_follow_the_one_it_came_from() -> None:
    net, other = Net(), Net()
    engine, copied = LocalEngine(net, CONFIG), LocalEngine(other, CONFIG)
    train(net, engine, range(2))
    copied.load_state_dict(engine.state_dict())
    frozen = {n: t.clone() for n, t in copied.state_dict().items()}
    train(net, engine, range(2, 4))
    assert all(torch.equal(t, frozen[n]) for n, t in copied.state_dict().items())


def test_an_older_state_without_moments_takes_them_away() -> None:
    net, fresh = Net(), Net()
    engine = LocalEngine(net, CONFIG)
    first = {n: t.clone() for n, t in engine.state_dict().items()}
    train(net, engine, range(3))
    engine.load_state_dict(first)
    train(net, engine, range(2))
    train(fresh, LocalEngine(fresh, CONFIG), range(2))
    expected = values(fresh)
    assert all(torch.equal(value, expected[name]) for name, value in values(net).items())


def test_frozen_parameters_never_move_and_are_not_saved() -> None:
    policy = small_policy()
    before = values(policy.module)
    engine = LocalEngine(policy.module, CONFIG, VISION)
    ids = torch.arange(12)[None]
    for _ in range(3):
        policy.module(input_ids=ids, labels=ids).loss.backward()
        engine.step(0.1)
    moved = {n for n, value in values(policy.module).items() if not torch.equal(value, before[n])}
    tower = {name for name in before if name.startswith(VISION)}
    assert tower
    assert moved == before.keys() - tower
    saved = {name.partition("/")[2] for name in engine.state_dict()}
    assert saved == before.keys() - tower


def test_a_prefix_freezes_what_is_under_it_and_nothing_that_only_begins_alike() -> None:
    net = Net()
    LocalEngine(net, CONFIG, ("tower.",))
    assert {n: p.requires_grad for n, p in net.named_parameters()} == {
        "tower.weight": False,
        "towering": True,
        "bias": True,
        "norm.weight": True,
    }


def test_what_asks_for_no_gradients_is_not_trained() -> None:
    net = Net()
    net.bias.requires_grad_(False)
    engine = LocalEngine(net, CONFIG, ("tower.",))
    assert set(engine.state_dict()) == {"param/towering", "param/norm.weight"}
    assert {n for n, p in net.named_parameters() if p.requires_grad} == {"towering", "norm.weight"}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_gradient_that_is_not_finite_changes_nothing(bad: float) -> None:
    net, twin = Net(), Net()
    engine, other = LocalEngine(net, CONFIG), LocalEngine(twin, CONFIG)
    train(net, engine, range(2))
    train(twin, other, range(2))
    backward(net, 2)
    assert net.bias.grad is not None
    net.bias.grad[1] = bad
    before = {n: t.clone() for n, t in engine.state_dict().items()}
    assert not torch.isfinite(torch.tensor(engine.step(0.1)))
    assert all(torch.equal(t, before[n]) for n, t in engine.state_dict().items())
    assert train(net, engine, range(3, 5)) == train(twin, other, range(3, 5)), "as if it never was"
    expected = values(twin)
    assert all(torch.equal(value, expected[name]) for name, value in values(net).items())


def grads_for(gradient_clip: float, scale: float) -> tuple[float, dict[str, Tensor]]:
    """The norm that a step reports, and the first moments it leaves: 0.1 of what it used."""
    net = Net()
    config = AdamWConfig(beta1=0.9, beta2=0.95, weight_decay=0.0, gradient_clip=gradient_clip)
    engine = LocalEngine(net, config)
    backward(net, 0, scale)
    norm = engine.step(0.01)
    state = engine.state_dict()
    return norm, {n: t for n, t in state.items() if n.startswith("adam_m/")}


def total(moments: dict[str, Tensor]) -> float:
    return float(torch.cat([10 * t.flatten() for t in moments.values()]).norm())


def test_gradients_are_clipped_by_their_common_norm_which_is_reported_unclipped() -> None:
    free_norm, free = grads_for(1e9, scale=3.0)
    assert total(free) == pytest.approx(free_norm, rel=1e-5)
    norm, clipped = grads_for(free_norm / 4, scale=3.0)
    assert norm == free_norm
    assert total(clipped) == pytest.approx(free_norm / 4, rel=1e-5)
    for name, value in clipped.items():
        torch.testing.assert_close(value, free[name] / 4, rtol=1e-4, atol=1e-9)


def test_a_clip_of_zero_means_no_clipping() -> None:
    free_norm, free = grads_for(1e9, scale=3.0)
    norm, unclipped = grads_for(0.0, scale=3.0)
    assert norm == free_norm
    assert all(torch.equal(value, free[name]) for name, value in unclipped.items())


@pytest.mark.parametrize("change", ["missing", "superfluous", "frozen here"])
def test_names_that_differ_are_an_error_and_change_nothing(change: str) -> None:
    net = Net()
    state = {n: t + 1.0 for n, t in LocalEngine(net, CONFIG).state_dict().items()}
    engine = LocalEngine(net, CONFIG, ("bias",) if change == "frozen here" else ())
    odd = "bias"
    if change == "missing":
        del state["param/bias"]
    if change == "superfluous":
        odd = "ghost"
        state["param/ghost"] = torch.zeros(1)
    before = values(net)
    with pytest.raises(ValueError, match=f"differ in parameters: {odd}"):
        engine.load_state_dict(state)
    assert all(torch.equal(value, before[name]) for name, value in values(net).items())


def test_a_step_clears_the_gradients() -> None:
    net = Net()
    train(net, LocalEngine(net, CONFIG), range(1))
    assert all(p.grad is None for p in net.parameters())
