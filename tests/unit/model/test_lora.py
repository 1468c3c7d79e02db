"""Adapters compute what their formula says, and leave the model behind them as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from unit.model.tinies import generator, picture, request, row, small_policy

from m2r_train.api.errors import ConfigError
from m2r_train.core.packing import pack_rows
from m2r_train.model.folders import check_folder
from m2r_train.model.lora import Adapters, LoraLinear, is_adapter, merged_state
from m2r_train.model.policy import Policy
from m2r_train.rollout.base import SamplingParams
from m2r_train.rollout.sampler import InProcessSampler
from m2r_train.rollout.weights import stream

VISION = "model.visual."


def adapt(
    policy: Policy,
    *,
    rank: int = 3,
    targets: tuple[str, ...] = (),
    frozen: frozenset[str] = frozenset(),
    seed: int = 5,
) -> Policy:
    """The policy with adapters that already do something (a new B is zero)."""
    policy.adapters = Adapters(
        policy.module,
        rank=rank,
        alpha=7.0,
        targets=targets,
        frozen=frozen,
        seed=seed,
        where="spec.training.lora",
    )
    return policy


def trained(policy: Policy) -> Policy:
    noise = generator(1)
    with torch.no_grad():
        for name, parameter in policy.module.named_parameters():
            if name.endswith("lora_B"):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=noise))
    return policy


def logps(policy: Policy) -> Tensor:
    asked = request(policy, "how many red cubes?", picture(32, 16), picture(16, 24, 1))
    packed = pack_rows([row(asked.prompt, policy.text_tokens("so the answer is"))])
    return policy.logprobs(packed, policy.see(asked.images))[0]


def test_a_new_adapter_changes_nothing_and_is_all_that_learns() -> None:
    policy = small_policy()
    before = logps(policy)
    adapt(policy)
    assert torch.equal(logps(policy), before)
    for name, parameter in policy.module.named_parameters():
        assert parameter.requires_grad == is_adapter(name), name


def test_initial_values_are_those_of_the_seed_and_the_layer() -> None:
    def drawn(seed: int) -> dict[str, Tensor]:
        module = adapt(small_policy(), seed=seed).module
        return {n: p.detach() for n, p in module.named_parameters() if n.endswith("lora_A")}

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert not any(torch.equal(first[n], other[n]) for n in first)
    values = {n: v for n, v in first.items() if v.shape == (3, 32)}
    names = sorted(values)
    assert not torch.equal(values[names[0]], values[names[1]])
    for value in first.values():
        assert 0.5 / value.shape[1] ** 0.5 < value.abs().max() <= 1.0 / value.shape[1] ** 0.5


def test_merged_weights_compute_the_same() -> None:
    policy = trained(adapt(small_policy()))
    with torch.no_grad():
        torch.testing.assert_close(logps(policy.copy()), logps(policy), rtol=1e-4, atol=1e-4)
    assert not any(isinstance(m, LoraLinear) for m in policy.copy().module.modules())
    assert [n for n, _ in policy.copy().module.named_parameters()] == [
        n for n, _ in small_policy().module.named_parameters()
    ]


def test_the_reference_is_the_model_before_and_no_second_copy() -> None:
    start = small_policy()
    with torch.no_grad():
        before = logps(start)
    policy = trained(adapt(small_policy()))
    reference = policy.start()
    assert reference.module is policy.module
    assert torch.equal(logps(reference), before)
    assert not logps(reference).requires_grad
    assert not torch.allclose(logps(policy), before)  # the adapters are on again


def test_what_is_streamed_to_an_engine_is_the_merged_model() -> None:
    policy = trained(adapt(small_policy()))
    plain = dict(policy.copy().module.named_parameters())
    streamed = dict(stream(policy.module))
    assert list(streamed) == list(plain)
    assert all(torch.equal(streamed[n], plain[n]) for n in plain)
    base = dict(small_policy().module.named_parameters())
    assert any(not torch.equal(streamed[n], base[n]) for n in base)


def test_rollouts_are_those_of_the_adapted_model() -> None:
    policy = trained(adapt(small_policy()))
    asked = request(policy, "how many?", picture(32, 16))
    params = SamplingParams(samples=3, temperature=1.0, max_tokens=6)
    sampler = InProcessSampler(policy)
    drawn = sampler.generate([asked], [3], params)[0]
    packed = pack_rows([row(asked.prompt, *(c.tokens for c in drawn))])
    with torch.no_grad():
        own = policy.logprobs(packed, policy.see(asked.images))[0]
    sampled = torch.tensor([p for c in drawn for p in c.logprobs])
    torch.testing.assert_close(own, sampled, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        for name, parameter in policy.module.named_parameters():
            if name.endswith("lora_B"):
                parameter.mul_(-3)
    sampler.update_weights()
    assert sampler.generate([asked], [3], params)[0] != drawn


def test_frozen_layers_get_no_adapter_and_targets_choose_among_the_others() -> None:
    policy = small_policy()
    tower = frozenset(n for n, _ in policy.module.named_parameters() if n.startswith(VISION))
    assert policy.adapters is None
    every = adapt(small_policy()).adapters
    language = adapt(small_policy(), frozen=tower).adapters
    queries = adapt(small_policy(), targets=("q_proj", "*.layers.1.mlp.*"), frozen=tower).adapters
    assert every is not None and language is not None and queries is not None
    assert any(n.startswith(VISION) for n in every.names)
    assert not any(n.startswith(VISION) for n in language.names)
    assert "lm_head" not in every.names
    assert set(queries.names) == {
        "model.language_model.layers.0.self_attn.q_proj",
        "model.language_model.layers.1.self_attn.q_proj",
        *(f"model.language_model.layers.1.mlp.{n}_proj" for n in ("gate", "up", "down")),
    }


@pytest.mark.parametrize(
    ("targets", "frozen", "message"),
    [
        (("q_proj", "quary"), (), r"spec.training.lora.targets\[1\]: 'quary' fits no linear layer"),
        (("lm_head",), (), "lm_head shares its weight with the embeddings"),
        ((), ("",), "no linear layer is left to adapt"),
    ],
)
def test_targets_that_cannot_be_meant_are_refused(
    targets: tuple[str, ...], frozen: tuple[str, ...], message: str
) -> None:
    policy = small_policy()
    names = frozenset(n for n, _ in policy.module.named_parameters() if n.startswith(frozen or "-"))
    if frozen:
        names = frozenset(n for n, _ in policy.module.named_parameters()) | {"lm_head.weight"}
    with pytest.raises(ConfigError, match=message):
        adapt(policy, targets=targets, frozen=names)


def test_the_published_folder_is_the_merged_model_and_its_adapter_beside_the_start(
    tmp_path: Path,
) -> None:
    policy = trained(adapt(small_policy()))
    policy.save(tmp_path / "model")
    check_folder(tmp_path / "model")
    loaded = Policy.load(tmp_path / "model")
    merged = dict(merged_state(policy.module))
    assert all(torch.equal(p, merged[n]) for n, p in loaded.module.named_parameters())
    start = small_policy()
    weights = dict(start.module.named_parameters())
    factors = load_file(tmp_path / "model" / "adapter" / "adapter_model.safetensors")
    with torch.no_grad():
        for key in (k for k in factors if k.endswith("lora_A.weight")):
            name = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            down, up = factors[key], factors[key.replace("lora_A", "lora_B")]
            weights[f"{name}.weight"] += 7.0 / 3.0 * up @ down
        torch.testing.assert_close(logps(start), logps(policy), rtol=1e-5, atol=1e-5)


def test_gradients_follow_from_those_of_the_merged_weights() -> None:
    """W' = W + s B A, so dA = s B^T dW' and dB = s dW' A^T (arXiv 2106.09685)."""
    policy = trained(adapt(small_policy(), targets=("q_proj", "down_proj")))
    assert policy.adapters is not None
    whole = policy.copy()
    whole.module.requires_grad_(True)
    logps(policy).sum().backward()
    logps(whole).sum().backward()
    own, merged = dict(policy.module.named_parameters()), dict(whole.module.named_parameters())
    for name in policy.adapters.names:
        down, up = own[f"{name}.lora_A"], own[f"{name}.lora_B"]
        change = 7.0 / 3.0 * merged[f"{name}.weight"].grad
        torch.testing.assert_close(down.grad, up.T @ change, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(up.grad, change @ down.T, rtol=1e-3, atol=1e-4)


def test_the_adapter_folder_says_what_it_holds(tmp_path: Path) -> None:
    policy = trained(adapt(small_policy(), targets=("q_proj",)))
    policy.save(tmp_path / "model")
    folder = tmp_path / "model" / "adapter"
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 3, 7.0)
    tensors = load_file(folder / "adapter_model.safetensors")
    assert sorted(tensors)[0] == (
        "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight"
    )
    assert len(tensors) == 4
