"""Questions and videos a second of the apartments, on one core, and labels that are wrong.

    python bench/bench_spatial.py [--size 448] [--pictures 100] [--videos 12] [--questions 10000]

Rates are by CPU time of this process over whole samples: apartment, rendering, questions, JPEG
files; min, median and max over five repeats. Labels are worked out again by other means
(tests/geometry_check.py) on so many questions of all fourteen tasks.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from geometry_check import wrong

from m2r_train.sim.apartment import image_samples, video_samples
from m2r_train.sim.apartment.making import draw_film, draw_photo
from m2r_train.spatial import IMAGE_TASKS, VIDEO_TASKS, questions

_REPEATS = 5


def rates(make: Callable[[int], int], count: int) -> list[float]:
    """Units a CPU second, as ``make`` counts them, of ``count`` calls a repeat."""
    make(10**6)  # imports and caches
    out = []
    for repeat in range(_REPEATS):
        began = time.process_time()
        units = sum(make(repeat * count + k) for k in range(count))
        out.append(units / (time.process_time() - began))
    return out


def shown(name: str, found: Sequence[float]) -> None:
    """One row of the table."""
    print(f"| {name} | {min(found):.1f} | {statistics.median(found):.1f} | {max(found):.1f} |")


def check(wanted: int, size: int) -> tuple[Counter[str], list[str]]:
    """Questions by task, and what is wrong with the labels."""
    asked: Counter[str] = Counter()
    faults = []
    seed = 0
    while asked.total() < wanted:
        seed += 1
        if seed % 8:
            photo, tasks = draw_photo(Random(seed), size), list(IMAGE_TASKS)
            scene = None if photo is None else photo.scene
        else:
            film, tasks = draw_film(Random(seed), size, 32), list(VIDEO_TASKS)
            scene = None if film is None else film.scene
        if scene is None:
            continue
        for question in questions(scene, tasks, seed, 40 if seed % 8 == 0 else 8):
            asked[question.task] += 1
            if (fault := wrong(scene, question)) is not None:
                faults.append(f"{question.task} of seed {seed}: {question.text} {fault}")
    return asked, faults


def main() -> None:
    """Measure, check, print markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=448)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument("--questions", type=int, default=10_000)
    args = parser.parse_args()
    pictures, films = list(IMAGE_TASKS), list(VIDEO_TASKS)

    def images(wanted: int) -> Callable[[int], int]:
        return lambda k: len(image_samples(pictures, 0, k, wanted, image_size=args.size))

    def video(k: int) -> int:
        return len(video_samples(films, 0, k, 1, image_size=args.size, frames=32))

    print(f"| {args.size} px, a CPU second | min | median | max |\n|---|---|---|---|")
    shown("image questions, 8 a picture", rates(images(8), args.pictures // 4))
    shown("image questions, 4 a picture", rates(images(4), args.pictures // 4))
    shown("image questions, 1 a picture", rates(images(1), args.pictures // 4))
    shown("videos of 32 frames", rates(video, args.videos))
    asked, faults = check(args.questions, args.size // 4)
    print(f"\n{asked.total()} labels worked out again, {len(faults)} wrong\n\n| task | questions |")
    print("|---|---|\n" + "\n".join(f"| {task} | {n} |" for task, n in sorted(asked.items())))
    for fault in faults[:20]:
        print(fault)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
