"""What every dashboard must keep: one line for each way in which one does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any, Final

from dashboards import model
from dashboards.model import Json, Panel
from m2r_operator.metrics import OPERATOR_SERIES
from m2r_train.telemetry.metrics import TRAINER_SERIES, Series

DECLARED: Final[Mapping[str, Series]] = {s.name: s for s in (*TRAINER_SERIES, *OPERATOR_SERIES)}
# What others export, and who.
FOREIGN: Final[Mapping[str, str]] = {
    "ALERTS": "Prometheus itself, for each alert that is pending or firing",
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": "NVIDIA's dcgm-exporter",
    "DCGM_FI_DEV_FB_USED": "NVIDIA's dcgm-exporter",
}
# Labels that a scrape adds: the chart's PodMonitor and ServiceMonitor.
SCRAPED: Final = frozenset({"namespace", "run_kind", "run", "index", "instance", "job", "pod"})
WANTED: Final = ("datasource", "namespace")
COLUMNS: Final = 24
SUFFIXES: Final = ("_bucket", "_sum", "_count")


def problems(dashboard: Json) -> list[str]:
    """All of them, in the order of the dashboard; empty: it is fine."""
    return [*_whole(dashboard), *_placed(dashboard), *_variables(dashboard), *_panels(dashboard)]


def declared(name: str) -> Series | None:
    """The declaration behind the name of a series, also of a histogram's parts."""
    if name in DECLARED:
        return DECLARED[name] if DECLARED[name].kind != "histogram" else None
    for suffix in SUFFIXES:
        base = DECLARED.get(name.removesuffix(suffix))
        if name.endswith(suffix) and base is not None and base.kind == "histogram":
            return base
    return None


def _whole(dashboard: Json) -> Iterator[str]:
    for key in ("uid", "title", "description"):
        if not dashboard.get(key):
            yield f"dashboard: no {key}"
    if not model.panels(dashboard):
        yield "dashboard: no panels"


def _placed(dashboard: Json) -> Iterator[str]:
    found = model.panels(dashboard)
    ids = [one.id for one in found]
    if len(set(ids)) < len(ids) or 0 in ids:
        yield "dashboard: panels without an id of their own"
    for one in found:
        x, _, width, _ = one.box
        if width < 1 or x + width > COLUMNS:
            yield f"{one.title!r}: does not fit into {COLUMNS} columns"
    for one, other in combinations(found, 2):
        if _overlap(one.box, other.box):
            yield f"{one.title!r}: lies over {other.title!r}"


def _overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    (x, y, width, height), (left, top, across, down) = one, other
    return x < left + across and left < x + width and y < top + down and top < y + height


def _variables(dashboard: Json) -> Iterator[str]:
    known = model.variables(dashboard)
    for name in WANTED:
        if name not in known:
            yield f"dashboard: no variable ${name}"
    used = set().union(*(model.used_variables(text) for text in model.texts(dashboard)))
    for name in sorted(set(known) - used):
        yield f"${name}: nothing uses it"
    for name in sorted(used - set(known)):
        yield f"${name}: used, but no variable"
    for name, one in known.items():
        query = model.variable_query(one)
        if one.get("type") == "query" and query is None:
            yield f"${name}: not a query of label_values"
        if query is not None:
            yield from _series(f"${name}", f"{query[0]}")
            yield from _label(f"${name}", model.series_in(query[0])[0], query[1])


def _panels(dashboard: Json) -> Iterator[str]:
    for one in model.panels(dashboard):
        if not one.title:
            yield f"panel {one.id}: no title"
        if not one.is_row:
            yield from _panel(one)


def _panel(one: Panel) -> Iterator[str]:
    name = repr(one.title)
    if not one.about:
        yield f"{name}: no description"
    if not one.unit:
        yield f"{name}: no unit"
    if not one.targets:
        yield f"{name}: no queries"
    for source in (one.source, *(target.source for target in one.targets)):
        if source != "${datasource}":
            yield f"{name}: asks {source or 'the default'}, not $datasource"
    for target in one.targets:
        yield from _series(name, target.expression)
        yield from _rates(name, target.expression)
        if len(one.targets) > 1 and target.legend in ("", "__auto"):
            yield f"{name}: several queries, and one without a legend"
        if one.kind == "table" and not target.instant:
            yield f"{name}: a table of more than the newest values"


def _series(where: str, expression: str) -> Iterator[str]:
    found = model.series_in(expression)
    if not found:
        yield f"{where}: names no series: {expression}"
    for name in found:
        if name in DECLARED and DECLARED[name].kind == "histogram":
            yield f"{where}: {name} is a histogram: ask for its {', '.join(SUFFIXES)}"
        elif name not in FOREIGN and declared(name) is None:
            yield f"{where}: {name} is declared nowhere"
    for braces in model.bad_matchers(expression):
        yield f"{where}: {braces} are no matchers of labels"
    for name, label, match in model.labels_in(expression):
        yield from _label(where, name, label)
        yield from _values(where, name, label, match)


def _label(where: str, name: str, label: str) -> Iterator[str]:
    series = declared(name)
    if series is not None and label not in series.labels and label not in SCRAPED:
        yield f"{where}: {name} has no label {label}"


def _values(where: str, name: str, label: str, match: str) -> Iterator[str]:
    """Plain values, also of alternatives, must be in a closed set."""
    series = declared(name)
    known: tuple[Any, ...] = series.labels.get(label, ()) if series is not None else ()
    for value in match.lstrip("=~!").split("|"):
        if known and value.isalnum() and value not in known:
            yield f"{where}: {name} never has {label}={value!r}"


def _rates(where: str, expression: str) -> Iterator[str]:
    for function, name in model.rates_in(expression):
        series = declared(name)
        if series is None and name not in FOREIGN:
            yield f"{where}: {function} of something that is no series"
        elif series is not None and series.kind == "gauge":
            yield f"{where}: {function} of {name}, which is no counter"
    if model.rates_in(expression) and "[$__rate_interval]" not in expression:
        yield f"{where}: a rate over a fixed time: use $__rate_interval"
