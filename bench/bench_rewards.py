"""Scored answers per second on one core, extraction and format check included.

    python bench/bench_rewards.py [--completions 20000] [--rounds 7] [--out FILE.json]

The mix is that of an RLVR step: numeric spatial answers (EDNM), choices with option text, exact
numbers and LaTeX expressions behind chains of 200 to 4,000 characters, some of them truncated,
unformatted, wrong, or hostile. Prints the lowest, the median and the highest rate of the rounds.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from m2r_train.core.records import AnswerType, RewardKind
from m2r_train.core.rewards import RewardConfig, score

GOAL_PER_SECOND = 20_000
GROUP_SIZE = 8

_SENTENCE = (
    "the sofa stands about two metres from the window so the distance along x is 1.35 and along "
    "y it is 2.1 ; check : \\sqrt{1.35^2 + 2.1^2} \\approx 2.5 which agrees with the picture ,"
)


class Prompt(NamedTuple):
    """A question's truth, and what a policy may answer to it."""

    task: str
    reward: RewardKind
    answer: str
    answer_type: AnswerType
    guess: Callable[[], str]


class Case(NamedTuple):
    """The arguments of `score` but for the configuration."""

    task: str
    reward: RewardKind
    answer: str
    answer_type: AnswerType
    completion: str


def _distance(rng: random.Random) -> Prompt:
    truth = round(rng.uniform(0.3, 9.0), 2)
    units = ["", " m", " meters", "\\text{ m}"]
    return Prompt(
        "AbsoluteDistance",
        "ednm",
        str(truth),
        "number",
        lambda: f"{truth * rng.uniform(0.5, 1.6):.2f}{rng.choice(units)}",
    )


def _choice(rng: random.Random) -> Prompt:
    return Prompt(
        "RelativeDistance",
        "exact",
        rng.choice("ABCD"),
        "choice",
        lambda: rng.choice("ABCD") + rng.choice(["", ". 22.6", ". chair", ") left"]),
    )


def _number(rng: random.Random) -> Prompt:
    truth = rng.randrange(100_000)
    shapes = ["{}", "{}.0", "${}$", "{:,}"]
    return Prompt(
        "maths",
        "exact",
        str(truth),
        "number",
        lambda: rng.choice(shapes).format(truth + rng.choice([0, rng.randrange(1000)])),
    )


def _expression(rng: random.Random) -> Prompt:
    a, b = rng.randrange(2, 999), rng.randrange(2, 999)
    shapes = ["\\dfrac{{{}\\sqrt{{3}}}}{{{}}}", "{}√3/{}", "{}\\pi - {}", "\\frac{{{}}}{{{}}}"]
    return Prompt(
        "maths",
        "exact",
        f"\\frac{{{a}\\sqrt{{3}}}}{{{b}}}",
        "expression",
        lambda: rng.choice(shapes).format(a + rng.randrange(3), b),
    )


def _hostile(rng: random.Random) -> Prompt:
    texts = ["9^{9^{9}}", "1e999999999", "{" * 500 + "}" * 500, "(10^9)!", "9" * 3000]
    return Prompt("maths", "exact", "7", "number", lambda: rng.choice(texts))


_KINDS = {_distance: 35, _choice: 35, _number: 18, _expression: 10, _hostile: 2}


def cases(count: int, seed: int = 0) -> list[Case]:
    """``count`` completions in groups of `GROUP_SIZE` per prompt, the same for the same seed."""
    rng = random.Random(seed)
    makers = rng.choices(list(_KINDS), weights=list(_KINDS.values()), k=-(-count // GROUP_SIZE))
    prompts = [make(rng) for make in makers]
    return [_case(rng, prompt) for prompt in prompts for _ in range(GROUP_SIZE)][:count]


def _case(rng: random.Random, prompt: Prompt) -> Case:
    thought = " ".join(rng.choices(_SENTENCE.split(), k=rng.randrange(40, 800)))
    guess = prompt.guess()
    completion = f"<think>\n{thought}\n</think>\n<answer>\n\\boxed{{{guess}}}\n</answer>"
    fate = rng.random()
    if fate < 0.05:  # cut at the length limit
        completion = completion[: len(completion) // 2]
    elif fate < 0.10:  # no box
        completion = f"<think>\n{thought}\n</think>\n<answer>{guess}</answer>"
    return Case(prompt.task, prompt.reward, prompt.answer, prompt.answer_type, completion)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--completions", type=int, default=20_000, help="completions a round")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds, after one untimed")
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    args = parser.parse_args()
    config = RewardConfig()
    batch = cases(args.completions)
    rates = []
    for round_ in range(args.rounds + 1):
        started = time.perf_counter()
        for case in batch:
            score(*case, config)
        elapsed = time.perf_counter() - started
        if round_:
            rates.append(len(batch) / elapsed)
    figures = {
        "scored_per_second": {
            "min": round(min(rates)),
            "median": round(statistics.median(rates)),
            "max": round(max(rates)),
        },
        "goal_per_second": GOAL_PER_SECOND,
        "completions": len(batch),
        "mean_characters": round(statistics.fmean(len(case.completion) for case in batch)),
        "rounds": args.rounds,
        "python": platform.python_version(),
    }
    print(json.dumps(figures, indent=2))
    if args.out:
        args.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
