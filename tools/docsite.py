"""Hooks of ``mkdocs.yml``: the part of the navigation that follows from the files.

Decisions are listed by number, and pages that the navigation forgets stand under "More": no page
is lost. mkdocs gives a page its own heading as title. Runs in ``.venv-docs``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

DECISIONS = "adr"


def on_config(config: Any) -> Any:
    """Complete ``nav``; mkdocs calls this with its configuration."""
    config["nav"] = completed(config["nav"], pages(Path(config["docs_dir"])))
    return config


def pages(docs: Path) -> list[str]:
    """All pages, relative to the folder, sorted."""
    return sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))


def completed(nav: list[Any], found: list[str]) -> list[Any]:
    """The navigation with the sections Decisions and, where a page is left, More."""
    named = set(listed(nav))
    rest = [page for page in found if page not in named]
    decisions = [page for page in rest if PurePosixPath(page).parts[0] == DECISIONS]
    more = [page for page in rest if page not in decisions]
    return [
        *nav,
        *([{"Decisions": decisions}] if decisions else []),
        *([{"More": more}] if more else []),
    ]


def listed(nav: Any) -> Iterator[str]:
    """Every page that a navigation names."""
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        for item in nav.values():
            yield from listed(item)
    else:
        for item in nav:
            yield from listed(item)
