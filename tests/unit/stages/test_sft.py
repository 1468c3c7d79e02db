"""A step of supervised fine-tuning is the loss of its samples alone, and can be left midway."""

from __future__ import annotations

import pytest
import torch
from unit.model.tinies import hf_logits, picture, png, sample, small_policy

from m2r_train.core.records import Sample
from m2r_train.engine.local import AdamWConfig, LocalEngine
from m2r_train.stages import sft
from m2r_train.stages.feeding import lay_out, lessons, request

ADAMW = AdamWConfig(beta1=0.9, beta2=0.95, weight_decay=0.0, gradient_clip=0.0)
SHORT = "<think>so 3</think><answer>\\boxed{3}</answer>"
LONG = "<think>the answer is right so 3 how many red blue cubes</think><answer>\\boxed{3}</answer>"


def mixed() -> list[Sample]:
    """Two questions about one picture, two pictures, none, a video, a video and a picture."""
    a, b = png(picture(32, 16, 1)), png(picture(16, 48, 2))
    film = tuple(png(picture(16, 32, 10 + i)) for i in range(5))
    return [
        sample("how many red?", id="1", images=(a,), chain=SHORT),
        sample("how many blue cubes?", id="2", images=(a,), chain=LONG),
        sample("left or right?", id="3", images=(b, a), chain=SHORT),
        sample("so how many?", id="4", chain=LONG),
        sample("how many?", id="5", video=film, chain=SHORT),
        sample("how many blue?", id="6", images=(b,), video=film[:2], chain=LONG),
    ]


@pytest.mark.parametrize("cells", [1, 90, 4096])
def test_loss_and_gradients_are_those_of_separate_sequences(
    cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By transformers' own forward, with positions of its own."""
    monkeypatch.setattr(sft, "_CELLS", cells)
    policy = small_policy(merge=2)
    policy.module.double()
    samples = mixed()
    engine = LocalEngine(policy.module, ADAMW)
    loss, tokens, _ = sft._accumulate(policy, engine, lessons(policy, samples), lambda: None)
    ours = {n: p.grad for n, p in policy.module.named_parameters()}
    policy.module.zero_grad()

    turns = [policy.text_tokens(s.chain or "") for s in samples]
    prompts = lay_out(policy, samples)
    expected = torch.zeros((), dtype=torch.float64)
    for prompt, one, turn in zip(prompts, samples, turns, strict=True):
        logits = hf_logits(policy, request(prompt, one), turn)
        expected = expected - logits.log_softmax(-1).gather(1, torch.tensor(turn)[:, None]).sum()
    expected = expected / sum(map(len, turns))
    expected.backward()  # type: ignore[no-untyped-call]
    assert tokens == sum(map(len, turns))
    assert loss == pytest.approx(expected.item(), abs=1e-6)
    for name, parameter in policy.module.named_parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().max()) > 0, name
        torch.testing.assert_close(ours[name], parameter.grad, atol=1e-6, rtol=1e-4, msg=name)


def test_a_step_asks_before_each_micro_batch_whether_to_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sft, "_CELLS", 1)  # a micro-batch for each lesson
    policy = small_policy()
    chain = "<think>so 3</think><answer>\\boxed{3}</answer>"
    course = lessons(policy, [sample(id=f"q{i}", chain=chain) for i in range(3)])
    engine = LocalEngine(policy.module, ADAMW)
    looks: list[int] = []
    sft._accumulate(policy, engine, course, lambda: looks.append(1))
    assert len(looks) == len(course) == 3

    def leave() -> None:
        raise InterruptedError("asked to stop")

    with pytest.raises(InterruptedError):
        sft._accumulate(policy, engine, course, leave)
