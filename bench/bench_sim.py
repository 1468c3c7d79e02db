"""Scenes a second of the simulator on one core: picture, question, chain and PNG.

    python bench/bench_sim.py [--size 64] [--samples 100] [--repeats 5] [--json FILE]

Repeats are interleaved over the tasks, so that a disturbance of the machine hits all alike. Rates
are by CPU time of this process; min, median and max over the repeats.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

from m2r_train.sim import TASKS, generate


def rate(task: str, size: int, start: int, samples: int) -> float:
    """Samples per CPU second."""
    began = time.process_time()
    for index in range(start, start + samples):
        generate(task, 0, index, image_size=size)
    return samples / (time.process_time() - began)


def main() -> None:
    """Measure and print one line per task, and one for a uniform mix of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64, help="pixels a side")
    parser.add_argument("--samples", type=int, default=100, help="per task and repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    for task in TASKS:
        rate(task, args.size, 0, 1)  # imports and caches
    rates: dict[str, list[float]] = {task: [] for task in TASKS}
    for repeat in range(args.repeats):
        for task in TASKS:
            rates[task].append(rate(task, args.size, repeat * args.samples, args.samples))
    rates["uniform mix"] = [
        len(TASKS) / sum(1 / rates[task][repeat] for task in TASKS)
        for repeat in range(args.repeats)
    ]
    figures = {
        name: {"min": min(found), "median": statistics.median(found), "max": max(found)}
        for name, found in rates.items()
    }
    print(f"{args.size} px, samples/s on one core, {args.repeats} repeats of {args.samples}")
    print(f"{'task':20s} {'min':>8s} {'median':>8s} {'max':>8s}")
    for name, row in figures.items():
        print(f"{name:20s} {row['min']:8.0f} {row['median']:8.0f} {row['max']:8.0f}")
    if args.json:
        args.json.write_text(json.dumps({"size": args.size, "rates": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
