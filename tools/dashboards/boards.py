"""All dashboards, and the files they are written to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.fleet_board import fleet_board
from dashboards.operator_board import operator_board
from dashboards.run_board import run_board
from dashboards.synthesis_board import synthesis_board

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "charts" / "m2r" / "dashboards"
BOARDS: Final = {
    "run": run_board,
    "fleet": fleet_board,
    "operator": operator_board,
    "synthesis": synthesis_board,
}


def made(name: str) -> dict[str, Any]:
    """The JSON of a dashboard, as Grafana imports it; panels are numbered in their order."""
    dashboard = BOARDS[name]().build()
    for number, panel in enumerate(dashboard.panels or (), start=1):
        panel.id_val = number
    result: dict[str, Any] = json.loads(json.dumps(dashboard, cls=JSONEncoder))
    for link in result["links"]:
        link.pop("placement", None)  # the SDK hides links in a menu that older Grafanas lack
    return result


def generated() -> dict[Path, str]:
    """Every file of dashboards and what it should contain."""
    return {
        FOLDER / f"{name}.json": json.dumps(made(name), indent=1, sort_keys=True) + "\n"
        for name in BOARDS
    }


def read(name: str) -> dict[str, Any]:
    """The committed JSON of a dashboard."""
    result: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return result


def stale() -> list[Path]:
    """Files that are missing, different, or left over."""
    files = generated()
    wrong = [path for path, text in files.items() if not path.is_file() or path.read_text() != text]
    return sorted([*wrong, *(set(FOLDER.glob("*")) - set(files))])
