"""vLLM, really run: it draws from the policy as it is now, from seeds alone, and says how likely.

Errors are the largest difference between vLLM's log-probability of a token and the trainer's, in
nats. Both compute in float32, so all there may be is rounding.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from rollout.engines import GREEDY, SAMPLED, SEEDS, Rig
from torch import Tensor, nn

from m2r_train.api.errors import ConfigError
from m2r_train.model.policy import Prompt, Request
from m2r_train.rollout import vllm_engine, vllm_hosts
from m2r_train.rollout.base import SamplingParams
from m2r_train.rollout.vllm_hosts import Colocated, OnCpu
from m2r_train.rollout.weights import group_names, stream

ROUNDING = 1e-4
STALE = 1e-2


def test_logprobs_are_the_trainers_after_none_one_and_several_updates(rig: Rig) -> None:
    for update in range(4):
        rig.engine.update_weights()
        assert rig.error(rig.draw(), SAMPLED.temperature) < ROUNDING
        assert rig.error(rig.draw(GREEDY), 1.0) < ROUNDING
        rig.train(update)
        assert rig.error(rig.draw(), SAMPLED.temperature) > STALE


def test_a_group_of_weights_that_is_not_sent_is_seen(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = group_names(dict(rig.policy.module.named_parameters()))
    assert len(groups) > 8
    for number, group in enumerate(groups):
        rig.engine.update_weights()
        rig.train(100 + number, group)
        with monkeypatch.context() as patch:
            patch.setattr(vllm_engine, "stream", lambda m, g, left=group: _without(left, m))
            rig.engine.update_weights()
        assert rig.error(rig.draw(), SAMPLED.temperature) > STALE, group
        rig.engine.update_weights()
        assert rig.error(rig.draw(), SAMPLED.temperature) < ROUNDING, group


def _without(names: list[str], module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return ((name, tensor) for name, tensor in stream(module) if name not in names)


def test_the_output_matrix_tied_to_the_embedding_would_stay_behind(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM 0.32; when this fails, ``take_over`` has become ``reload_weights`` alone."""
    rig.engine.update_weights()
    rig.train(200)
    with monkeypatch.context() as patch:
        patch.setattr(
            vllm_hosts, "take_over", lambda worker, weights: worker.reload_weights(weights)
        )
        rig.engine.update_weights()
    assert rig.error(rig.draw(), SAMPLED.temperature) > STALE
    rig.engine.update_weights()
    assert rig.error(rig.draw(), SAMPLED.temperature) < ROUNDING


def test_equal_seeds_give_equal_tokens_whatever_else_is_in_the_batch(rig: Rig) -> None:
    first = rig.draw()
    assert rig.draw() == first  # to the last bit: caches are emptied in between
    order = [2, 4, 0, 3, 1]
    turned = rig.engine.generate([rig.asked[i] for i in order], [SEEDS[i] for i in order], SAMPLED)
    alone = [rig.engine.generate([rig.asked[i]], [SEEDS[i]], SAMPLED)[0] for i in order]
    for got in (turned, alone):
        assert [[c.tokens for c in g] for g in got] == [[c.tokens for c in first[i]] for i in order]
    others = rig.engine.generate(rig.asked, [seed + 1000 for seed in SEEDS], SAMPLED)
    assert [c.tokens for c in others[2]] != [c.tokens for c in first[2]]
    assert len({c.tokens for c in first[2]}) > 1  # samples of one prompt differ


def test_samples_are_drawn_from_the_distribution_that_is_told(rig: Rig) -> None:
    """First tokens of many samples: their frequencies are the log-probabilities that came along."""
    many = SamplingParams(samples=400, temperature=1.0, max_tokens=1)
    [drawn] = rig.engine.generate(rig.asked[2:3], [7], many)
    told = {c.tokens[0]: c.logprobs[0] for c in drawn}
    likely = max(told, key=lambda token: told[token])
    p = float(torch.tensor(told[likely]).exp())
    seen = sum(c.tokens[0] == likely for c in drawn) / len(drawn)
    assert abs(seen - p) < 4 * (p * (1 - p) / len(drawn)) ** 0.5


def test_completions_end_at_a_stop_token_or_are_truncated(rig: Rig) -> None:
    completions = [c for group in rig.draw() for c in group]
    stops = set(rig.policy.stop_tokens)
    assert {c.truncated for c in completions} == {True, False}
    for c in completions:
        assert c.truncated == (c.tokens[-1] not in stops)
        assert not stops.intersection(c.tokens[:-1])
        assert len(c.tokens) == len(c.logprobs) <= SAMPLED.max_tokens
        assert len(c.tokens) == SAMPLED.max_tokens or not c.truncated


