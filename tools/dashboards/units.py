"""Values as Grafana shows them: the units that the dashboards use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from m2r_train.report.scale import number


def _short(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else number(value)


def _seconds(value: float) -> str:
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if abs(value) >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.2f} s" if abs(value) >= 0.1 or value == 0 else f"{1000 * value:.2f} ms"


def _bytes(value: float) -> str:
    for unit, size in (("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10)):
        if abs(value) >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} B"


def _with(unit: str) -> Callable[[float], str]:
    return lambda value: f"{number(value)} {unit}"


SHOWN: Final[Mapping[str, Callable[[float], str]]] = {
    "short": _short,
    "sci": lambda value: f"{value:.2e}",
    "percentunit": lambda value: f"{100 * value:.1f} %",
    "s": _seconds,
    "bytes": _bytes,
    "mbytes": lambda value: _bytes(value * 2**20),
    "bool": lambda value: "yes" if value else "no",
    "reqps": _with("req/s"),
    "ops": _with("ops/s"),
}


def shown(value: float, unit: str) -> str:
    """A value with its unit; ``KeyError`` for a unit that no dashboard uses."""
    return SHOWN[unit](value)
