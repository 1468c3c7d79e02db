"""Reads the JSON of a dashboard: its panels, queries and variables, and what a query names.

PromQL is read by its tokens, not parsed: a series is a word that no bracket follows and that is no
keyword. Prometheus itself parses every query in the tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Json = Mapping[str, Any]

_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_GROUPING: Final = re.compile(
    r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", re.IGNORECASE
)
_BRACES: Final = re.compile(r"\{[^}]*\}")
_MATCHERS: Final = re.compile(r'\{\s*(?:\w+\s*(?:=~|!~|!=|=)\s*""\s*(?:,\s*|(?=\})))*\}')
_RANGE: Final = re.compile(r"\[[^\]]*\]")
_WORD: Final = re.compile(r"(?<![\w:])[a-zA-Z_:][a-zA-Z0-9_:]*")
_KEYWORDS: Final = frozenset({"and", "or", "unless", "bool", "offset", "by", "without"})
_RATE: Final = re.compile(r"\b(rate|irate|increase)\s*\(\s*([a-zA-Z_:][a-zA-Z0-9_:]*)?")
_VARIABLE: Final = re.compile(r"\$\{(\w+)\}|\$(\w+)")
_LABEL_VALUES: Final = re.compile(r"label_values\((?P<series>.+),\s*(?P<label>\w+)\)")


@dataclass(frozen=True, slots=True)
class Target:
    """One query of a panel."""

    expression: str
    legend: str
    instant: bool
    source: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; ``box`` is (x, y, width, height) in Grafana's grid."""

    id: int
    kind: str
    title: str
    about: str
    unit: str
    source: str
    box: tuple[int, int, int, int]
    targets: tuple[Target, ...]

    @property
    def is_row(self) -> bool:
        """Whether it is a heading."""
        return self.kind == "row"


def panels(dashboard: Json) -> list[Panel]:
    """All panels in their order, headings too."""
    return [_panel(one) for one in dashboard.get("panels", ())]


def variables(dashboard: Json) -> dict[str, Json]:
    """The variables by name."""
    return {one["name"]: one for one in dashboard.get("templating", {}).get("list", ())}


def variable_query(one: Json) -> tuple[str, str] | None:
    """(selector, label) of a variable that asks Prometheus for the values of a label."""
    query = one.get("query")
    text = query.get("query", "") if isinstance(query, Mapping) else str(query or "")
    found = _LABEL_VALUES.fullmatch(text)
    return None if found is None else (found["series"], found["label"])


def series_in(expression: str) -> list[str]:
    """The names of series that a query in PromQL reads, in order, each once."""
    bare = _STRING.sub('""', expression)
    for part in (_BRACES, _RANGE, _GROUPING):
        bare = part.sub(" ", bare)
    found = [
        word[0]
        for word in _WORD.finditer(bare)
        if word[0] not in _KEYWORDS and not bare[word.end() :].lstrip().startswith("(")
    ]
    return list(dict.fromkeys(found))


def bad_matchers(expression: str) -> list[str]:
    """Every pair of braces in a query that holds something else than matchers of labels."""
    bare = _STRING.sub('""', expression)
    return [braces for braces in _BRACES.findall(bare) if not _MATCHERS.fullmatch(braces)]


def labels_in(expression: str) -> list[tuple[str, str, str]]:
    """(series, label, operator and value) of every matcher in a query."""
    found = []
    for name, braces in re.findall(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}", expression):
        for label, operator, value in re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', braces):
            found.append((name, label, f"{operator}{value}"))
    return found


def rates_in(expression: str) -> list[tuple[str, str]]:
    """(function, series) of every rate or increase; an empty series where none stands inside."""
    return [(found[1], found[2] or "") for found in _RATE.finditer(expression)]


def used_variables(text: str) -> set[str]:
    """Names of the variables in a text, Grafana's own (``$__rate_interval``) left out."""
    names = {a or b for a, b in _VARIABLE.findall(text)}
    return {name for name in names if not name.startswith("__")}


def filled(expression: str, values: Mapping[str, str]) -> str:
    """The query with every variable replaced; ``KeyError`` for one that has no value.

    ``values`` has Grafana's own as well, such as ``__rate_interval``.
    """
    return _VARIABLE.sub(lambda found: values[found[1] or found[2]], expression)


def texts(dashboard: Json) -> Iterator[str]:
    """Every text in which variables are replaced: queries, legends, titles, variables' queries."""
    for one in panels(dashboard):
        yield one.title
        for target in one.targets:
            yield from (target.expression, target.legend, target.source)
        yield one.source
    for variable in variables(dashboard).values():
        query = variable_query(variable)
        yield query[0] if query else ""
        yield str((variable.get("datasource") or {}).get("uid", ""))


def _panel(one: Json) -> Panel:
    place = one.get("gridPos", {})
    return Panel(
        id=int(one.get("id") or 0),
        kind=str(one["type"]),
        title=str(one.get("title", "")),
        about=str(one.get("description", "")),
        unit=str(one.get("fieldConfig", {}).get("defaults", {}).get("unit", "")),
        source=_source(one),
        box=(place.get("x", 0), place.get("y", 0), place.get("w", 0), place.get("h", 0)),
        targets=tuple(
            Target(
                expression=str(target.get("expr", "")),
                legend=str(target.get("legendFormat", "")),
                instant=bool(target.get("instant")),
                source=_source(target),
            )
            for target in one.get("targets", ())
        ),
    )


def _source(one: Json) -> str:
    return str((one.get("datasource") or {}).get("uid", ""))
