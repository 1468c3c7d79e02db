"""Runs the queries of a dashboard as Grafana would: variables chosen, then panel by panel."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dashboards import model
from dashboards.model import Json, Panel
from dashboards.prometheus import Prometheus, Result

_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class Window:
    """A time range in Unix seconds, the step of its points, and the time a rate is taken over."""

    start: float
    end: float
    step: float
    rate: float

    @classmethod
    def of(cls, start: float, end: float, *, scrape: float = 15.0, points: int = 240) -> Window:
        """As Grafana chooses them: about ``points`` points, a rate over four scrapes at least."""
        step = max(scrape, (end - start) / points)
        return cls(start, end, step, max(4 * scrape, step + scrape))


@dataclass(frozen=True, slots=True)
class Filled:
    """A panel with the answer to each of its queries: (legend, series)."""

    panel: Panel
    answers: tuple[tuple[tuple[str, Result], ...], ...]

    @property
    def is_empty(self) -> bool:
        """Whether any of its queries has no data."""
        return any(not answer for answer in self.answers)


def chosen(
    dashboard: Json, server: Prometheus, given: Mapping[str, str], window: Window
) -> dict[str, str]:
    """A value for each variable: given, or all where it may be, or the first that there is."""
    values = {"datasource": "prometheus", "__rate_interval": f"{window.rate:.0f}s"}
    for name, one in model.variables(dashboard).items():
        if name in given:
            values[name] = given[name]
        elif one.get("includeAll"):
            values[name] = str(one.get("allValue") or ".*")
        elif (query := model.variable_query(one)) is not None:
            selector = model.filled(query[0], values)
            offered = server.label_values(selector, query[1], window.start, window.end)
            values[name] = offered[0] if offered else ""
    return values


def fill(
    dashboard: Json, server: Prometheus, values: Mapping[str, str], window: Window
) -> Iterator[Filled]:
    """Every panel in its order; headings have no answers."""
    for panel in model.panels(dashboard):
        answers = []
        for target in panel.targets:
            query = model.filled(target.expression, values)
            found = (
                server.at(query, window.end)
                if target.instant
                else server.range(query, window.start, window.end, window.step)
            )
            answers.append(tuple((legend(target.legend, one), one) for one in found))
        yield Filled(panel, tuple(answers))


def legend(pattern: str, result: Result) -> str:
    """What Grafana calls a series: the pattern with its labels, or all labels."""
    if pattern in ("", "__auto"):
        labels = {k: v for k, v in result.labels.items() if k != "__name__"}
        return ", ".join(f"{k}={v}" for k, v in sorted(labels.items()))
    return _LABEL.sub(lambda found: result.labels.get(found[1], ""), pattern).strip() or "none"
