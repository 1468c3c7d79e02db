"""A synthetic project, as realistic as a report needs: data, SFT, RLVR and three evaluations."""

import base64
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from m2r_train.core.rng import derive_seed
from m2r_train.report import Comparison, RunView

TASKS = ("AbsoluteDistance", "ObjectCount", "ObjectSize", "RelativeDepth", "RelativeDirection",
         "RoomSize")  # fmt: skip
EDNM = {"AbsoluteDistance", "ObjectSize", "RoomSize"}
DIGESTS = {name: derive_seed(0, name).to_bytes(8, "big").hex() * 4 for name in "abcdef"}


def draw(seed: int) -> str:
    """A small room as a PNG data URI."""
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", (192, 192), (203, 212, 222))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 92, 192, 192), fill=(168, 150, 128))
    for _ in range(4):
        x, y, size = (
            int(rng.integers(8, 150)),
            int(rng.integers(70, 150)),
            int(rng.integers(18, 44)),
        )
        colour = [(196, 58, 49), (52, 120, 190), (70, 150, 84), (221, 178, 60)][rng.integers(4)]
        shape = pen.rectangle if rng.integers(2) else pen.ellipse
        shape((x, y - size // 2, x + size, y + size // 2), fill=colour, outline=(40, 40, 40))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def rlvr_history(steps: int) -> list[dict[str, Any]]:
    """One task a step, rewards that rise and level off, KL that grows as its coefficient falls."""
    rng = np.random.default_rng(derive_seed(7, "rlvr"))
    records = []
    for step in range(1, steps + 1):
        place = int(rng.integers(len(TASKS)))
        task, way = TASKS[place], step / steps
        level = 0.28 + 0.05 * place + 0.34 * (1 - math.exp(-3 * way))
        accuracy = float(np.clip(level + 0.06 * rng.standard_normal(), 0, 1))
        valid = float(
            np.clip(1 - 0.1 * math.exp(-12 * way) - 0.01 * abs(rng.standard_normal()), 0, 1)
        )
        noise = lambda scale: float(scale * rng.standard_normal())  # noqa: E731
        records.append({
            "step": step, "task": task, "reward": 0.9 * accuracy + 0.1 * valid,
            "accuracy": accuracy,
            "format_valid": valid, "reward_std": 0.32 - 0.1 * way + noise(0.02),
            ("ednm" if task in EDNM else "exact"): accuracy,
            "kl": max(0.0, 0.09 * way**1.3 + noise(0.004)),
            "kl_coefficient": 0.02 * (1 + math.cos(math.pi * way)),
            "entropy": 0.42 * math.exp(-1.5 * way) + 0.11 + noise(0.012),
            "clip_ratio": max(0.0, 0.012 + noise(0.004)), "loss": noise(0.01) - 0.02 * way,
            "grad_norm": 0.7 + abs(noise(0.2)) + (6.0 if step % 211 == 0 else 0.0),
            "lr": 1e-6 * min(1.0, step / 20), "completion_tokens": 96 + 60 * way + noise(5),
            "truncated": max(0.0, 0.05 * math.exp(-9 * way) + noise(0.004)),
            "repetition": max(0.0, 0.01 + noise(0.004)),
            "zero_signal": float(np.clip(0.16 + 0.22 * way + noise(0.03), 0, 1)),
            "advantage_weight": 0.9 - 0.12 * way + noise(0.02),
            "difficulty": min(1.0, 0.18 + 0.6 * way + 0.01 * place), "prompts": 32,
            "sampler_logp_diff": 0.004 + abs(noise(0.001)),
        })  # fmt: skip
    return records


def traces(step: int, skill: float, with_images: bool = True) -> list[dict[str, Any]]:
    """Two questions with a group of six completions each, right more often with ``skill``."""
    rng = np.random.default_rng(derive_seed(3, "traces", step))
    made = []
    for number, (task, question, truth) in enumerate((
        ("RelativeDepth", "Which is closer to the camera, the red box or the blue ball?\n"
         "A. red box\nB. blue ball", "B"),
        ("AbsoluteDistance", "Measuring from the closest point of each object, what is the direct "
         "distance between the green box and the yellow ball (in meters)?", "2.4"),
    )):  # fmt: skip
        completions = []
        for _ in range(6):
            right = float(rng.random()) < skill
            if task == "RelativeDepth":
                answer, reward = (truth, 1.0) if right else ("A", 0.0)
            else:
                answer = truth if right else f"{2.4 * (1 + rng.random()):.1f}"
                reward = math.exp(-2 * abs(float(answer) - 2.4) / 2.4)
            completions.append({
                "text": "<think>The blue ball stands lower in the picture, so it is nearer. Its "
                        "base is at row 151, the red box ends at row 120. Check: the ball also "
                        f"covers part of the box.</think>\n"
                        f"<answer>\n\\boxed{{{answer}}}\n</answer>",
                "extracted": answer, "reward_task": reward, "reward_format": 1.0,
                "reward": 0.9 * reward + 0.1, "advantage": float(rng.standard_normal()),
                "tokens": int(rng.integers(60, 140)),
            })  # fmt: skip
        made.append({
            "step": step, "id": f"s{step}-{number}", "task": task, "question": question,
            "answer": truth, "completions": completions,
            "image": draw(derive_seed(5, step, number)) if with_images else None,
        })  # fmt: skip
    return made


def results(model_uri: str, level: float) -> dict[str, Any]:
    """Scores of one model: overall, six tasks, and the greedy view."""

    def score(place: int, n: int) -> dict[str, float]:
        value = max(0.4, level + 4.5 * (place - 3))
        return {
            "value": value,
            "n": n,
            "stderr": 100 * math.sqrt(value * (100 - value)) / 100 / n**0.5,
        }

    tasks = {task: score(place, 334) for place, task in enumerate(TASKS)}
    greedy = {f"greedy/{task}": score(place + 1, 334) for place, task in enumerate(TASKS)}
    benchmark = {"overall": score(3, 2000), **tasks, "greedy/overall": score(4, 2000), **greedy}
    return {"benchmarks": {"synthetic": benchmark}, "model_uri": model_uri, "questions": 2000}


def make_project(steps: int = 400) -> list[RunView]:
    """Six runs with everything that a report can show."""
    rng = np.random.default_rng(derive_seed(9, "sft"))
    sft = [
        {"step": s, "loss": 5.6 * math.exp(-s / 40) + 0.42 + float(0.03 * rng.standard_normal()),
         "lr": 1.5e-3 * min(1.0, s / 50) * (0.55 + 0.45 * math.cos(math.pi * s / steps)),
         "grad_norm": 1.0 + float(abs(rng.standard_normal())), "tokens": 2048}
        for s in range(1, steps + 1)
    ]  # fmt: skip
    timings = [
        {"step": s, "generate": 0.34 + 0.1 * s / steps, "reward": 0.01, "train": 0.31,
         "sync": 0.02, "data": 0.015, "checkpoint": 0.4 if s % 40 == 0 else 0.0}
        for s in range(1, steps + 1)
    ]  # fmt: skip
    data, cold, tuned = (
        ("DataSynthesisJob", "data", DIGESTS["a"]),
        ("SFTJob", "sft", DIGESTS["b"]),
        ("RLVRJob", "rlvr", DIGESTS["c"]),
    )
    stats = {
        "stages": [
            {"stage": "collect", "in": 12000, "out": 11612, "dropped": {"duplicate": 388}},
            {"stage": "verify", "in": 11612, "out": 9410,
             "dropped": {"wrong answer": 1870, "bad format": 332}},
            {"stage": "quality", "in": 9410, "out": 8204, "dropped": {"below the bar": 1206}},
            {"stage": "difficulty", "in": 8204, "out": 7020,
             "dropped": {"always right": 801, "never right": 383}},
        ],
        "splits": {"sft": 4000, "rlvr": 2500, "eval": 520},
        "tasks": {task: 1100 + 37 * place for place, task in enumerate(TASKS)},
        "difficulty": [310, 640, 905, 1130, 1210, 1044, 820, 540, 301, 120],
    }  # fmt: skip
    spec = {"steps": steps, "model": {"from": {"kind": "SFTJob", "name": "sft"}},
            "rollout": {"groupSize": 8, "promptsPerStep": 32, "temperature": 1.0},
            "rewards": {"ednm": {"gamma": 1.0, "lambda": 2.0}, "formatWeight": 0.1}}  # fmt: skip
    return [
        RunView(kind="DataSynthesisJob", name="data", status="Succeeded", dataset_stats=stats,
                spec={"shards": 4, "seed": 7}, lineage=[data]),
        RunView(kind="SFTJob", name="sft", status="Succeeded", history=sft, lineage=[data, cold],
                spec={"training": {"epochs": 1, "learningRate": 1.5e-3}}),
        RunView(kind="RLVRJob", name="rlvr", status={"phase": "Succeeded"}, spec=spec,
                history=rlvr_history(steps), timings=timings, lineage=[data, cold, tuned],
                traces=[*traces(1, 0.3), *traces(steps // 2, 0.5), *traces(steps, 0.85)]),
        RunView(kind="EvalJob", name="eval-base", title="Base", status="Succeeded",
                results=results("preset:tiny", 2.0)),
        RunView(kind="EvalJob", name="eval-sft", title="SFT", status="Succeeded",
                results=results("model/sft", 50.0), lineage=[data, cold]),
        RunView(kind="EvalJob", name="eval-rlvr", title="RLVR", status="Succeeded",
                results=results("model/rlvr", 61.0), lineage=[data, cold, tuned]),
    ]  # fmt: skip


def make_comparisons() -> list[Comparison]:
    """RLVR less SFT: sure overall, unsure for one task."""
    return [
        Comparison(benchmark="synthetic", task=task, baseline="SFT", model="RLVR",
                   difference=diff, low=diff - 3.1, high=diff + 3.1, n=334)
        for task, diff in (("overall", 11.0), *((t, 1.5 + 4 * i) for i, t in enumerate(TASKS)))
    ]  # fmt: skip


@pytest.fixture
def project() -> Callable[..., list[RunView]]:
    return make_project


@pytest.fixture
def comparisons() -> list[Comparison]:
    return make_comparisons()
