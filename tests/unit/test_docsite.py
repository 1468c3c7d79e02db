"""The documentation site: every page can be reached; the figures of sizing are the formula's."""

from __future__ import annotations

from pathlib import Path

import docsite
import yaml

from m2r_train.core.sizing import QWEN25_VL_7B, state_bytes

ROOT = Path(__file__).resolve().parents[2]
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text())


def test_no_page_is_lost_and_none_is_listed_twice() -> None:
    found = docsite.pages(ROOT / "docs")
    listed = list(docsite.listed(docsite.completed(CONFIG["nav"], found)))
    assert sorted(listed) == found


def test_decisions_are_a_section_and_forgotten_pages_too() -> None:
    nav = [{"Start": "index.md"}, {"Data": [{"Own": "own.md"}, "more.md"]}]
    found = ["adr/0001-a.md", "adr/0002-b.md", "index.md", "lost.md", "more.md", "own.md"]
    assert docsite.completed(nav, found) == [
        *nav,
        {"Decisions": ["adr/0001-a.md", "adr/0002-b.md"]},
        {"More": ["lost.md"]},
    ]
    assert docsite.completed(nav, ["index.md", "more.md", "own.md"]) == nav


def test_dead_links_pages_and_anchors_end_the_build() -> None:
    assert set(CONFIG["validation"].values()) == {"warn"}
    assert "mkdocs --quiet build --strict" in (ROOT / "Makefile").read_text()


def test_the_figures_of_sizing_are_those_of_the_formula() -> None:
    page = (ROOT / "docs/sizing.md").read_text()
    frozen, learnt = state_bytes(1, 0), state_bytes(1, 1)
    assert f"| weights | {frozen:.0f} a parameter |" in page
    assert f"| {learnt - frozen:.0f} a parameter that learns |" in page
    whole = QWEN25_VL_7B.parameters
    state = state_bytes(whole, whole, sharding="Zero3", ranks=8)
    assert (
        f"{state / 1e9:.0f} GB of state each, a whole reference of {2 * whole / 1e9:.0f} GB" in page
    )
