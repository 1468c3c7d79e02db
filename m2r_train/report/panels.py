"""Which charts a run gets: one table of panels, filled with whatever its history holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from m2r_train.report.charts import COLOURS, Chart
from m2r_train.report.scale import number
from m2r_train.report.series import (
    Curves,
    Line,
    Point,
    curves,
    curves_by_task,
    raw_line,
    smooth,
    smoothed_line,
)
from m2r_train.report.views import PHASES, RunView
from m2r_train.telemetry.metrics import OWN
from m2r_train.telemetry.progress import duration

MAX_TASK_PANELS = 24


@dataclass(frozen=True, slots=True)
class Panel:
    """One key of the history and how to draw it."""

    key: str
    title: str
    note: str
    floor: float | None = None
    ceiling: float | None = None
    smoothed: bool = True


# Colours follow the component, so that green is accuracy everywhere.
COMPONENTS = (
    ("reward", "total", 0),
    ("accuracy", "accuracy", 2),
    ("format_valid", "format", 1),
    ("ednm", "EDNM", 4),
    ("exact", "exact match", 3),
)

OWN_COLOURS = (
    5,
    6,
    7,
)  # the user's rewards, in order of name; what has no colour is in the history

PANELS = (
    Panel("kl", "KL to the reference", "nats per token", floor=0.0),
    Panel("kl_coefficient", "KL coefficient", "its schedule", floor=0.0, smoothed=False),
    Panel("completion_tokens", "Completion length", "mean tokens", floor=0.0),
    Panel("truncated", "Truncated", "share cut at the limit", floor=0.0),
    Panel("entropy", "Entropy", "nats per token", floor=0.0),
    Panel("repetition", "Repetition", "share that repeat themselves", floor=0.0),
    Panel("zero_signal", "Groups without signal", "share with equal rewards", 0.0, 1.0),
    Panel("reward_std", "Reward spread", "standard deviation within the step", floor=0.0),
    Panel("advantage_weight", "Advantage weight", "mean, paper equation 6", floor=0.0),
    Panel("loss", "Loss", ""),
    Panel("eval_loss", "Held-out loss", "nats per token", floor=0.0, smoothed=False),
    Panel("eval_accuracy", "Held-out accuracy", "greedy", 0.0, 1.0, smoothed=False),
    Panel("grad_norm", "Gradient norm", "before clipping", floor=0.0),
    Panel("lr", "Learning rate", "its schedule", floor=0.0, smoothed=False),
    Panel("clip_ratio", "Clipped tokens", "share", floor=0.0),
    Panel("sampler_logp_diff", "Sampler and trainer", "mean |Δ log-probability|, nats", floor=0.0),
    Panel("sampler_ratio", "Importance ratio", "mean, trainer over sampler", floor=0.0),
    Panel("sampler_ratio_cut", "Cut importance ratios", "share of tokens", floor=0.0),
    Panel("redrawn", "Replaced prompts", "dynamic sampling, per step", floor=0.0),
    Panel("tokens", "Tokens trained on", "per step", floor=0.0),
)


def reward_charts(view: RunView, prefix: str) -> list[Chart]:
    """The overview of rewards, then accuracy and curriculum difficulty by task."""
    whole, tasks = curves(view.history), curves_by_task(view.history)
    charts = [
        Chart(
            f"{prefix}-components",
            "Reward by component",
            tuple(_components(whole)),
            "dots: steps, lines: smoothed",
            0.0,
            1.0,
        ),
        Chart(
            f"{prefix}-accuracy",
            "Accuracy by task",
            tuple(_by_task(tasks, "accuracy", smoothed=True)),
            "smoothed",
            0.0,
            1.0,
        ),
        Chart(
            f"{prefix}-difficulty",
            "Curriculum difficulty",
            tuple(_by_task(tasks, "difficulty", smoothed=False))
            or _one(whole, "difficulty", smoothed=False),
            "of the prompts drawn",
            0.0,
            1.0,
        ),
    ]
    return [chart for chart in charts if chart.has_points]


def task_charts(view: RunView, prefix: str) -> list[Chart]:
    """One small chart a task: its total reward with raw dots, and its components."""
    tasks = curves_by_task(view.history)
    charts = [
        Chart(f"{prefix}-task{place}", task, tuple(_components(columns)), "", 0.0, 1.0)
        for place, (task, columns) in enumerate(tasks.items())
    ]
    return [chart for chart in charts if chart.has_points][:MAX_TASK_PANELS]


def other_charts(view: RunView, prefix: str) -> list[Chart]:
    """Every panel of `PANELS` that the history has a key for; one quantity and one axis each."""
    whole = curves(view.history)
    charts = []
    for panel in PANELS:
        lines = _one(whole, panel.key, smoothed=panel.smoothed)
        name = f"{prefix}-{panel.key}"
        charts.append(Chart(name, panel.title, lines, panel.note, panel.floor, panel.ceiling))
    return [chart for chart in charts if chart.has_points]


def comparison_charts(views: Sequence[RunView], prefix: str) -> list[Chart]:
    """The same quantity of several runs in one chart, for the main quantities."""
    columns = [(view.label, curves(view.history).columns) for view in views]
    keys = (
        Panel("reward", "Reward", "smoothed", 0.0, 1.0),
        Panel("accuracy", "Accuracy", "smoothed", 0.0, 1.0),
        *(panel for panel in PANELS if panel.key in ("kl", "completion_tokens", "entropy", "loss")),
    )
    charts = []
    for panel in keys:
        lines = tuple(
            smoothed_line(label, found[panel.key], place, dots=False)
            for place, (label, found) in enumerate(columns)
            if found.get(panel.key)
        )
        name = f"{prefix}-{panel.key}"
        charts.append(Chart(name, panel.title, lines, panel.note, panel.floor, panel.ceiling))
    return [chart for chart in charts if chart.has_points]


@dataclass(frozen=True, slots=True)
class Tile:
    """A key figure: its last value, and the first where the way matters."""

    label: str
    value: str
    first: str = ""


def tiles(view: RunView) -> list[Tile]:
    """The figures on top of a run's section."""
    found = curves(view.history)
    made: list[Tile] = []
    if view.history:
        made.append(Tile("steps", f"{len({one['step'] for one in view.history}):,}"))
    for key, label in (("reward", "reward"), ("accuracy", "accuracy"),
                       ("completion_tokens", "completion tokens"), ("kl", "KL")):  # fmt: skip
        made.extend(_way(label, found.columns.get(key, ())))
    if "reward" not in found.columns:
        made.extend(_way("loss", found.columns.get("loss", ())))
    seconds = sum(float(one.get(p, 0.0)) for one in view.timings for p in PHASES)
    if seconds:
        made.append(Tile("time in steps", duration(seconds)))
    if found.nonfinite_steps:
        made.append(Tile("steps not finite", f"{found.nonfinite_steps:,}"))
    return made


