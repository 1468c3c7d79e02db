"""Live progress of ``m2r run``: a bar on a terminal, plain lines anywhere else, never both.

On a terminal each finished resource leaves one line behind, and the running one shows a bar with
its step, ETA and figures. Without a terminal (a pod, a pipe, CI) there is a line when a stage
starts and ends, and at most one each ``interval_seconds`` between.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from m2r_train.api.errors import Preempted
from m2r_train.telemetry.results import ResultRow, models_of

_ETA_MEMORY = 0.9  # weight of the past in the moving seconds per step
_NAME_WIDTH = 24


@dataclass(slots=True)
class _Stage:
    """The running stage: what the bar and the lines are drawn from."""

    title: str
    total: int | None
    started: float
    step: int
    last_tick: float | None = None
    seconds_per_step: float | None = None
    figures: dict[str, float | int | str] = field(default_factory=dict)
    result: str | None = None

    def advance(self, step: int, now: float) -> None:
        """Take the pace of the steps since the last tick.

        The first step only starts the watch: it holds the loading of the model.
        """
        moved = step - self.step
        if moved <= 0:
            return
        if self.last_tick is not None:
            pace = (now - self.last_tick) / moved
            old = pace if self.seconds_per_step is None else self.seconds_per_step
            self.seconds_per_step = _ETA_MEMORY * old + (1 - _ETA_MEMORY) * pace
        self.step, self.last_tick = step, now

    @property
    def eta(self) -> str:
        if self.total is None or self.seconds_per_step is None:
            return ""
        return duration(max(0, self.total - self.step) * self.seconds_per_step)

    @property
    def steps(self) -> str:
        return f"{self.step:,}" if self.total is None else f"{self.step:,}/{self.total:,}"

    @property
    def percent(self) -> str:
        return f"{100 * self.step // self.total}%" if self.total else ""


class Progress:
    """Shows one stage after another. Use as a context, or call `close` at the end.

    ``console`` decides where it goes and whether that is a terminal; ``clock`` is in seconds.

    >>> with Progress() as progress, progress.stage("RLVRJob", "rlvr", 1000) as stage:
    ...     stage.update(1, reward=0.41, tokens_per_second=1800)   # doctest: +SKIP
    ...     stage.finish("reward 0.71")
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        interval_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._interval = interval_seconds
        self._clock = clock
        self._stage: _Stage | None = None
        self._last_line = -float("inf")
        self._spinner = Spinner("dots", style="cyan")
        self._live: Live | None = None
        if self._console.is_terminal and os.environ.get("TERM") != "dumb":
            self._live = Live(
                console=self._console,
                get_renderable=self._render,
                refresh_per_second=5,
                transient=True,
            )

    @property
    def is_live(self) -> bool:
        """True on a terminal."""
        return self._live is not None

    @contextmanager
    def stage(
        self, kind: str, name: str, total_steps: int | None, *, start_step: int = 0
    ) -> Iterator[Self]:
        """Show a stage while the block runs; yields this object.

        ``start_step`` is where a resumed run goes on from. A block that ends without `finish`
        ends as done; one that raises ends as stopped (`Preempted`) or failed.
        """
        if self._stage is not None:
            raise RuntimeError(f"{kind}/{name} started inside {self._stage.title}")
        self._stage = stage = _Stage(f"{kind}/{name}", total_steps, self._clock(), start_step)
        try:
            if self._live is not None:
                self._live.start()
            else:
                total = "" if total_steps is None else f"{total_steps:,} steps"
                resumed = f"from step {start_step:,}" if start_step else ""
                self._plain("started", total, resumed)
            yield self
        except BaseException as error:
            stopped = isinstance(error, Preempted | KeyboardInterrupt)
            self._end("stopped" if stopped else "failed", str(error) or type(error).__name__)
            raise
        else:
            self._end("done", stage.result or _figures(stage.figures))
        finally:
            self.close()

    def update(self, step: int, **figures: float | int | str) -> None:
        """Step ``step`` is done; ``figures`` (reward, loss, ..) replace those of the same name."""
        stage = self._running()
        stage.advance(step, self._clock())
        stage.figures.update(figures)
        if self._live is None and self._clock() - self._last_line >= self._interval:
            eta = f"eta {stage.eta}" if stage.eta else ""
            self._plain(f"step {stage.steps}", stage.percent, eta, _figures(stage.figures))

    def expect(self, total_steps: int) -> None:
        """The stage turns out to have so many steps in all."""
        self._running().total = total_steps

    def note(self, line: str) -> None:
        """One line that stays on the screen: a checkpoint, a resume, a retry."""
        title = f"{self._stage.title}: " if self._stage else ""
        self._print(Text(f"{'  ' if self.is_live else title}{line}", style="dim"))

    def finish(self, result: str = "", **figures: float | int | str) -> None:
        """What the finished stage's line says: ``result``, else its last figures."""
        stage = self._running()
        stage.figures.update(figures)
        stage.result = "  ".join(filter(None, (result, _figures(figures)))) or None

    def show(self, renderable: RenderableType) -> None:
        """Print something rich (the final table) below everything else."""
        self._console.print(renderable)

    def close(self) -> None:
        """Give the terminal back; safe to call twice."""
        self._stage = None
        if self._live is not None and self._live.is_started:
            self._live.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _running(self) -> _Stage:
        if self._stage is None:
            raise RuntimeError("no stage is running; use `with progress.stage(..)`")
        return self._stage

    def _end(self, how: str, result: str) -> None:
        stage = self._running()
        took = duration(self._clock() - stage.started)
        if self._live is None:
            self._plain(f"{how} in {took}", f"{stage.step:,} steps", result)
            return
        mark, style = {"done": ("✓", "green"), "stopped": ("‖", "yellow")}.get(how, ("✗", "red"))
        line = Table.grid(padding=(0, 1))
        line.add_column(width=1)
        line.add_column(width=_NAME_WIDTH, no_wrap=True, overflow="ellipsis")
        line.add_column(width=7, justify="right", no_wrap=True)
        line.add_column(overflow="fold")
        title = Text(stage.title, style="bold")
        line.add_row(Text(mark, style=style), title, Text(took, style="cyan"), Text(result))
        self._stage = None  # nothing more to draw: the line takes the bar's place
        self._print(line)

    def _plain(self, *parts: str) -> None:
        self._last_line = self._clock()
        self._print(Text("  ".join(filter(None, (self._running().title, *parts)))))

    def _print(self, line: RenderableType) -> None:
        self._console.print(line, soft_wrap=not self.is_live, highlight=False)

    def _render(self) -> RenderableType:
        stage = self._stage
        if stage is None:
            return Text("")
        bar = Table.grid(padding=(0, 1))
        bar.add_column(width=1)
        bar.add_column(width=_NAME_WIDTH, no_wrap=True, overflow="ellipsis")
        bar.add_column(width=7, justify="right", no_wrap=True)
        bar.add_column(width=18)
        bar.add_column(no_wrap=True)
        bar.add_column(no_wrap=True)
        done = ProgressBar(
            total=stage.total,
            completed=stage.step,
            width=18,
            pulse=stage.total is None,
            complete_style="cyan",
            finished_style="cyan",
        )
        elapsed = Text(duration(self._clock() - stage.started), style="cyan")
        eta = Text(f"eta {stage.eta}" if stage.eta else "", style="dim")
        title = Text(stage.title, style="bold")
        bar.add_row(self._spinner, title, elapsed, done, Text(stage.steps), eta)
        if not stage.figures:
            return bar
        return Group(bar, Text(f"  {_figures(stage.figures)}", style="dim"))


