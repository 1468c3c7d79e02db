"""``m2r report``: one HTML file with everything in it, that opens without a network.

The bytes are a function of the input: no time stamp, no random id. Charts are SVG drawn here, so
the page needs no chart library (plotly alone is 4.6 MB), prints, and shows without script; the
small script only adds a cursor. All text goes through Jinja's autoescape, and data for the script
is JSON with ``<``, ``>`` and ``&`` escaped, so what a model wrote stays text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from m2r_train.report.charts import Chart, histogram, stack
from m2r_train.report.headline import headline, results_by_label
from m2r_train.report.panels import (
    Tile,
    comparison_charts,
    other_charts,
    phase_shares,
    reward_charts,
    task_charts,
    tiles,
)
from m2r_train.report.paper import beside_paper
from m2r_train.report.samples import ImageBudget, StepSamples, pick, whole
from m2r_train.report.series import phase_bars
from m2r_train.report.templating import environment, write_page
from m2r_train.report.views import PHASES, Comparison, RunView
from m2r_train.telemetry.events import redact


@dataclass(frozen=True, slots=True)
class RunSection:
    """Everything the page shows of one run."""

    anchor: str
    view: RunView
    tiles: list[Tile]
    rewards: list[Chart]
    tasks: list[Chart]
    others: list[Chart]
    phases: Markup
    phase_shares: list[tuple[str, float]]
    dataset: DatasetSection | None
    samples: tuple[StepSamples, ...]
    spec: str

    @property
    def charts(self) -> list[Chart]:
        return [*self.rewards, *self.tasks, *self.others]


@dataclass(frozen=True, slots=True)
class DatasetSection:
    """The numbers of a synthesised data set; ``tasks`` and ``splits`` are (name, n, share)."""

    stages: list[Mapping[str, Any]]
    splits: list[tuple[str, int, float]]
    tasks: list[tuple[str, int, float]]
    difficulty: Markup


@dataclass(frozen=True, slots=True)
class CompareSection:
    """Runs of one kind, laid over each other."""

    kind: str
    runs: list[str]
    charts: list[Chart]


def build_report(
    runs: Sequence[RunView],
    out: Path,
    *,
    title: str = "M2R report",
    comparisons: Sequence[Comparison] = (),
    compare: bool = False,
) -> Path:
    """Write the report of ``runs`` to ``out`` (replaced in one go) and return the path.

    ``comparisons`` are paired differences for the headline; ``compare`` adds charts that lay the
    runs of one kind over each other.
    """
    page = render_report(runs, title=title, comparisons=comparisons, compare=compare)
    return write_page(page, out)


def render_report(
    runs: Sequence[RunView],
    *,
    title: str = "M2R report",
    comparisons: Sequence[Comparison] = (),
    compare: bool = False,
) -> str:
    """The page as text."""
    budget = ImageBudget()
    sections = [_section(view, f"run{place}", budget) for place, view in enumerate(runs)]
    compared = _compared(runs) if compare else []
    charts = [chart for section in sections for chart in section.charts]
    charts += [chart for section in compared for chart in section.charts]
    template = environment().get_template("report.html.j2")
    return template.render(
        title=title,
        benchmarks=headline(runs, comparisons),
        paper=beside_paper(results_by_label(runs)),
        sections=sections,
        compared=compared,
        phase_colour={phase: place for place, phase in enumerate(PHASES)},
        chart_data={chart.id: chart.data for chart in charts},
    )


def _section(view: RunView, anchor: str, budget: ImageBudget) -> RunSection:
    bars = phase_bars(view.timings, PHASES)
    spec = redact(dict(view.spec))
    is_rlvr = any("reward" in record for record in view.history)
    return RunSection(
        anchor=anchor,
        view=view,
        tiles=tiles(view),
        rewards=reward_charts(view, anchor) if is_rlvr else [],
        tasks=task_charts(view, anchor) if is_rlvr else [],
        others=other_charts(view, anchor),
        phases=stack(bars, PHASES) if bars else Markup(""),
        phase_shares=phase_shares(bars) if bars else [],
        dataset=_dataset(view.dataset_stats) if view.dataset_stats else None,
        samples=(whole if view.whole_traces else pick)(view.traces, budget),
        spec=yaml.safe_dump(spec, sort_keys=False, allow_unicode=True) if spec else "",
    )


def _dataset(stats: Mapping[str, Any]) -> DatasetSection:
    difficulty = [int(count) for count in stats.get("difficulty", ())]
    return DatasetSection(
        stages=list(stats.get("stages", ())),
        splits=_shares(stats.get("splits", {})),
        tasks=_shares(stats.get("tasks", {})),
        difficulty=histogram(difficulty) if any(difficulty) else Markup(""),
    )


def _shares(counts: Mapping[str, int]) -> list[tuple[str, int, float]]:
    """(name, n, share of the largest), as given."""
    most = max(counts.values(), default=0)
    return [(name, n, n / most if most else 0.0) for name, n in counts.items()]


def _compared(runs: Sequence[RunView]) -> list[CompareSection]:
    kinds = dict.fromkeys(view.kind for view in runs if view.history)
    found = []
    for place, kind in enumerate(kinds):
        views = [view for view in runs if view.kind == kind and view.history]
        if len(views) > 1:
            charts = comparison_charts(views, f"compare{place}")
            found.append(CompareSection(kind, [view.label for view in views], charts))
    return found
