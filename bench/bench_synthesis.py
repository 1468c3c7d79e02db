"""A synthesis job: time through all its stages, memory, and what is lost when everything fails.

    python bench/bench_synthesis.py [--parts time memory faults] [--samples 2000] [--whole]

Time: so many questions are simulated, drawn or read from a dataset with LaTeX answers, compared
with a benchmark and with each other, answered by a tiny teacher (four chains each; the quickstart's
model after a short cold start), judged by the rules and routed, and half of them are measured by
eight rollouts; on two cores. Seconds of each stage, and what 10,000 would take: fixed costs
(workers, loading of models) are multiplied too, so that the figure is rather too high than too low.
Fails beyond 20 minutes.

Memory: peak of the job's process and of its largest worker at N and 10 N samples. Of simulated
samples with pictures, which need no more memory when there are more: fails where the ratio is
beyond 1.1. The same with near-duplicates and decontamination, and once more with a third of the
samples from the dataset, all of whose questions differ: of each question something is kept, so
that the job grows by design. Fails where it grows beyond 1.1 and 700 bytes a sample; the workers
may not.

Faults: three pods undisturbed, then three under S3 errors (one request in ten), SIGKILL at bad and
at random moments, and a teacher that stalls, errs and talks rubbish. Fails unless both make the
same bytes and the counts add up at each stage.

``--whole``: 10,000 samples for the time, 10,000 and 100,000 for the memory, 100,000 for the faults.
Prints Markdown; exits with 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Literal, get_args

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "bench")]

MOST_MINUTES = 20.0
MOST_RATIO = 1.1
MOST_BYTES = 700  # a sample, by which a job with cleaning may grow beyond that
TARGET = 10_000
CORES = 2
THEIRS = 200  # items of the benchmark, half of them pictures
COPIED = 50  # of the dataset's questions, one in so many is the benchmark's

Kind = Literal["simulated", "cleaned", "mixed", "taught"]


# one job, in a process of its own


def job(samples: int, kind: Kind, teacher: str | None, home: Path) -> dict[str, Any]:
    """Seconds of each stage and bytes of memory of one job of this process."""
    from rich.console import Console

    from m2r_train.api.datasynthesis import DataSynthesisSpec
    from m2r_train.api.runspec import RunInput, RunMetadata, RunSpec, RunStorage, resolved
    from m2r_train.stages import synthesize, teaching
    from m2r_train.stages.context import Context
    from m2r_train.store import LocalStore, Run
    from m2r_train.telemetry.metrics import MetricSet
    from m2r_train.telemetry.progress import Progress

    spec = DataSynthesisSpec.model_validate(fields(samples, kind))
    folders = {}
    if spec.decontamination is not None:
        folders["decontamination.against[0].dataset"] = benchmark(home / "theirs")
    for i, source in enumerate(spec.sources):
        if source.dataset is not None:
            folders[f"sources[{i}].dataset"] = dataset(home / "latex", samples // 3)
    if teacher is not None:
        folders |= dict.fromkeys(("generator.model", "difficulty.model"), Path(teacher))
    inputs = {name: RunInput(uri=at.absolute().as_uri()) for name, at in folders.items()}
    ctx = Context(
        run_spec=RunSpec(
            kind="DataSynthesisJob",
            metadata=RunMetadata(name="bench", uid="0123456789abcdef"),
            storage=RunStorage(uri=home.as_uri()),
            seed=0,
            spec=resolved(spec),
            inputs=inputs,
        ),
        run=Run.claim(LocalStore(home / "run"), 1),
        progress=Progress(Console(file=io.StringIO())),
        metrics=MetricSet(),
        cache_dir=home / "cache",
    )
    seconds: dict[str, float] = {}

    def timed(module: Any, name: str, stage: str) -> None:
        inner: Callable[..., Any] = getattr(module, name)

        def outer(*args: Any, **kwargs: Any) -> Any:
            began = time.monotonic()
            try:
                return inner(*args, **kwargs)
            finally:
                seconds[stage] = seconds.get(stage, 0.0) + time.monotonic() - began

        setattr(module, name, outer)

    timed(synthesize, "made_samples", "make and verify")
    timed(synthesize, "given_samples", "read the dataset")
    timed(synthesize, "repeats", "de-duplicate")
    timed(synthesize, "cleaned", "decontaminate, near-duplicates")
    timed(teaching, "taught", "teach, verify, judge, select")
    timed(synthesize, "_route", "route")
    timed(synthesize, "measured_difficulty", "measure difficulty")
    timed(synthesize, "write_dataset", "write")
    workers = Workers()
    began = time.monotonic()
    with workers:
        outcome = synthesize.run(ctx)
    manifest = json.loads((home / "run" / "dataset" / "manifest.json").read_text())
    return {
        "seconds": {**seconds, "all": time.monotonic() - began},
        "memory": {"job": peak_of("self"), "largest worker": workers.peak},
        "counts": outcome["counts"],
        "teaching": manifest.get("teaching"),
        "dropped": manifest["dropped"],
    }


def fields(samples: int, kind: Kind) -> dict[str, Any]:
    """The spec: simulated rooms and charts, at the quickstart's size of pictures; a third of the
    samples is the dataset's where the job is mixed or taught.
    """
    rooms = {"tasks": ["ObjectCount", "RelationHorizontal", "AbsoluteDistance", "ObjectSize"]}
    given = samples // 3 if kind in ("mixed", "taught") else 0
    scenes = (samples - given) // 2
    charts = {"tasks": ["BarChart"], "samples": samples - given - scenes, "imageSize": 64}
    sources: list[dict[str, Any]] = [
        {
            "name": "rooms",
            "simulator": {**rooms, "scenes": scenes, "imageSize": 64, "maxObjects": 4},
        },
        {"name": "charts", "figures": charts},
    ]
    if given:
        sources.append({"name": "latex", "dataset": {"uri": "file:///latex"}})
    common = {"sources": sources, "resources": {"cpu": CORES}, "shards": 8}
    if kind != "simulated":
        theirs = {"name": "theirs", "dataset": {"uri": "file:///theirs"}}
        common["decontamination"] = {"against": [theirs], "pictureDistance": 4}
        common["nearDuplicates"] = {"pictureDistance": 4}
    if kind != "taught":
        return {**common, "outputs": {"rlvr": samples // 2, "eval": samples // 10}}
    model = {"uri": "file:///teacher"}
    return {
        **common,
        "generator": {
            "model": model,
            "chainsPerQuestion": 4,
            "maxCompletionTokens": 48,
        },
        "quality": {"minEach": 1, "minMean": 1},  # a tiny model's chains check nothing
        "difficulty": {
            "model": model,
            "rollouts": 8,
            "maxCompletionTokens": 48,
            "dropSolved": False,
            "dropUnsolved": False,
        },
        "outputs": {"sft": samples // 20, "rlvr": samples // 2, "eval": samples // 20},
    }


def word_problem(number: int) -> dict[str, str]:
    """A question of some forty words that no other number has, with an answer in LaTeX."""
    draw = Random(number)
    names = ("Anna", "Ben", "Clara", "David", "Emil", "Fatima", "Goran", "Hana")
    things = ("apples", "pens", "stones", "tickets", "marbles", "books")
    verbs = ("buys", "finds", "sells", "borrows", "counts", "hides")
    lines = (
        f"{draw.choice(names)} {draw.choice(verbs)} {draw.randrange(2, 99)} {draw.choice(things)}."
        for _ in range(6)
    )
    part, whole, root = draw.randrange(1, 50), draw.randrange(2, 50), draw.randrange(2, 50)
    forms = (
        f"\\frac{{{part}}}{{{whole}}}",
        f"{part}\\sqrt{{{root}}}",
        f"\\left({part}, {whole}\\right)",
        f"{part}x^2 - {root}x + {whole}",
    )
    ask = f"Item {number}: what is $\\frac{{{part}}}{{{whole}}}$ of all, over {root}?"
    return {
        "id": f"w{number}",
        "question": f"{' '.join(lines)} {ask}",
        "answer": draw.choice(forms),
    }


def dataset(folder: Path, count: int) -> Path:
    """A JSONL file of word problems, one in ``COPIED`` of which the benchmark asks too."""
    folder.mkdir(parents=True)
    with (folder / "latex.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(word_problem(n)) + "\n" for n in range(count))
    return folder


def benchmark(folder: Path) -> Path:
    """A small benchmark in JSONL: word problems of the dataset, and charts with pictures."""
    from m2r_train.sim import generate

    folder.mkdir(parents=True)
    lines: list[dict[str, str]] = [word_problem(COPIED * n) for n in range(THEIRS // 2)]
    for n in range(THEIRS // 2):
        chart = generate("BarChart", 1, n, image_size=64)
        (folder / f"{n}.png").write_bytes(chart.images[0])
        lines.append({"question": chart.question, "answer": chart.answer, "image": f"{n}.png"})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "theirs.jsonl").write_text(text, encoding="utf-8")
    return folder


class Workers:
    """Watches this process's workers: ``peak`` is the most bytes that one of them has held."""

    def __init__(self) -> None:
        self.peak = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            for children in Path("/proc/self/task").glob("*/children"):
                for pid in children.read_text().split():
                    if is_worker(pid):
                        self.peak = max(self.peak, peak_of(pid))


