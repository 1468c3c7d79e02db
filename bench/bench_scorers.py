"""Texts written to stall a scorer, timed on every rule of the eight benchmarks.

    python bench/bench_scorers.py [--texts 1000] [--repeats 3] [--json FILE]

A text is a family (a tower of powers, nested braces, a phrase without an end, ..) at one of many
sizes up to a quarter of a megabyte. Its time is the slowest of all rules, CPU time of this process;
per text the fastest of the repeats counts. Exit 1 when a bound is missed: p99 250 ms, maximum 2 s,
peak memory 512 MiB.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from m2r_train.benchmarks.base import Scorer
from m2r_train.benchmarks.registry import BENCHMARKS

P99_SECONDS, MAX_SECONDS, PEAK_MIB = 0.25, 2.0, 512
LONGEST = 250_000

FAMILIES = (
    *("9^{", "9**", "(10^9)!", "1e9", "9", "{", "}", "(1", "[", "-", "1/", "1,", "123,", " ", "\n"),
    *("\\frac{", "\\sqrt", "\\sqrt\\frac", "\\boxed{", "oxed{}", "\\text{ ", "=", "\\approx", "."),
    *('The answer is "', '".', "the answer is ", "The answer is\n", "answer is ", "answer: "),
    *("Answer", "A ", "A and ", "(A)", "A, ", "one ", "one-and ", "x", "π", "²", "<answer>"),
    *("</answer>", "</think>", '{"short answer": ', '{"short answer": [', "ab" * 50, "\ud800"),
)

_FREE = {"question_type": "free_form"}
RECORDS: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "mathvista",
        {
            **{"question_type": "multi_choice", "answer_type": "text", "answer": "ab" * 60},
            "choices": ["ab" * 60, "ba" * 60, "a chair", "4"],
        },
    ),
    ("mathvista", {**_FREE, "answer_type": "float", "precision": 1, "answer": "7.7"}),
    ("mathvista", {**_FREE, "answer_type": "integer", "answer": "77"}),
    ("mathvision", {"answer": "77", "options": []}),
    ("mathvision", {"answer": "B", "options": ["(1,2)", "[3,4]"]}),
    ("mathverse", {"answer": "B", "problem_version": "Vision Only"}),
    ("dynamath", {"id": "a", "answer_type": "float", "answer": "77"}),
    ("dynamath", {"id": "a", "answer_type": "multiple choice", "answer": "B"}),
    ("we-math", {"ID": "1", "key": "2steps_1", "answer": "B", "option": "A. 3;B. 14"}),
    ("logicvista", {"answer": "A, C"}),
    (
        "cv-bench",
        {
            **{"type": "3D", "source": "Omni3D", "task": "Depth"},
            **{"choices": ["a", "b"], "answer": "(B)"},
        },
    ),
    ("vsi-bench", {"question_type": "room_size_estimation", "ground_truth": "25"}),
    ("vsi-bench", {"question_type": "route_planning", "ground_truth": "A", "options": ["A. x"]}),
)


def hostile_texts(count: int) -> list[str]:
    """Each family at sizes that grow geometrically from 16 to `LONGEST` characters."""
    sizes = -(-count // len(FAMILIES))
    ratio = (LONGEST / 16) ** (1 / max(sizes - 1, 1))
    texts = []
    for i in range(count):
        family, step = FAMILIES[i % len(FAMILIES)], i // len(FAMILIES)
        length = int(16 * ratio**step)
        texts.append((family * (length // len(family) + 1))[:length])
    return texts


def slowest_rule(
    rules: Sequence[tuple[str, Scorer, dict[str, Any]]], text: str
) -> tuple[float, str]:
    """The longest time of a rule on a text, and which rule it was."""
    worst = (0.0, "")
    for name, scorer, record in rules:
        began = time.process_time()
        scorer(record, text)
        worst = max(worst, (time.process_time() - began, name))
    return worst


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    rules = [
        (f"{name} {rule}", scorer, record)
        for name, record in RECORDS
        for rule, scorer in BENCHMARKS[name].rules.items()
    ]
    texts = hostile_texts(args.texts)
    best = [(float("inf"), "")] * len(texts)
    for _ in range(args.repeats):
        best = [min(b, slowest_rule(rules, t)) for b, t in zip(best, texts, strict=True)]
    seconds = sorted(second for second, _ in best)
    figures = {
        "min": seconds[0],
        "median": statistics.median(seconds),
        "p99": seconds[int(0.99 * (len(seconds) - 1))],
        "max": seconds[-1],
    }
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(texts)} hostile texts, {len(rules)} rules, fastest of {args.repeats}, ms a text")
    print(" ".join(f"{name} {1000 * value:.2f}" for name, value in figures.items()))
    slowest, rule = max(best)
    text = texts[best.index((slowest, rule))]
    print(f"slowest: {rule}, {len(text)} characters of {text[:20]!r}")
    print(f"peak memory {peak:.0f} MiB")
    if args.json:
        args.json.write_text(json.dumps({"seconds": figures, "peak_mib": peak}, indent=1) + "\n")
    kept = figures["p99"] <= P99_SECONDS and figures["max"] <= MAX_SECONDS and peak <= PEAK_MIB
    print("bounds: p99 250 ms, maximum 2 s, 512 MiB:", "kept" if kept else "MISSED")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
