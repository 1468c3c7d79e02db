"""Steps of SFT and RLVR: two processes of one thread against one process of one thread.

Both groups of processes stay up; they are asked for steps in turn, so that other work on the
machine meets both alike. Run it on two free cores: ``make bench-ranks``.

    python bench/bench_ranks.py [--rounds N] [--small] [--out FILE.md]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BOUND = 1.6  # two processes have to be so many times as fast
LESSONS, GROUP, TOKENS = 32, 8, 48
STEPS = ("SFT", "RLVR 8", "RLVR 16")  # a step's prompts, each with GROUP completions


class Worker:
    """One rank: makes a step of a stage when it is asked to."""

    def __init__(self, *, small: bool) -> None:
        import torch

        from m2r_train.api.common import Parallelism
        from m2r_train.api.rlvr import RLVRSpec
        from m2r_train.api.sft import SFTTraining
        from m2r_train.engine.group import Group
        from m2r_train.engine.ranks import ALONE, seat_here
        from m2r_train.model.policy import Policy
        from m2r_train.model.tiny import TinyShape, tiny_model
        from m2r_train.rollout.base import SamplingParams
        from m2r_train.rollout.sampler import InProcessSampler
        from m2r_train.sim import VOCABULARY
        from m2r_train.stages.engines import training_engine
        from m2r_train.stages.feeding import lay_out, lessons
        from m2r_train.stages.models import use_threads
        from m2r_train.stages.objective import Objective

        use_threads(1)
        seat = seat_here()
        self.ranks = ALONE if seat is None else Group(seat, 600.0)
        shape = TinyShape() if small else TinyShape(
            hidden=512, layers=8, heads=8, kv_heads=4, intermediate=1536, mrope_section=(8, 12, 12),
            initializer_range=0.02,
        )  # fmt: skip
        self.policy = Policy(*tiny_model(VOCABULARY, 0, shape))
        self.parameters = sum(p.numel() for p in self.policy.module.parameters())
        words = [w for w in VOCABULARY if w.isalpha()]
        samples = [_sample(i, words) for i in range(LESSONS)]
        self.course = lessons(self.policy, samples)
        self.samples = samples
        self.prompts = lay_out(self.policy, self.samples)
        spec = RLVRSpec.model_validate(
            {
                "model": {"preset": "tiny"},
                "dataset": {"uri": "file:///unused"},
                "rollout": {"groupSize": GROUP, "maxCompletionTokens": TOKENS},
                "optimization": {"advantageWeight": {"kind": "Off"}},
            }
        )
        self.objective = Objective.of(spec)
        self.engine = training_engine(self.policy, SFTTraining(), Parallelism(), self.ranks)
        self.sampler = InProcessSampler(self.policy)
        self.params = SamplingParams(GROUP, 1.0, TOKENS)
        self.done = 0
        torch.manual_seed(0)

    def step(self, kind: str) -> None:
        """One step of ``STEPS``."""
        self.done += 1
        if kind == "SFT":
            from m2r_train.stages import sft

            sft._accumulate(self.policy, self.engine, self.course, lambda: None, self.ranks)
            self.engine.step(1e-6)
        else:
            self._rlvr(int(kind.split()[1]))

    def _rlvr(self, prompts: int) -> None:
        from m2r_train.core.rng import derive_seed
        from m2r_train.stages.feeding import request
        from m2r_train.stages.grpo import score_groups, update
        from m2r_train.stages.rollouts import from_bytes, to_bytes

        own = [i for i in range(prompts) if self.ranks.owns(i)]
        mine = {i: request(self.prompts[i], self.samples[i]) for i in own}
        seeds = [derive_seed(0, "rollout", self.done, i) for i in own]
        drawn = to_bytes(self.sampler.generate(list(mine.values()), seeds, self.params))
        parts = [iter(from_bytes(part, GROUP)) for part in self.ranks.gather_bytes(drawn)]
        groups = [next(parts[i % len(parts)]) for i in range(prompts)]
        samples = self.samples[:prompts]
        scored = score_groups(self.policy, samples, groups, self.objective, self.ranks)
        requests = [mine.get(i) for i in range(prompts)]
        # a coefficient of the KL term keeps groups without an advantage in the pass, as in a run
        update(
            self.policy, None, self.engine, requests, scored, self.objective, 1e-3, 1e-6,
            ranks=self.ranks,
        )  # fmt: skip


def _sample(i: int, words: Sequence[str]) -> Any:
    """A question with a picture of its own and a chain of 40 to 120 words."""
    import io

    import numpy as np
    from PIL import Image

    from m2r_train.core.records import Sample

    rng = np.random.default_rng(i)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(buffer, "PNG")
    chain = " ".join(rng.choice(list(words), 40 + 80 * (i % 5) // 4))
    return Sample(
        id=f"s{i}", domain="spatial", task="ObjectCount", source="bench",
        question="how many red cubes?", answer="3", answer_type="number", reward="exact",
        images=(buffer.getvalue(),),
        chain=f"<think>{chain}</think><answer>\\boxed{{3}}</answer>",
    )  # fmt: skip


def serve(*, small: bool) -> None:
    """A worker's life: a step's name comes in, the seconds of a step go out."""
    worker = Worker(small=small)
    print(json.dumps({"parameters": worker.parameters}), flush=True)
    for line in sys.stdin:
        begun = time.perf_counter()
        worker.step(line.strip())
        print(json.dumps({"seconds": time.perf_counter() - begun}), flush=True)


class Workers:
    """The processes of one group."""

    def __init__(self, size: int, *, small: bool) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        command = [sys.executable, "-W", "ignore", __file__, "--worker", *["--small"] * small]
        self.processes = []
        for rank in range(size):
            told = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size),
                    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
            self.processes.append(
                subprocess.Popen(
                    command, env={**env, **(told if size > 1 else {})}, text=True,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                )
            )  # fmt: skip
        ready = [self._answer(process) for process in self.processes]
        self.parameters = ready[0]["parameters"]

    @staticmethod
    def _answer(process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit("a worker has ended; see its traceback above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def step(self, kind: str) -> float:
        """Seconds until the last of them has made a step."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(kind + "\n")
            process.stdin.flush()
        return max(self._answer(process)["seconds"] for process in self.processes)

    def close(self) -> None:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self.processes:
            process.wait()


