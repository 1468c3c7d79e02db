"""How long the report of a run of 1,000 steps takes, and how large it is.

    python bench/bench_report.py [--steps 1000] [--rounds 3] [--tasks 12]

A store with an SFT run and an RLVR run of ``--steps``, with histories, timings and traces as long
as real ones (groups of 16 completions of 1,000 tokens, a picture each), made by the stages' own
writers from seeded numbers. Timed is the command ``m2r report`` as a process, its imports
included; then the same with ten steps in full (``--step``). Bounds: 10 s and 15 MB.
Prints Markdown; exits with 1 when the median misses a bound.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from math import isnan, nan
from pathlib import Path
from statistics import median
from typing import Any, Literal

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from m2r_train.api.common import JobSpec  # noqa: E402
from m2r_train.api.rlvr import RLVRSpec  # noqa: E402
from m2r_train.api.runspec import RunMetadata, RunSpec, RunStorage, resolved  # noqa: E402
from m2r_train.api.sft import SFTSpec  # noqa: E402
from m2r_train.core.rng import derive_seed  # noqa: E402
from m2r_train.store import LocalStore, Run, publish_folder  # noqa: E402
from m2r_train.telemetry.history import History, to_lines  # noqa: E402
from m2r_train.telemetry.tracefiles import trace_key  # noqa: E402

MOST_SECONDS, MOST_BYTES = 10.0, 15e6
GROUP, WORDS, TRACED = 16, 750, 40
FIGURES = (
    "reward", "reward_std", "accuracy", "format_valid", "ednm", "exact", "kl", "kl_coefficient",
    "entropy", "clip_ratio", "loss", "grad_norm", "lr", "completion_tokens", "truncated",
    "repetition", "zero_signal", "advantage_weight", "difficulty", "sampler_logp_diff", "padding",
)  # fmt: skip
PHASES = ("generate", "reward", "train", "sync", "checkpoint", "data")


def picture(seed: int) -> str:
    """A data URI of a small photograph-like picture."""
    rng = np.random.default_rng(seed)
    rough = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(rough).resize((256, 192)).save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def trace(step: int, number: int, task: str) -> dict[str, Any]:
    """A prompt's group, with the fields of ``stages.traces.trace_of``."""
    seed = derive_seed(1, "trace", step, number)
    rng = np.random.default_rng(seed)

    def completion() -> dict[str, Any]:
        text = " ".join(f"word{n}" for n in rng.integers(0, 5000, WORDS))
        reward, advantage = (float(x) for x in rng.random(2))
        return {
            "text": f"<think>{text}</think><answer>\\boxed{{4}}</answer>", "extracted": "4",
            "reward_task": reward, "reward_format": 1.0, "reward": reward + 0.1,
            "accuracy": reward, "advantage": advantage, "tokens": WORDS, "truncated": False,
        }  # fmt: skip

    return {
        "step": step, "id": f"q{step}-{number}", "task": task, "question": "How many chairs?",
        "answer": "4", "image": picture(seed), "pictures": 1, "weight": 1.0,
        "prompt": "How many chairs?", "prompt_tokens": 400,
        "completions": [completion() for _ in range(GROUP)],
    }  # fmt: skip


def records(steps: int, tasks: int, names: Sequence[str], *, rlvr: bool) -> dict[str, bytes]:
    """History, timings and the records' own traces of a run."""
    rng = np.random.default_rng(derive_seed(1, "history", len(names)))
    history, timings = History(), History()
    for step in range(steps):
        figures: dict[str, Any] = dict(zip(names, map(float, rng.random(len(names))), strict=True))
        task: dict[str, Any] = {"task": f"Task{step % tasks}", "prompts": 256} if rlvr else {}
        history.append({"step": step, **figures, **task})
        timings.append({"step": step, **dict(zip(PHASES, map(float, rng.random(6)), strict=True))})
    every = max(1, steps // TRACED)
    traces = [
        trace(step, n, f"Task{step % tasks}")
        for step in range(0, steps if rlvr else 0, every)
        for n in range(2)
    ]
    return {
        "history.jsonl": history.to_bytes(),
        "timings.jsonl": timings.to_bytes(),
        "traces.jsonl": to_lines(traces),
    }


def make_store(home: Path, steps: int, tasks: int) -> Iterator[Path]:
    """Folders of an SFT run and of an RLVR run."""
    given = {"model": {"preset": "tiny"}, "dataset": {"uri": "file:///data"}}
    specs: dict[Literal["SFTJob", "RLVRJob"], JobSpec] = {
        "SFTJob": SFTSpec.model_validate(given),
        "RLVRJob": RLVRSpec.model_validate({**given, "steps": steps}),
    }
    for kind, spec in specs.items():
        rlvr = kind == "RLVRJob"
        folder = home / kind.lower()
        run = Run.claim(LocalStore(folder), 1)
        told = RunSpec(
            kind=kind, metadata=RunMetadata(name="run", uid="0123456789abcdef"), attempt=1,
            storage=RunStorage(uri=home.as_uri()), seed=0, spec=resolved(spec),
        )  # fmt: skip
        run.store.put("spec.json", told.to_json().encode())
        names = FIGURES if rlvr else ("loss", "lr", "grad_norm", "tokens", "padding")
        publish_folder(run.store, "records", records(steps, tasks, names, rlvr=rlvr))
        for step in range(0, steps if rlvr else 0, max(1, steps // 500)):
            rows = [trace(step, n, f"Task{step % tasks}") for n in range(2)]
            run.store.put(trace_key(step), to_lines(rows))
        run.finish({"step": steps, "steps": steps})
        yield folder


def report(
    folders: Sequence[Path], out: Path, steps: Sequence[int] = ()
) -> tuple[float, float, int]:
    """Seconds of the command and of processors in it, bytes of the page."""
    chosen = [part for step in steps for part in ("--step", str(step))]
    begun, before = time.perf_counter(), os.times()
    subprocess.run(
        [sys.executable, "-m", "m2r_train", "report", *map(str, folders), "-o", str(out), *chosen],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    seconds, after = time.perf_counter() - begun, os.times()
    own = after.children_user + after.children_system
    return seconds, own - before.children_user - before.children_system, out.stat().st_size


def row(name: str, values: Sequence[float], bound: float, unit: str, scale: float = 1.0) -> str:
    low, middle, high = (scale * f(values) for f in (min, median, max))
    limit = "" if isnan(bound) else f"{scale * bound:g} {unit}"
    return f"| {name} | {low:.2f} | {middle:.2f} | {high:.2f} | {limit} |"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=12)
    args = parser.parse_args()
    missed = False
    with tempfile.TemporaryDirectory() as home:
        folders = list(make_store(Path(home), args.steps, args.tasks))
        print(f"SFT and RLVR of {args.steps} steps, {args.tasks} tasks, {args.rounds} rounds\n")
        print("| what | minimum | median | maximum | bound |\n|---|---|---|---|---|")
        some = range(0, args.steps, max(2, args.steps // 20 * 2))
        for name, steps in (("page", ()), (f"with {len(some)} steps in full", tuple(some))):
            rounds = [report(folders, Path(home) / "r.html", steps) for _ in range(args.rounds)]
            seconds, sizes = [s for s, _, _ in rounds], [float(n) for _, _, n in rounds]
            print(row(f"{name}, seconds", seconds, MOST_SECONDS, "s"))
            print(row(f"{name}, CPU seconds", [c for _, c, _ in rounds], nan, "s"))
            print(row(f"{name}, size", sizes, MOST_BYTES, "MB", 1e-6))
            missed |= median(seconds) > MOST_SECONDS or max(sizes) > MOST_BYTES
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