def test_prompts_that_come_in_waves_give_the_same_tokens(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [[c.tokens for c in group] for group in rig.draw()]
    monkeypatch.setattr(rig.engine._host, "wave_tokens", 30)
    assert [[c.tokens for c in group] for group in rig.draw()] == expected


def test_more_samples_than_seats_and_tokens_than_the_budget_are_drawn(rig: Rig) -> None:
    many = SamplingParams(samples=200, temperature=1.3, max_tokens=3)
    groups = rig.engine.generate(rig.asked * 3, range(15), many)
    assert [len(group) for group in groups] == [200] * 15
    few = SamplingParams(samples=5, temperature=1.3, max_tokens=3)
    alone = rig.engine.generate(rig.asked[2:3], [2], few)
    assert [c.tokens for c in groups[2][:5]] == [c.tokens for c in alone[0]]


def test_the_clip_lasts_longer_than_it_is_wide(rig: Rig) -> None:
    """Else it would say nothing about where vLLM lets the text behind a clip go on."""
    asked = rig.asked[4]
    (_, (t, h, w)), merge = asked.prompt.grids, rig.policy.merge
    assert rig.policy.tokens_per_second * (t - 1) > max(h, w) // merge


def test_a_prompt_that_both_sides_lay_out_differently_is_never_trained_on(rig: Rig) -> None:
    asked = rig.asked[2]
    whole, pad = asked.prompt, rig.policy.image_token
    first = whole.tokens.index(pad)
    one_less = (*whole.tokens[:first], *whole.tokens[first + 1 :])
    wrong = Prompt(one_less, whole.positions[:, 1:], whole.grids, whole.prefix_length)
    with pytest.raises(AssertionError, match="lay out a prompt differently"):
        rig.engine.generate([Request(wrong, asked.images)], [1], SAMPLED)


def test_a_schema_binds_completions(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.policy, "stop_tokens", (rig.policy.end_of_turn,))
    schema = json.dumps({"enum": ["left", "right"]})
    groups = rig.draw(SamplingParams(samples=5, temperature=1.3, max_tokens=24, schema=schema))
    told = {json.loads(rig.policy.decode(c.tokens)) for group in groups for c in group}
    assert told == {"left", "right"}


def test_a_stop_request_leaves_no_request_behind(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    before, looks = rig.draw(), iter(range(4))

    def look() -> None:
        if next(looks) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rig.engine, "_look", look)
        with pytest.raises(KeyboardInterrupt):
            rig.draw()
    assert rig.draw() == before


def test_what_does_not_fit_is_refused_and_not_cut_short(rig: Rig) -> None:
    with pytest.raises(ConfigError, match=r"make \d+ tokens, and vllm takes 4096"):
        rig.draw(SamplingParams(samples=1, temperature=1.0, max_tokens=4090))


def test_nothing_to_draw_draws_nothing(rig: Rig) -> None:
    assert rig.engine.generate([], [], SAMPLED) == []


def test_threads_and_generators_are_as_before(rig: Rig) -> None:
    torch.set_num_threads(2)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    rig.draw()
    assert torch.get_num_threads() == 1


class Forgetful(Colocated):
    """The GPU's cycle of sleep and waking; the CPU frees nothing, so weights are spoilt by hand."""

    awake = OnCpu.awake

    def rest(self, llm: Any) -> bool:
        """Sleep, with all memory gone."""
        llm.collective_rpc(_spoil)
        return super().rest(llm)


def _spoil(worker: Any) -> None:
    with torch.no_grad():
        for parameter in worker.model_runner.get_model().parameters():
            parameter.fill_(float("nan"))


def test_an_engine_that_slept_has_all_weights_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.engine.update_weights()
    expected = rig.draw()
    monkeypatch.setattr(rig.engine, "_host", Forgetful(0.4))
    assert rig.draw() == expected  # awake, then asleep
    assert rig.engine._llm.llm_engine.is_sleeping()
    assert rig.draw() == expected  # woken by itself
    rig.train(300)
    rig.engine.update_weights()
    assert rig.error(rig.draw(), SAMPLED.temperature) < ROUNDING
    monkeypatch.undo()
    rig.engine._host.load(rig.engine._llm, iter(()))  # whatever follows wakes and loads anew
    rig.engine._llm.wake_up()
    rig.engine.update_weights()
