"""The runs on a terminal: one table that stays in place; elsewhere a line for each change."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any, Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from m2r_train.clusterwatch.board import Row, RunKey

_COLOURS: Final = {
    "Running": "cyan",
    "Succeeded": "green",
    "Failed": "red",
    "Deleted": "red",
    "Missing": "yellow",
    "Preempted": "yellow",
}
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


class Screen:
    """Where rows are shown. ``title``: what is watched."""

    def __init__(self, title: str, *, namespaces: bool, console: Console | None = None) -> None:
        self._console = console or Console()
        self._title, self._namespaces = title, namespaces
        self._live: Live | None = None
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=False)
        self._said: dict[RunKey, str] = {}
        self._trouble = ""

    @property
    def is_live(self) -> bool:
        """Whether time alone changes what is seen (ages)."""
        return self._live is not None

    def open(self) -> AbstractContextManager[Any]:
        """Hold the terminal while rows are shown."""
        return self._live if self._live is not None else nullcontext()

    def show(self, rows: Sequence[Row], trouble: str, now: datetime) -> None:
        """What is known now; ``trouble``: why it may be out of date, or empty."""
        if self._live is not None:
            parts: list[RenderableType] = [Text(self._title, style="bold")]
            parts.append(table(rows, now, namespaces=self._namespaces))
            if trouble:
                parts.append(Text(trouble, style="yellow"))
            self._live.update(Group(*parts), refresh=True)
            return
        if trouble != self._trouble:
            self._trouble = trouble
            sys.stderr.write(f"m2r: {trouble or 'the API server answers again'}\n")
        self._write_changes(rows)

    def _write_changes(self, rows: Sequence[Row]) -> None:
        present = {row.key for row in rows}
        for key in [key for key in self._said if key not in present]:
            del self._said[key]
            self._write(f"{key.namespace}/{key.name} {key.kind} Deleted")
        for row in rows:
            line = line_of(row)
            if self._said.get(row.key) != line:
                self._said[row.key] = line
                self._write(line)

    def _write(self, line: str) -> None:
        self._console.file.write(f"{line}\n")
        self._console.file.flush()


def table(rows: Sequence[Row], now: datetime, *, namespaces: bool) -> Table:
    """The columns of ``kubectl get``, and the last event."""
    columns: list[tuple[str, Callable[[Row], Text | str], bool]] = [
        ("Kind", lambda row: row.key.kind, False),
        ("Name", lambda row: Text(row.key.name), False),
        ("Phase", lambda row: Text(row.phase, style=_COLOURS.get(row.phase, "")), False),
        ("Step", steps, True),
        ("%", lambda row: "" if row.percent is None else str(row.percent), True),
        ("Figure", lambda row: row.figure, True),
        ("Attempt", lambda row: str(row.attempt), True),
        ("Saved", lambda row: "" if row.checkpoint is None else str(row.checkpoint), True),
        ("Age", lambda row: age(row.created, now), True),
        ("Last event", lambda row: Text(row.told), False),
    ]
    if namespaces:
        columns.insert(0, ("Namespace", lambda row: Text(row.key.namespace), False))
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=True)
    for title, _, right in columns:
        last = title == "Last event"
        drawn.add_column(
            title,
            justify="right" if right else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if last else None,
        )
    for row in rows:
        drawn.add_row(*(cell(row) for _, cell, _ in columns))
    return drawn


def line_of(row: Row) -> str:
    """A run in one line, for logs and pipes."""
    words = [f"{row.key.namespace}/{row.key.name}", row.key.kind, row.phase]
    if row.step is not None:
        words.append(f"step {steps(row)} ({row.percent or 0} %)")
    if row.figure:
        words.append(row.figure)
    if row.attempt:
        words.append(f"attempt {row.attempt}")
    if row.checkpoint is not None:
        words.append(f"saved {row.checkpoint}")
    if row.told:
        words.append(f"- {row.told}")
    return " ".join(words)


def steps(row: Row) -> str:
    """Steps done of those planned."""
    if row.step is None:
        return ""
    return f"{row.step}/{row.total}" if row.total else str(row.step)


def age(created: datetime | None, now: datetime) -> str:
    """How long ago, in the largest whole unit, as kubectl says it."""
    if created is None:
        return ""
    seconds = max(0, int((now - created).total_seconds()))
    size, unit = next(((s, u) for s, u in _UNITS if seconds >= s), _UNITS[-1])
    return f"{seconds // size}{unit}"
