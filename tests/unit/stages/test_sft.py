"""A step of supervised fine-tuning can be left before any of its micro-batches."""

from __future__ import annotations

import pytest
from unit.model.tinies import sample, small_policy

from m2r_train.engine.local import AdamWConfig, LocalEngine
from m2r_train.stages import sft
from m2r_train.stages.feeding import lessons

ADAMW = AdamWConfig(beta1=0.9, beta2=0.95, weight_decay=0.0, gradient_clip=0.0)


def test_a_step_asks_before_each_micro_batch_whether_to_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sft, "_CELLS", 1)  # a micro-batch for each lesson
    policy = small_policy()
    chain = "<think>so 3</think><answer>\\boxed{3}</answer>"
    course = lessons(policy, [sample(id=f"q{i}", chain=chain) for i in range(3)])
    looks: list[int] = []
    engine = LocalEngine(policy.module, ADAMW)
    sft._accumulate(policy, engine, course, lambda: looks.append(1))
    assert len(looks) == len(course) == 3

    def leave() -> None:
        raise InterruptedError("asked to stop")

    with pytest.raises(InterruptedError):
        sft._accumulate(policy, engine, course, leave)
