"""A dashboard as one HTML page, drawn by the report's renderer from a Prometheus.

There is a Grafana where there is a cluster, and none on a developer's machine: this shows the same
panels by the same queries, in the same places.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import jinja2

import m2r_train.report
from dashboards import model
from dashboards.filling import Filled, Window, chosen, fill
from dashboards.model import Json
from dashboards.prometheus import Prometheus, Result
from dashboards.units import shown
from m2r_train.report.charts import Chart
from m2r_train.report.series import Line

HERE: Final = Path(__file__).resolve().parent
STYLE: Final = Path(m2r_train.report.__file__).parent / "templates" / "style.css"


@dataclass(frozen=True, slots=True)
class Drawn:
    """One panel on the page; which of ``chart``, ``value`` and ``rows`` there is says its kind."""

    title: str
    about: str
    width: int
    chart: Chart | None = None
    unit: str = ""
    value: str | None = None
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the panels below it."""

    title: str
    panels: list[Drawn]


def page(
    dashboard: Json,
    server: Prometheus,
    given: Mapping[str, str],
    *,
    start: float,
    end: float,
    scrape: float = 15.0,
) -> str:
    """The page; ``given`` are values of variables, the others are chosen as Grafana would.

    ``scrape`` is the seconds between two scrapes: no two points are nearer.
    """
    window = Window.of(start, end, scrape=scrape)
    values = chosen(dashboard, server, given, window)
    return render(dashboard, list(fill(dashboard, server, values, window)), values, window)


def render(
    dashboard: Json, panels: Sequence[Filled], values: Mapping[str, str], window: Window
) -> str:
    """The page of panels that are filled already."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    choices = {
        name: "All" if values[name] == one.get("allValue") else values[name]
        for name, one in model.variables(dashboard).items()
        if name != "datasource"
    }
    return environment.get_template("dashboard.html.j2").render(
        title=dashboard["title"],
        about=dashboard.get("description", ""),
        variables=list(choices.items()),
        until=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(window.end)),
        minutes=round((window.end - window.start) / 60, 1),
        sections=_sections(dashboard, panels, window),
        style=STYLE.read_text(),
    )


def _sections(dashboard: Json, panels: Sequence[Filled], window: Window) -> list[Section]:
    units = {one["id"]: one for one in dashboard["panels"]}
    found: list[Section] = []
    for one in panels:
        if one.panel.is_row or not found:
            found.append(Section(one.panel.title if one.panel.is_row else "", []))
        if not one.panel.is_row:
            found[-1].panels.append(_drawn(one, units[one.panel.id], window))
    return found


def _drawn(one: Filled, source: Json, window: Window) -> Drawn:
    panel = one.panel
    if panel.kind == "table":
        head, rows = _table(one, source)
        return Drawn(panel.title, panel.about, panel.box[2], head=head, rows=rows)
    every = [pair for answer in one.answers for pair in answer]
    if panel.kind == "stat":
        value = shown(every[0][1].points[-1][1], panel.unit) if every else "no data"
        return Drawn(panel.title, panel.about, panel.box[2], value=value)
    chart = _chart(one, every, source, window)
    return Drawn(panel.title, panel.about, panel.box[2], chart=chart, unit=_UNIT[panel.unit])


_UNIT: Final = {
    "short": "", "sci": "", "percentunit": "share", "s": "seconds", "bytes": "MiB",
    "mbytes": "MiB", "bool": "1: yes", "reqps": "per second", "ops": "per second",
}  # fmt: skip
_SIZE: Final = {"bytes": 2.0**20}  # of the unit that is shown


def _chart(one: Filled, every: Sequence[tuple[str, Result]], source: Json, window: Window) -> Chart:
    """Time since the start of the window; a gap in the data is a gap in the line."""
    name_of_time, size = _time_unit(window.end - window.start)
    defaults = source["fieldConfig"]["defaults"]
    stacked = defaults.get("custom", {}).get("stacking", {}).get("mode") == "normal"
    scale = _SIZE.get(one.panel.unit, 1.0)
    below: dict[float, float] = {}
    lines = []
    for colour, (name, result) in enumerate(every):
        points = tuple((when, value / scale) for when, value in result.points)
        if stacked:
            points = tuple((when, value + below.get(when, 0.0)) for when, value in points)
            below |= dict(points)
        for part, piece in enumerate(_pieces(points, 1.5 * window.step)):
            since = tuple(((when - window.start) / size, value) for when, value in piece)
            lines.append(Line(name if part == 0 else "", since, (), colour))
    return Chart(
        id=f"panel{one.panel.id}",
        title=one.panel.title,
        lines=tuple(lines),
        floor=defaults.get("min"),
        ceiling=defaults.get("max"),
        x_label=name_of_time,
        x_range=(0.0, (window.end - window.start) / size),
    )


def _time_unit(seconds: float) -> tuple[str, float]:
    """The unit that a window of so many seconds is told in, and its seconds."""
    if seconds < 600:
        return "s", 1.0
    return ("min", 60.0) if seconds < 6 * 3600 else ("h", 3600.0)


def _pieces(
    points: Sequence[tuple[float, float]], longest: float
) -> list[list[tuple[float, float]]]:
    """The points, cut where more than ``longest`` seconds lie between two."""
    pieces = [[points[0]]] if points else []
    for before, after in pairwise(points):
        if after[0] - before[0] > longest:
            pieces.append([])
        pieces[-1].append(after)
    return pieces


def _table(one: Filled, source: Json) -> tuple[list[str], list[list[str]]]:
    """Grafana's merge: one row for each set of labels, one column for each query."""
    columns = [target.legend for target in one.panel.targets]
    units = {
        o["matcher"]["options"]: next(p["value"] for p in o["properties"] if p["id"] == "unit")
        for o in source["fieldConfig"]["overrides"]
    }
    cells: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
    for column, answer in zip(columns, one.answers, strict=True):
        for _, result in answer:
            labels = {k: v for k, v in result.labels.items() if k != "__name__"}
            row = cells.setdefault(tuple(sorted(labels.items())), {})
            row[column] = shown(result.points[-1][1], units[column])
    keys = list(dict.fromkeys(name for labels in cells for name, _ in labels))
    rows = [
        [*(dict(labels).get(key, "") for key in keys), *(row.get(c, "") for c in columns)]
        for labels, row in sorted(cells.items())
    ]
    return [*keys, *columns], rows
