"""Peak memory and time of token log-probabilities and entropies, against the plain way.

    python bench/bench_logprobs.py [--tokens 8192] [--vocabulary 152064] [--hidden 896]
                                   [--types bfloat16 float32] [--repeats 3] [--threads 2]

Forward and backward through the head of a model with Qwen2.5's vocabulary, gradients to the hidden
states and to the head's weight. Ways: ``plain`` is what one writes (head, float32, ``log_softmax``,
``gather``; the entropy from the same array, without gradient), ``held`` our function that takes
logits, ``tiled`` our function that takes hidden states (``core.linear``).

Each run is a process of its own, the ways in turns. Memory is the peak of resident memory above
what stood before the call (states, weight, targets), from ``/proc/self/status`` after the counter
was set back, so gradients count and interpreter and inputs do not. Seconds are of the same call,
the second of two. Where the machine has not the memory for the plain way, both are measured with
half of the tokens, and the table says so. Prints Markdown; fails when the peak is above the goal.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

GOAL = 1 / 8  # of the plain way's peak
WAYS = ("plain", "held", "tiled")
PLAIN_ARRAYS = 3.5  # float32 arrays of tokens x vocabulary that the plain way may hold at a time
SPARE_BYTES = 2 << 30


def main() -> int:
    args = arguments()
    if args.way:
        print(json.dumps(measure(args)))
        return 0
    print(settings(args))
    print("| type | tokens | way | peak MiB | of plain's | seconds | of plain's |")
    print("|---|---|---|---|---|---|---|")
    missed = False
    for kind in args.types:
        tokens = affordable(args)
        runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(args.repeats):
            for way in WAYS:
                runs[way].append(apart(args, way, kind, tokens))
        agree(runs)
        for way in WAYS:
            peak = f"{spread(runs[way], 'peak', 2**20, 0)} | {ratio(runs, way, 'peak'):.3f}"
            took = f"{spread(runs[way], 'seconds', 1, 2)} | {ratio(runs, way, 'seconds'):.2f}"
            print(f"| {kind} | {tokens} | {way} | {peak} | {took} |", flush=True)
        missed |= ratio(runs, "tiled", "peak") > GOAL
    print(f"\ngoal: peak of tiled at most {GOAL:.3f} of plain's: {'MISSED' if missed else 'met'}")
    return int(missed)


def measure(args: argparse.Namespace) -> dict[str, float]:
    """One way in this process: peak bytes above the inputs, seconds, and what came out."""
    import torch

    from m2r_train.core.linear import linear_logprobs
    from m2r_train.core.losses import entropy, token_logprobs

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    kind = getattr(torch, args.types[0])
    states = torch.randn(args.tokens, args.hidden, dtype=kind).requires_grad_()
    weight = (torch.randn(args.vocabulary, args.hidden, dtype=kind) / args.hidden**0.5).detach()
    weight.requires_grad_()
    targets = torch.randint(args.vocabulary, (args.tokens,))

    def plain() -> tuple[Any, Any]:
        logp_NV = torch.log_softmax(torch.nn.functional.linear(states, weight).float(), -1)
        with torch.no_grad():
            spread_N = torch.stack([-(row.exp() * row).sum() for row in logp_NV])
        return logp_NV.gather(1, targets[:, None])[:, 0], spread_N

    def held() -> tuple[Any, Any]:
        logits = torch.nn.functional.linear(states, weight)[None]
        return token_logprobs(logits, targets[None])[0], entropy(logits.detach())[0]

    def tiled() -> tuple[Any, Any]:
        return linear_logprobs(states, weight, targets)

    way = {"plain": plain, "held": held, "tiled": tiled}[args.way]
    peak, seconds = 0, 0.0
    figures: dict[str, float] = {}
    for _ in range(2):
        states.grad = weight.grad = None
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        began = time.perf_counter()
        logp, entropies = way()
        logp.mean().backward()
        seconds = time.perf_counter() - began
        assert states.grad is not None and weight.grad is not None
        peak = max(peak, resident("VmHWM") - before)
        figures = {
            "logp": logp.mean().item(),
            "entropy": entropies.mean().item(),
            "states": states.grad.float().norm().item(),
            "weight": weight.grad.float().norm().item(),
        }
        del logp, entropies
    return {"peak": peak, "seconds": seconds, **figures}


def apart(args: argparse.Namespace, way: str, kind: str, tokens: int) -> dict[str, float]:
    """``measure`` in a process of its own, the first to go should the machine's memory end."""
    command = [sys.executable, __file__, "--way", way, "--types", kind, "--tokens", str(tokens)]
    for name in ("vocabulary", "hidden", "threads"):
        command += [f"--{name}", str(getattr(args, name))]
    done = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": str(args.threads)},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: Path("/proc/self/oom_score_adj").write_text("1000"),
    )
    if done.returncode:
        sys.exit(f"{way}, {kind}, {tokens} tokens: exit code {done.returncode}\n{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout)
    return result


def affordable(args: argparse.Namespace) -> int:
    """The tokens asked for, or as many halvings less as the plain way needs to fit."""
    tokens: int = args.tokens
    free = {k: int(v.split()[0]) * 1024 for k, v in fields("/proc/meminfo").items()}["MemAvailable"]
    while PLAIN_ARRAYS * tokens * args.vocabulary * 4 + SPARE_BYTES > free:
        tokens //= 2
    return tokens


def agree(runs: dict[str, list[dict[str, float]]]) -> None:
    """All ways computed the same."""
    for way in WAYS:
        for key in ("logp", "entropy", "states", "weight"):
            one, other = runs[way][0][key], runs["plain"][0][key]
            if not math.isclose(one, other, rel_tol=1e-2):
                sys.exit(f"{way} and plain differ in {key}: {one} and {other}")


def ratio(runs: dict[str, list[dict[str, float]]], way: str, key: str) -> float:
    """Of the medians."""
    one, other = (statistics.median(r[key] for r in runs[w]) for w in (way, "plain"))
    return one / other


def spread(runs: Sequence[dict[str, float]], key: str, unit: float, digits: int) -> str:
    """Minimum / median / maximum."""
    values = [r[key] / unit for r in runs]
    parts = (min(values), statistics.median(values), max(values))
    return " / ".join(f"{value:.{digits}f}" for value in parts)


def resident(key: str) -> int:
    """Bytes, now (VmRSS) or at most (VmHWM)."""
    return int(fields("/proc/self/status")[key].split()[0]) * 1024


def fields(path: str) -> dict[str, str]:
    """Lines ``name: value`` of a file in /proc."""
    pairs = (line.partition(":") for line in Path(path).read_text().splitlines())
    return {name: value.strip() for name, _, value in pairs}


def settings(args: argparse.Namespace) -> str:
    return (
        f"vocabulary {args.vocabulary}, hidden size {args.hidden}, threads {args.threads}, "
        f"repeats {args.repeats}, load {os.getloadavg()[0]:.1f}\n"
        f"torch {version('torch')}, Python {platform.python_version()}, {platform.machine()}\n"
        "forward and backward; minimum / median / maximum, ratios of medians\n"
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--vocabulary", type=int, default=152064)
    parser.add_argument("--hidden", type=int, default=896, help="896 is Qwen2.5-0.5B's")
    parser.add_argument("--types", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