def results_table(rows: Sequence[ResultRow], title: str = "Results, percent ± s.e.") -> Table:
    """Base, SFT and RLVR per task with standard errors; the best of each row is bold.

    Other views of the same samples (``greedy/..``) show only their overall.
    """
    models = models_of(list(rows))
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("task", no_wrap=True, overflow="ellipsis")
    for model in models:
        table.add_column(model, justify="right", no_wrap=True)
    table.add_column("n", justify="right", style="dim")
    benchmark = None
    for row in rows:
        if "/" in row.task and not row.is_overall:
            continue
        if row.benchmark != benchmark:
            if benchmark is not None:
                table.add_section()
            benchmark = row.benchmark
        name = row.benchmark if row.task == "overall" else f"  {row.task}"
        best = max(score.value for score in row.scores.values())
        cells = [_cell(row, model, best) for model in models]
        counts = {score.n for score in row.scores.values() if score.n is not None}
        count = f"{max(counts):,}" if counts else ""
        table.add_row(Text(name, style="bold" if row.is_overall else ""), *cells, count)
    return table


def duration(seconds: float) -> str:
    """``7s``, ``4m07s``, ``2h05m``, ``3d04h``: never wider than seven characters below 100 days."""
    whole = round(seconds)
    for big, small, unit, part in (
        (86400, 3600, "d", "h"),
        (3600, 60, "h", "m"),
        (60, 1, "m", "s"),
    ):
        if whole >= big:
            return f"{whole // big}{unit}{whole % big // small:02d}{part}"
    return f"{whole}s"


def _cell(row: ResultRow, model: str, best: float) -> Text:
    score = row.scores.get(model)
    if score is None:
        return Text("-", style="dim")
    return Text(str(score), style="bold" if score.value == best and len(row.scores) > 1 else "")


def _figures(figures: dict[str, float | int | str]) -> str:
    return "  ".join(f"{_label(name)} {_number(value)}" for name, value in figures.items())


def _label(name: str) -> str:
    return name.replace("_per_second", "/s").replace("_", " ")


def _number(value: float | int | str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    if value and abs(value) < 0.001:
        return f"{value:.1e}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