def is_worker(pid: str) -> bool:
    """Whether a process is a worker and not, say, a fork of this one that is about to exec."""
    try:
        return b"multiprocessing.spawn" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def peak_of(pid: str) -> int:
    """Most bytes of memory that a process has held; 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(x.split()[1]) for x in lines if x.startswith("VmHWM:")), 0)


def measured(samples: int, kind: Kind, teacher: Path | None = None) -> dict[str, Any]:
    """`job` in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="m2r-bench-") as home:
        command = [sys.executable, __file__, "--job", home, "--samples", str(samples)]
        command += ["--kind", kind, *(["--teacher", str(teacher)] if teacher else [])]
        env = {**os.environ, "OMP_NUM_THREADS": str(CORES)}
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


# the three parts


def time_part(samples: int, repeats: int, store: Path) -> bool:
    """Table of seconds; whether 10,000 samples are through in time."""
    from bench_rlvr import cold_start

    teacher, _ = cold_start(store, 300)
    runs = [measured(samples, "taught", teacher) for _ in range(repeats)]
    print(f"| stage, {samples:,} questions on {CORES} cores | s, min | median | max |")
    print("|---|---|---|---|")
    for stage in runs[0]["seconds"]:
        row = [one["seconds"][stage] for one in runs]
        figures = (min(row), statistics.median(row), max(row))
        print(f"| {stage} | " + " | ".join(f"{x:.1f}" for x in figures) + " |")
    print(f"\nCounts: {runs[0]['counts']}, teaching {runs[0]['teaching']}, {runs[0]['dropped']}.")
    whole = max(one["seconds"]["all"] for one in runs) * TARGET / samples / 60
    how = "measured" if samples == TARGET else f"extrapolated from {samples:,}"
    print(f"\n{TARGET:,} questions: {whole:.1f} minutes ({how}); at most {MOST_MINUTES:.0f}.\n")
    return whole <= MOST_MINUTES


