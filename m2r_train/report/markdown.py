"""Markdown from text that users and models wrote: tables and code that it cannot break out of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

_ACTIVE = re.compile(r"([\\`*_\[\]|~$@!]|^[#+\-=]|(?<=^\d)[.)](?=\s|$)|:(?=//))")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_MAX_TEXT = 200


def plain(text: object, limit: int = _MAX_TEXT) -> str:
    """Text on one line that Markdown and HTML leave as it is."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    if len(line) > limit:
        line = line[: limit - 1] + "…"
    line = _ACTIVE.sub(r"\\\1", line)
    return "".join(_HTML.get(c, c) for c in line)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; numbers are to the right, with thousands separated. Text goes through `plain`."""
    body = [[_cell(value) for value in row] for row in rows]
    first = body[0] if body else [("", False)] * len(head)
    rule = ["---:" if is_number else "---" for _, is_number in first]
    lines = [_row(head), _row(rule), *(_row([text for text, _ in row]) for row in body)]
    return "\n".join(lines) + "\n"


def fenced(text: str, language: str = "") -> str:
    """A block of code whose fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"


def front_matter(fields: Mapping[str, Any]) -> str:
    """The YAML header of a card."""
    return f"---\n{to_yaml(fields)}---\n"


def to_yaml(value: Any) -> str:
    """Block style, in the order given, no aliases."""
    dumper = type("_Dumper", (yaml.SafeDumper,), {"ignore_aliases": lambda _self, _data: True})
    text: str = yaml.dump(value, Dumper=dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


def _cell(value: object) -> tuple[str, bool]:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}", True
    return plain(value), False


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
