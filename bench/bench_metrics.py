"""What a pod's metrics cost: series and seconds of a scrape, and their share of a step.

    python bench/bench_metrics.py [--steps 40] [--scrapes 200] [--tasks 8]

An RLVR run of the tiny preset on ``--tasks`` tasks, with everything that a pod runs: its server is
scraped over HTTP while it trains and after it. Timed are the scrapes, and of each step the calls
that count and set (they are the worst case here: a step of the tiny preset takes a fraction of a
second, one of a real model a minute). Bounds: a scrape of 20 ms and of 500 series, 0.5 % of a step.
Prints Markdown; exits with 1 when the median misses a bound.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from math import isnan, nan
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import urlopen

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

from rich.console import Console  # noqa: E402

from m2r_train.api.rlvr import RLVRSpec  # noqa: E402
from m2r_train.api.runspec import RunInput, RunMetadata, RunSpec, RunStorage, resolved  # noqa: E402
from m2r_train.stages import rlvr  # noqa: E402
from m2r_train.stages.context import Context  # noqa: E402
from m2r_train.store import LocalStore, Run  # noqa: E402
from m2r_train.telemetry.metrics import MetricSet  # noqa: E402
from m2r_train.telemetry.progress import Progress  # noqa: E402
from m2r_train.telemetry.server import StatusServer  # noqa: E402

MOST_SECONDS, MOST_SERIES, MOST_SHARE = 0.020, 500, 0.005
CALLS = ("set", "inc", "observe", "record_step")


class Timed(MetricSet):
    """Metrics that add up the seconds of the outermost calls of the training thread."""

    seconds = 0.0
    calls = 0
    _inside = False

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in CALLS or threading.current_thread() is not threading.main_thread():
            return found
        return self._timed(found)

    def _timed(self, call: Callable[..., None]) -> Callable[..., None]:
        def timed(*given: Any, **named: Any) -> None:
            if self._inside:
                call(*given, **named)
                return
            self._inside, begun = True, time.perf_counter()
            try:
                call(*given, **named)
            finally:
                self.seconds += time.perf_counter() - begun
                self.calls += 1
                self._inside = False

        return timed


class Noted(Context):
    """A run that notes, at each step's end, its seconds and those of its metrics."""

    steps: list[tuple[float, float]]

    def finish_step(self, *given: Any, **named: Any) -> None:
        super().finish_step(*given, **named)
        assert isinstance(self.metrics, Timed)
        now = time.perf_counter()
        if self._begun is not None:
            self.steps.append((now - self._begun[0], self.metrics.seconds - self._begun[1]))
        self._begun = (now, self.metrics.seconds)

    _begun: tuple[float, float] | None = None


def context(home: Path, steps: int, tasks: int) -> Noted:
    """A run on questions of so many tasks."""
    (home / "data").mkdir()
    lines = [
        json.dumps({"id": f"q{i}", "question": f"{i} and {i}?", "answer": str(2 * i),
                    "task": f"Task{i % tasks}"})
        for i in range(40 * tasks)
    ]  # fmt: skip
    (home / "data/all.jsonl").write_text("\n".join(lines) + "\n")
    uri = (home / "data").as_uri()
    spec = RLVRSpec.model_validate(
        {"model": {"preset": "tiny"}, "dataset": {"uri": uri}, "steps": steps,
         "rollout": {"engine": "inprocess", "groupSize": 8, "promptsPerStep": 4,
                     "maxCompletionTokens": 32},
         "checkpoint": {"everySteps": 20}, "resources": {"cpu": "1"}}
    )  # fmt: skip
    metrics = Timed()
    ctx = Noted(
        run_spec=RunSpec(
            kind="RLVRJob", metadata=RunMetadata(name="run", uid="0123456789abcdef"), attempt=1,
            storage=RunStorage(uri=home.as_uri()), seed=0, spec=resolved(spec),
            inputs={"dataset": RunInput(uri=uri)},
        ),
        run=Run.claim(LocalStore(home / "run"), 1),
        progress=Progress(Console(file=io.StringIO())),
        metrics=metrics,
        cache_dir=home / "cache",
        server=StatusServer(metrics, host="127.0.0.1", port=0),
    )  # fmt: skip
    ctx.steps = []
    return ctx


def scrape(port: int) -> tuple[float, int]:
    """Seconds and series of one scrape."""
    begun = time.perf_counter()
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    seconds = time.perf_counter() - begun
    return seconds, sum(1 for line in text.splitlines() if line and not line.startswith("#"))


def measure(steps: int, scrapes: int, tasks: int) -> tuple[list[tuple[float, int]], Noted]:
    """Scrapes after the run, and the run."""
    with tempfile.TemporaryDirectory() as folder:
        ctx = context(Path(folder), steps, tasks)
        assert ctx.server is not None
        done = threading.Event()

        def prometheus() -> None:
            while not done.wait(1.0):
                scrape(port)

        with ctx.server as server:
            port = server.port
            thread = threading.Thread(target=prometheus)
            thread.start()
            try:
                rlvr.run(ctx)
            finally:
                done.set()
                thread.join()
            return [scrape(port) for _ in range(scrapes)], ctx


def row(name: str, values: Sequence[float], bound: float, unit: str, scale: float) -> str:
    low, middle, high = (scale * f(values) for f in (min, median, max))
    limit = "" if isnan(bound) else f"{scale * bound:g} {unit}"
    return f"| {name} | {low:.3g} | {middle:.3g} | {high:.3g} | {limit} |"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--scrapes", type=int, default=200)
    parser.add_argument("--tasks", type=int, default=8)
    args = parser.parse_args()
    scraped, ctx = measure(args.steps, args.scrapes, args.tasks)
    seconds, series = [s for s, _ in scraped], [float(n) for _, n in scraped]
    shares = [own / step for step, own in ctx.steps]
    print(f"RLVR, {args.tasks} tasks, {args.steps} steps; {args.scrapes} scrapes over HTTP\n")
    print("| what | minimum | median | maximum | bound |\n|---|---|---|---|---|")
    print(row("scrape", seconds, MOST_SECONDS, "ms", 1e3))
    print(row("series", series, MOST_SERIES, "series", 1.0))
    print(row("metrics' share of a step", shares, MOST_SHARE, "%", 1e2))
    print(row("a step", [s for s, _ in ctx.steps], nan, "ms", 1e3))
    missed = (
        median(seconds) > MOST_SECONDS or max(series) > MOST_SERIES or median(shares) > MOST_SHARE
    )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