def memory_part(samples: int) -> bool:
    """Table of peaks at so many samples and ten times that; whether all bounds are kept."""
    print(
        f"| peak of memory, MiB | {samples:,} samples | {10 * samples:,} | ratio | bytes a sample |"
    )
    print("|---|---|---|---|---|")
    good, dropped = True, {}
    kinds: dict[Kind, str] = {
        "simulated": "",
        "cleaned": ", with cleaning",
        "mixed": ", with cleaning and a dataset",
    }
    for kind, told in kinds.items():
        few, many = measured(samples, kind), measured(10 * samples, kind)
        dropped[kind] = many["dropped"]
        for who, before in few["memory"].items():
            after = many["memory"][who]
            ratio, each = after / before, (after - before) / (9 * samples)
            grows = who == "job" and kind != "simulated"
            good &= after <= MOST_RATIO * before + (9 * samples * MOST_BYTES if grows else 0)
            figures = f"{before / 2**20:.0f} | {after / 2**20:.0f} | {ratio:.3f} | {each:.0f}"
            print(f"| {who}{told} | {figures} |", flush=True)
    print(f"\nDropped of {10 * samples:,}: {dropped}.\n")
    return good


def faults_part(samples: int, kills: int) -> bool:
    """What was lost or doubled; whether nothing was."""
    from hardship import Job
    from integration.store.faultproxy import fault_proxy
    from runs import M2R
    from s3server import s3_server
    from teacherserver import serving

    with tempfile.TemporaryDirectory(prefix="m2r-bench-") as folder, s3_server() as s3:
        made = Job(Path(folder), samples=samples, shards=16, nodes=3)
        made.write_questions()
        m2r = M2R(Path(folder))
        with (
            serving(faults=False, notes=False) as teacher,
            fault_proxy(s3.endpoint) as proxy,
        ):
            url = f"http://127.0.0.1:{teacher.server_port}/v1"
            specs = [
                made.spec(s3.make_bucket(name), store, url)
                for name, store in (("calm", s3.endpoint), ("rough", proxy.endpoint))
            ]
            calm = made.carry(m2r, s3, specs[0], die=False)
            teacher.fails_every, proxy.rate = 20, 0.1
            rough = made.carry(m2r, s3, specs[1], die=True, kills=kills)
    wrong = made.faults(rough)
    if rough.digest != calm.digest:
        wrong.append(f"bytes: {rough.digest} is not {calm.digest}")
    print(f"{samples:,} samples, three pods: {rough.deaths} deaths; {proxy.met} of")
    print(f"{len(proxy.seen)} S3 requests failed; teacher and judge: {dict(teacher.failed)}")
    print(f"of {teacher.requests:,} requests. Same bytes and counts: {not wrong}.\n")
    for line in wrong:
        print(f"- {line}")
    return not wrong


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(os.environ.get("M2R_CACHE") or Path(base) / "m2r")
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--samples", type=int, help="questions; default 1,000, of faults 4,000")
    parser.add_argument("--repeats", type=int, default=1, help="of the time")
    parser.add_argument("--whole", action="store_true", help="10,000 and 100,000 samples")
    parser.add_argument("--store", type=Path, default=cache / "bench-rlvr", help="the teacher's")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=get_args(Kind), help=argparse.SUPPRESS)
    parser.add_argument("--teacher", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


PARTS = ("time", "memory", "faults")


def main() -> None:
    """Measure, print, fail beyond the bounds."""
    args = arguments()
    if args.job is not None:
        print(json.dumps(job(args.samples, args.kind, args.teacher, args.job)))
        return
    whole = args.whole
    held = {
        "time": lambda: time_part(
            args.samples or (TARGET if whole else 1_000), args.repeats, args.store
        ),
        "memory": lambda: memory_part(args.samples or (TARGET if whole else 1_000)),
        "faults": lambda: faults_part(
            args.samples or (100_000 if whole else 4_000), 20 if whole else 4
        ),
    }
    results = {part: held[part]() for part in args.parts}
    missed = [part for part, good in results.items() if not good]
    print(f"Missed: {', '.join(missed) or 'nothing'}.")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
