"""vLLM on the GPU that the trainer uses too: memory goes back, weights come again.

Never run so far (no GPU was there): written against vLLM 0.32's own code, and against the same
classes on a CPU (``tests/rollout``). Run it with ``make test-gpu PYTHON=...`` in an environment
made from ``requirements/trainer.lock`` with pytest.
"""

from __future__ import annotations

import pytest
import torch
from rollout.engines import SAMPLED, Rig, make_rig

from m2r_train.rollout.vllm_hosts import Colocated

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.global_rng("vLLM's kernels draw on the GPU"),
]
GIB = 1 << 30


@pytest.fixture(scope="module")
def rig() -> Rig:
    """A policy on the CPU, and vLLM on the GPU beside it."""
    assert torch.cuda.is_available(), "no GPU: these tests are run by `make test-gpu` alone"
    return make_rig(host=Colocated(0.4))


def test_logprobs_are_the_trainers_after_every_update(rig: Rig) -> None:
    for update in range(3):
        rig.engine.update_weights()
        assert rig.error(rig.draw(), SAMPLED.temperature) < 2e-2
        rig.train(update)


def test_a_sleeping_engine_holds_next_to_no_memory(rig: Rig) -> None:
    rig.engine.update_weights()
    awake = torch.cuda.mem_get_info()[0]
    rig.draw()
    assert rig.engine._llm.llm_engine.is_sleeping()
    assert torch.cuda.mem_get_info()[0] - awake > 4 * GIB


def test_equal_seeds_give_equal_tokens_after_sleep(rig: Rig) -> None:
    rig.engine.update_weights()
    assert [[c.tokens for c in g] for g in rig.draw()] == [
        [c.tokens for c in g] for g in rig.draw()
    ]
