"""Scores as text, in the look of lm-evaluation-harness: a Markdown table, a line a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_COLUMNS = ("Benchmark", "Rule", "Metric", "", "Value", "", "Stderr", "95 % interval", "n")
_GREEDY = "greedy/overall"
_NUMBERS = frozenset({4, 6, 8})
_OVERALL = "overall"
_LOWER_IS_BETTER = frozenset({"ik", "ig", "rm_strict", "rm_loose"})  # We-Math's ways of failing


def markdown(columns: Sequence[str], numbers: frozenset[int], rows: Sequence[Sequence[str]]) -> str:
    """A padded Markdown table; the columns ``numbers`` are aligned to the right."""
    cells = [[_escaped(cell) for cell in row] for row in rows]
    widths = [max(len(c) for c in column) for column in zip(columns, *cells, strict=True)]
    widths = [max(width, 3) for width in widths]
    head = "|".join(name.center(width) for name, width in zip(columns, widths, strict=True))
    rule = "|".join(
        "-" * (width - 1) + ":" if place in numbers else "-" * width
        for place, width in enumerate(widths)
    )
    body = (
        "|".join(
            cell.rjust(width) if place in numbers else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    )
    return "\n".join(f"|{line}|" for line in (head, rule, *body)) + "\n"


def results_markdown(results: Mapping[str, Any]) -> str:
    """``eval/results.json`` as a table in percent, the headline of each benchmark first, under the
    name that the benchmark has for it.

    Of other views of the same answers (``greedy/``, ``subject/``) only the headline of the greedy
    ones is here; ``results.json`` has them all. A figure that is undefined has a dash.
    """
    protocols = results.get("protocols", {})
    rows: list[list[str]] = []
    for benchmark, scores in results["benchmarks"].items():
        protocol = protocols.get(benchmark, {})
        intervals = results.get("intervals", {}).get(benchmark, {})
        own = protocol.get("headline", _OVERALL)
        shown = sorted(
            (n for n in scores if ("/" not in n and n != own) or n in (_OVERALL, _GREEDY)),
            key=lambda name: (name != _OVERALL, name != _GREEDY),
        )
        names = {_OVERALL: own, _GREEDY: f"greedy/{own}"}
        for name in shown:
            first = name == shown[0]
            leading = [benchmark, protocol.get("rule", "")] if first else ["", ""]
            cells = _figures(name, scores[name], intervals.get(name))
            rows.append([*leading, names.get(name, name), *cells])
    return markdown(_COLUMNS, _NUMBERS, rows)


def _figures(name: str, score: Mapping[str, Any], interval: Sequence[float] | None) -> list[str]:
    between = "" if interval is None else f"[{interval[0]:.2f}, {interval[1]:.2f}]"
    better = "↓" if name in _LOWER_IS_BETTER else "↑"
    value, stderr = _number(score["value"]), _number(score["stderr"])
    return [better, value, "±", stderr, between, str(score["n"])]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _escaped(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