def compare(rounds: int, *, small: bool) -> tuple[str, bool]:
    """A table, and whether the bound is kept."""
    groups = {size: Workers(size, small=small) for size in (1, 2)}
    lines = [
        f"{groups[1].parameters / 1e6:.1f} M parameters; {rounds} steps of each, in turn; "
        f"seconds as min / median / max; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
        "",
        f"| step (RLVR: prompts of {GROUP}) | one process | two processes | ratio of medians |",
        "|---|---|---|---|",
    ]
    kept = True
    try:
        for kind in STEPS:
            for workers in groups.values():
                workers.step(kind)  # warm
            seen: dict[int, list[float]] = {1: [], 2: []}
            for _ in range(rounds):
                for size, workers in groups.items():
                    seen[size].append(workers.step(kind))
            ratio = statistics.median(seen[1]) / statistics.median(seen[2])
            kept &= ratio >= BOUND
            shown = [
                f"{min(own):.2f} / {statistics.median(own):.2f} / {max(own):.2f}"
                for own in seen.values()
            ]
            lines.append(f"| {kind} | {shown[0]} | {shown[1]} | {ratio:.2f} |")
    finally:
        for workers in groups.values():
            workers.close()
    return "\n".join(lines) + "\n", kept


def main() -> int:
    """The command line; 1 where the bound is not kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--small", action="store_true", help="the preset's size: no measurement")
    parser.add_argument("--out", type=Path, help="write the table here, too")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        serve(small=given.small)
        return 0
    table, kept = compare(given.rounds, small=given.small)
    print(table)
    print(f"bound: at least {BOUND} times as fast: {'kept' if kept else 'NOT KEPT'}")
    if given.out:
        given.out.write_text(table)
    return 0 if kept or given.small else 1


if __name__ == "__main__":
    sys.exit(main())
