"""Training on a GPU: what a CPU computes, to rounding; memory where it is to be.

Never run so far (no GPU was there); the same code runs on a CPU in the other tests. Run it with
``make test-gpu PYTHON=...`` in an environment made from ``requirements/trainer.lock`` with pytest.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load
from torch import Tensor
from unit.model.tinies import picture, request, row, small_policy
from unit.stages.training_runs import dataset, history, result, rlvr_spec, run, sft_spec

from bench.bench_gpu import main
from m2r_train.core.packing import pack_rows
from m2r_train.engine.local import AdamWConfig, LocalEngine
from m2r_train.engine.snapshot import Snapshot
from m2r_train.model.policy import Policy
from m2r_train.model.recompute import recompute_layers
from m2r_train.rollout.base import SamplingParams
from m2r_train.rollout.sampler import InProcessSampler

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.global_rng("kernels of a GPU, and transformers' initial values"),
]
ADAMW = AdamWConfig(beta1=0.9, beta2=0.95, weight_decay=0.0, gradient_clip=1.0)


@pytest.fixture(autouse=True)
def _gpu() -> None:
    assert torch.cuda.is_available(), "no GPU: these tests are run by `make test-gpu` alone"


def logps(policy: Policy) -> Tensor:
    asked = request(policy, "how many red cubes?", picture(32, 16), picture(16, 48, 1))
    turns = [policy.text_tokens(t) for t in ("so the answer is 3", "red left")]
    packed = pack_rows([row(asked.prompt, *turns)])
    return policy.logprobs(packed, policy.see(asked.images))[0]


def on_gpu(policy: Policy) -> Policy:
    return Policy(copy.deepcopy(policy.module).cuda(), policy.processor)


@pytest.mark.parametrize("thrifty", [False, True], ids=["plain", "recomputed"])
def test_a_step_is_that_of_a_cpu(thrifty: bool) -> None:
    here = small_policy()
    there = on_gpu(here)
    if thrifty:
        recompute_layers(there.module)
    torch.testing.assert_close(logps(there).cpu(), logps(here), rtol=1e-3, atol=1e-3)
    engines = [LocalEngine(p.module, ADAMW) for p in (here, there)]
    for _ in range(3):
        norms = []
        for policy, engine in zip((here, there), engines, strict=True):
            engine.backward(-logps(policy).mean())
            norms.append(engine.step(1e-3))
        assert norms[0] == pytest.approx(norms[1], rel=1e-2)
    torch.testing.assert_close(logps(there).cpu(), logps(here), rtol=1e-2, atol=1e-2)


def test_a_snapshot_is_pinned_and_holds_the_state() -> None:
    policy = on_gpu(small_policy())
    engine = LocalEngine(policy.module, ADAMW)
    engine.backward(-logps(policy).mean())
    engine.step(1e-3)
    snapshot = Snapshot()
    data = snapshot.take(engine.state_dict())
    assert snapshot._memory is not None and snapshot._memory.is_pinned()
    kept = load(bytes(data))
    for name, tensor in engine.state_dict().items():
        assert torch.equal(kept[name], tensor.cpu()), name


def test_the_in_process_sampler_draws_on_the_gpu() -> None:
    policy = on_gpu(small_policy())
    asked = [request(policy, "how many?", picture(32, 16)), request(policy, "so?")]
    drawn = InProcessSampler(policy).generate(asked, [1, 2], SamplingParams(3, 1.0, 8))
    for one, group in zip(asked, drawn, strict=True):
        packed = pack_rows([row(one.prompt, *(c.tokens for c in group))])
        with torch.no_grad():
            own = policy.logprobs(packed, policy.see(one.images))[0].cpu()
        sampled = torch.tensor([p for c in group for p in c.logprobs])
        torch.testing.assert_close(own, sampled, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("how", [{}, {"lora": {"rank": 4}, "gradientCheckpointing": True}])
@pytest.mark.parametrize("kind", ["SFTJob", "RLVRJob"])
def test_whole_runs_are_narrow_and_learn(tmp_path: Path, kind: str, how: dict[str, Any]) -> None:
    spec = (sft_spec if kind == "SFTJob" else rlvr_spec)(dataset(tmp_path / "data"), **how)
    spec["resources"]["gpusPerNode"] = 1
    run(kind, tmp_path / "run", spec)
    model = load(result(tmp_path / "run")["model/model.safetensors"])
    assert {t.dtype for t in model.values()} == {torch.bfloat16}
    assert all(step["grad_norm"] > 0 for step in history(tmp_path / "run"))


def test_recomputed_layers_lower_the_peak() -> None:
    peaks = []
    for thrifty in (False, True):
        policy = on_gpu(small_policy())
        if thrifty:
            recompute_layers(policy.module)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        logps(policy).sum().backward()
        peaks.append(torch.cuda.max_memory_allocated() - before)
    assert peaks[1] < peaks[0]


def test_the_benchmark_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--tiny", "--steps", "1"]) == 0
    assert "generation against bare vLLM" in capsys.readouterr().out
