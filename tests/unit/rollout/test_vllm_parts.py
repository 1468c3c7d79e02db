"""The parts of the vLLM engine that need no vLLM: groups of weights, prompts, the GPU's cycle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from unit.model.tinies import clip, picture, request, small_policy

from m2r_train.rollout.vllm_engine import unexpanded, waves
from m2r_train.rollout.vllm_hosts import Colocated, OnCpu
from m2r_train.rollout.weights import group_names, stream

# weights


def test_a_group_is_a_layer_a_block_or_a_module_beside_them() -> None:
    groups = group_names(
        [
            "model.visual.patch_embed.proj.weight",
            "model.visual.blocks.0.attn.qkv.weight",
            "model.visual.blocks.0.attn.qkv.bias",
            "model.visual.merger.mlp.0.weight",
            "model.visual.merger.mlp.0.bias",
            "model.visual.merger.mlp.2.weight",
            "model.language_model.layers.1.self_attn.q_proj.weight",
            "model.language_model.layers.10.self_attn.q_proj.weight",
            "model.language_model.layers.1.mlp.up_proj.weight",
            "model.language_model.norm.weight",
        ]
    )
    assert [len(g) for g in groups] == [1, 2, 2, 1, 2, 1, 1]
    assert groups[4] == [
        "model.language_model.layers.1.self_attn.q_proj.weight",
        "model.language_model.layers.1.mlp.up_proj.weight",
    ]


def test_the_stream_has_every_parameter_once_and_is_whole_only_while_gathered() -> None:
    """Sharded parameters, played: empty outside the gather, and none is whole too long."""
    module = small_policy().module
    held = {name: p.detach().clone() for name, p in module.named_parameters()}
    names = {p: name for name, p in module.named_parameters()}
    whole: list[int] = []

    @contextmanager
    def gather(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
        for p in parameters:
            p.data = held[names[p]].clone()
        whole.append(len(parameters))
        yield
        for p in parameters:
            p.data = torch.empty(0)

    for p in names:
        p.data = torch.empty(0)
    got = dict(stream(module, gather))
    assert got.keys() == held.keys()
    assert all(torch.equal(got[name], held[name]) for name in held)
    assert len(whole) > 8 and max(whole) < len(held) / 3


# prompts


@pytest.mark.parametrize("merge", [1, 2])
def test_an_unexpanded_prompt_has_one_placeholder_for_each_picture_and_clip(merge: int) -> None:
    policy = small_policy(merge=merge)
    visual = {policy.image_token, policy.video_token}
    asked = request(policy, "how many?", picture(32, 16), picture(16, 48, 1), clip(5, 32, 16))
    short = unexpanded(asked.prompt, visual, policy.merge)
    assert (short.count(policy.image_token), short.count(policy.video_token)) == (2, 1)
    kept = [t for t in asked.prompt.tokens if t not in visual]
    assert [t for t in short if t not in visual] == kept
    text = request(policy, "so?").prompt
    assert unexpanded(text, visual, policy.merge) == list(text.tokens)


@given(st.lists(st.integers(1, 50), min_size=1), st.one_of(st.none(), st.integers(1, 120)))
def test_waves_hold_all_in_order_within_the_budget(lengths: list[int], budget: int | None) -> None:
    runs = waves(lengths, budget)
    assert [n for run in runs for n in lengths[run]] == lengths
    for run in runs:
        own = lengths[run]
        assert own and (budget is None or sum(own) <= budget or len(own) == 1)


# hosts


class Told:
    """Writes down what an engine is asked to do; ``load`` as the worker would take it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def wake_up(self, tags: list[str]) -> None:
        self.calls.append(f"wake {','.join(tags)}")

    def sleep(self, level: int) -> None:
        self.calls.append(f"sleep {level}")

    def collective_rpc(self, method: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.calls.append(f"{method.__name__} {len(list(args[0]))}")


def weights(n: int) -> Iterator[tuple[str, torch.Tensor]]:
    return ((f"w{i}", torch.zeros(1)) for i in range(n))


def test_a_colocated_engine_wakes_in_stages_and_sleeps_with_nothing_kept() -> None:
    host, llm = Colocated(0.4), Told()
    assert host.rest(llm) is False  # just started: memory is the trainer's
    host.load(llm, weights(3))
    host.load(llm, weights(3))  # awake: nothing to wake
    assert host.rest(llm) is False
    assert llm.calls == [
        "sleep 2",
        "wake weights",
        "take_over 3",
        "wake kv_cache",
        "take_over 3",
        "sleep 2",
    ]
    assert host.settings(100, 4096) == {"enable_sleep_mode": True, "gpu_memory_utilization": 0.4}


def test_on_a_cpu_weights_stay_and_one_sequence_always_fits() -> None:
    host, llm = OnCpu(), Told()
    host.load(llm, weights(2))
    assert host.rest(llm) is True
    assert llm.calls == ["take_over 2"]
    for token_bytes, longest in ((1536, 4096), (60_000, 32768)):
        settings = host.settings(token_bytes, longest)
        assert settings["kv_cache_memory_bytes"] >= token_bytes * longest
        assert settings["max_num_batched_tokens"] >= longest
        assert settings["enable_chunked_prefill"] is False


class Worker:
    """A worker with one packed matrix that shares an embedding, and one that does not."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.model_runner = self
        packed = nn.Module()
        packed.shard_indices, packed.cpu_linear, packed.quant_method = 1, 1, self
        plain = nn.Module()
        plain.cpu_linear, plain.quant_method = 1, self
        self._model = nn.ModuleList([packed, plain])

    def reload_weights(self, weights_iterator: object) -> None:
        self.done.append("reload")

    def get_model(self) -> nn.Module:
        return self._model

    def process_weights_after_loading(self, module: nn.Module) -> None:
        self.done.append("pack" if hasattr(module, "shard_indices") else "pack another")


def test_a_packed_output_matrix_is_packed_anew_after_every_load() -> None:
    from m2r_train.rollout.vllm_hosts import take_over

    worker = Worker()
    take_over(worker, weights(1))
    assert worker.done == ["reload", "pack"]
