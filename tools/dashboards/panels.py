"""The four kinds of panel that the dashboards use, and what every dashboard has in common.

Thin over grafana-foundation-sdk, so that a board reads as a list of titles and queries. Sizes are
in Grafana's grid: 24 columns; a row of panels must add up to 24 or end its section.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import common as builders
from grafana_foundation_sdk.builders import stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

OR_ZERO: Final = " or on () vector(0)"  # a flat line where there is nothing to show, and only there
TAG: Final = "m2r"
SOURCE: Final = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
RATE: Final = "[$__rate_interval]"  # reaches from each point on the screen to the one before it

Panel = Builder[dashboard.Panel]


@dataclass(frozen=True, slots=True)
class Query:
    """One query in PromQL, and what its series are called (Grafana's ``{{label}}``)."""

    expression: str
    legend: str = ""


def lines(
    title: str,
    about: str,
    unit: str,
    *queries: Query,
    width: int = 8,
    stacked: bool = False,
    low: float | None = None,
    high: float | None = None,
) -> Panel:
    """Lines over time; ``stacked`` fills them on top of each other."""
    panel = (
        timeseries.Panel().title(title).description(about).unit(unit).datasource(SOURCE)
        .span(width).height(8).targets(_targets(queries))
        .legend(
            builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(
            builders.VizTooltipOptions()
            .mode(common.TooltipDisplayMode.MULTI)
            .sort(common.SortOrder.DESCENDING)
        )
    )  # fmt: skip
    if stacked:
        panel.fill_opacity(40)
        panel.stacking(builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if low is not None:
        panel.min(low)
    if high is not None:
        panel.max(high)
    return panel


def figure(
    title: str,
    about: str,
    unit: str,
    expression: str,
    *,
    width: int = 3,
    bad_from: float | None = None,
    bad_below: float | None = None,
) -> Panel:
    """The newest value in the time that is shown; red from ``bad_from`` on, or below ``bad_below``.

    Not the value of this moment, or the dashboard of a finished run would have none.
    """
    steps = [dashboard.Threshold(None, "text")]
    if bad_from is not None:
        steps = [dashboard.Threshold(None, "green"), dashboard.Threshold(bad_from, "red")]
    if bad_below is not None:
        steps = [dashboard.Threshold(None, "red"), dashboard.Threshold(bad_below, "green")]
    thresholds = ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)
    return (
        stat.Panel().title(title).description(about).unit(unit).datasource(SOURCE)
        .span(width).height(4).targets(_targets([Query(expression)]))
        .graph_mode(common.BigValueGraphMode.NONE)
        .thresholds(thresholds)
        .reduce_options(builders.ReduceDataOptions().calcs(["lastNotNull"]))
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its heading, its unit, and the query of its values."""

    heading: str
    unit: str
    expression: str


def grid(title: str, about: str, columns: Sequence[Column], *, keys: Sequence[str]) -> Panel:
    """A table with one row for each combination of ``keys``, which every query must group by.

    Each column is a query of its own; Grafana's ``merge`` joins them by their labels.
    """
    panel = (
        table.Panel().title(title).description(about).unit("short").datasource(SOURCE)
        .span(24).height(9)
        .targets(_targets([Query(c.expression, c.heading) for c in columns], table=True))
        .with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(_headings(columns, keys))
    )  # fmt: skip
    for column in columns:
        panel.override_by_name(
            column.heading, [dashboard.DynamicConfigValue(id_val="unit", value=column.unit)]
        )
    return panel


def board(
    uid: str, title: str, about: str, variables: Sequence[Builder[Any]], span: str
) -> Dashboard:
    """An empty dashboard: a fixed ``uid``, so that links survive; ``span``: as in ``now-6h``."""
    others = (
        DashboardLink("M2R").type(dashboard.DashboardLinkType.DASHBOARDS).tags([TAG])
        .as_dropdown(True).include_vars(True).keep_time(True)
    )  # fmt: skip
    made = (
        Dashboard(title).uid(uid).description(about).tags([TAG]).readonly().timezone("browser")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .time(span, "now").refresh("30s").link(others)
    )  # fmt: skip
    for variable in (_datasource(), *variables):
        made.with_variable(variable)
    return made


def section(to: Dashboard, title: str, panels: Sequence[Panel]) -> None:
    """Put a heading and its panels below what is there."""
    to.with_row(Row(title))
    for panel in panels:
        to.with_panel(panel)


def variable(name: str, about: str, series: str, label: str, *, several: bool) -> QueryVariable:
    """A choice among the values of ``label`` in ``series`` (a selector); ``several``: or all."""
    made = (
        QueryVariable(name).description(about).datasource(SOURCE)
        .query({"qryType": 1, "query": f"label_values({series}, {label})", "refId": name})
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    )  # fmt: skip
    if several:
        every = dashboard.VariableOption(selected=True, text=["All"], value=["$__all"])
        made.multi(True).include_all(True).all_value(".*").current(every)
    return made


def _datasource() -> DatasourceVariable:
    return DatasourceVariable("datasource").type("prometheus").description("The Prometheus.")


def _targets(queries: Sequence[Query], *, table: bool = False) -> list[Builder[Any]]:
    found: list[Builder[Any]] = []
    for place, query in enumerate(queries):
        target = Dataquery().expr(query.expression).ref_id(chr(ord("A") + place))
        target.datasource(SOURCE).legend_format(query.legend or "__auto")
        found.append(target.instant().format(PromQueryFormat.TABLE) if table else target.range())
    return found


def _headings(columns: Sequence[Column], keys: Sequence[str]) -> dashboard.DataTransformerConfig:
    values = {f"Value #{chr(ord('A') + n)}": c.heading for n, c in enumerate(columns)}
    order = {name: place for place, name in enumerate([*keys, *values])}
    return dashboard.DataTransformerConfig(
        id_val="organize",
        options={"excludeByName": {"Time": True}, "indexByName": order, "renameByName": values},
    )