def phase_shares(bars: Sequence[tuple[float, Mapping[str, float]]]) -> list[tuple[str, float]]:
    """(phase, share of the time), in the order of `PHASES`; phases never seen are left out."""
    totals = {phase: sum(parts.get(phase, 0.0) for _, parts in bars) for phase in PHASES}
    whole = sum(totals.values())
    return [(phase, part / whole) for phase, part in totals.items() if part > 0]


def _way(label: str, points: Sequence[Point]) -> list[Tile]:
    """First and last value of the moving average."""
    if not points:
        return []
    line = smooth(points)
    first = number(line[0][1]) if len(line) > 1 else ""
    return [Tile(label, number(line[-1][1]), first)]


def _components(found: Curves) -> Iterator[Line]:
    left_out = _redundant(found)
    for key, name, colour in COMPONENTS:
        points = found.columns.get(key)
        if points and key not in left_out:
            yield smoothed_line(name, points, colour, dots=key == "reward")
    own = sorted(key for key in found.columns if key.startswith(OWN))
    for key, colour in zip(own, OWN_COLOURS, strict=False):
        yield smoothed_line(key.removeprefix(OWN), found.columns[key], colour, dots=False)


def _redundant(found: Curves) -> set[str]:
    """Components that would hide another: accuracy is EDNM or exact match under one more name,
    and of these two a task uses one, which leaves the other at zero throughout."""
    parts = {key for key in ("ednm", "exact") if found.columns.get(key)}
    idle = {key for key in parts if not any(y for _, y in found.columns[key])}
    return ({"accuracy"} if parts else set()) | (idle if idle != parts else set())


def _by_task(tasks: Mapping[str, Curves], key: str, *, smoothed: bool) -> Iterator[Line]:
    for place, (task, found) in enumerate(list(tasks.items())[:COLOURS]):
        points = found.columns.get(key)
        if points:
            yield (
                smoothed_line(task, points, place, dots=False)
                if smoothed
                else raw_line(task, points, place)
            )


def _one(found: Curves, key: str, *, smoothed: bool) -> tuple[Line, ...]:
    points = found.columns.get(key)
    if not points:
        return ()
    return (smoothed_line(key, points, 0) if smoothed else raw_line(key, points, 0),)
