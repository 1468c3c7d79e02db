"""What each rank of a test does: ``python -m gangwork OUT STRATEGY...`` with torchrun's variables.

Each engine starts from the same weights and takes the same steps; rank 0 writes what it saw.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from unit.model.tinies import picture, png, sample, small_policy

from m2r_train.api.common import Parallelism
from m2r_train.api.sft import SFTTraining
from m2r_train.engine.base import Engine
from m2r_train.engine.group import Group
from m2r_train.engine.ranks import ALONE, Ranks, seat_here
from m2r_train.model.policy import Policy
from m2r_train.rollout.base import SamplingParams
from m2r_train.rollout.sampler import InProcessSampler
from m2r_train.stages import sft
from m2r_train.stages.engines import training_engine
from m2r_train.stages.feeding import Lesson, lay_out, lessons, request
from m2r_train.stages.models import use_threads

RATE = 1e-3
CHAIN = "<think>so 3</think><answer>\\boxed{3}</answer>"


def course(policy: Policy) -> list[Lesson]:
    """Five lessons of different lengths, one of them without a picture."""
    pictured = [
        sample(id=f"q{i}", chain=CHAIN + " so" * 7 * i, images=(png(picture(32, 32, i)),))
        for i in range(4)
    ]
    return lessons(policy, [*pictured, sample(id="text", chain=CHAIN + " so" * 40)])


def step(policy: Policy, engine: Engine, ranks: Ranks, most: int | None = None) -> list[float]:
    """Loss and gradient norm of one step, on ``most`` of the lessons."""
    loss, _, _ = sft._accumulate(policy, engine, course(policy)[:most], lambda: None, ranks)
    return [loss, engine.step(RATE)]


def engine_of(policy: Policy, strategy: str, ranks: Ranks) -> Engine:
    """``Zero3+Optimizer``: a strategy and what it offloads; ``frozen``: the tower, too.

    ``bf16``: the weights that compute, whose masters the engine keeps in float32.
    """
    name, *more = strategy.split("+")
    offload = next((m for m in more if m.startswith("Optimizer")), "None")
    if "bf16" in more:
        for parameter in policy.module.parameters():
            parameter.data = parameter.data.bfloat16()
    training = SFTTraining(freezeVision="frozen" in more, gradientClip=1.0, weightDecay=0.1)
    return training_engine(policy, training, Parallelism(strategy=name, offload=offload), ranks)


def work(
    strategy: str, ranks: Ranks, former: dict[str, torch.Tensor] | None
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Four steps, of which the third is taken again from the state after the second.

    It is taken once more from the state that the ``former`` strategy had then. Two more leave
    some ranks without work, and all of them.
    """
    policy = small_policy()
    engine = engine_of(policy, strategy, ranks)
    seen = [step(policy, engine, ranks) for _ in range(2)]
    state = {name: tensor.clone() for name, tensor in engine.state_dict().items()}
    seen.append(step(policy, engine, ranks))
    with engine.gathered():
        prompts = lay_out(policy, [sample()])
        drawn = InProcessSampler(policy).generate(
            [request(prompts[0], sample())], [7], SamplingParams(2, 1.0, 8)
        )
        whole = [float(p.detach().double().sum()) for p in policy.module.parameters()]
    seen.append(step(policy, engine, ranks))
    few = step(policy, engine, ranks, most=1)
    before = {name: tensor.clone() for name, tensor in engine.state_dict().items()}
    idle = engine.step(RATE)
    moved = [n for n, t in engine.state_dict().items() if not torch.equal(t, before[n])]
    told = told_to_all(state, ranks)
    other = small_policy()
    again = engine_of(other, strategy, ranks)
    again.load_state_dict(told)
    repeated = step(other, again, ranks)
    crossed = None
    if former is not None and former.keys() == told.keys():
        again.load_state_dict(former)
        crossed = step(other, again, ranks)
    back = {name: float(tensor.double().sum()) for name, tensor in told.items()}
    types = {str(tensor.dtype) for tensor in told.values()}
    finer = sum(int((tensor != tensor.bfloat16()).sum()) for tensor in told.values())
    return {
        "seen": seen, "repeated": repeated, "crossed": crossed, "state": back,
        "drawn": [c.tokens for c in drawn[0]], "whole": whole,
        "types": sorted(types), "finer": finer, "few": few, "idle": idle, "moved": moved,
    }, told  # fmt: skip


def told_to_all(state: dict[str, torch.Tensor], ranks: Ranks) -> dict[str, torch.Tensor]:
    """Rank 0's state, as a checkpoint brings it to all."""
    from safetensors.torch import load, save

    data = ranks.share_bytes(save(state) if ranks.leads else None)
    assert data is not None
    loaded: dict[str, torch.Tensor] = load(bytes(data))
    return loaded


def main(out: Path, strategies: list[str]) -> None:
    """All strategies, one after another."""
    use_threads(1)
    sft._CELLS = 64  # so that ranks differ in the number of their micro-batches
    seat = seat_here()
    ranks: Ranks = ALONE if seat is None else Group(seat, 120.0)
    made: dict[str, Any] = {}
    former = None
    for strategy in strategies:
        made[strategy], former = work(strategy, ranks, former)
    if ranks.leads:
        out.write_text(json.dumps(made))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
