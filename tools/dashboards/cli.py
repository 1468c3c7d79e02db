"""The command line: make the dashboards, check them, or draw one from a Prometheus.

``write`` and ``check`` are parts of ``make chart`` and ``make verify``. ``draw`` shows what Grafana
would: the same panels by the same queries, as one HTML file.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from dashboards import boards, lint
from dashboards.draw import page
from dashboards.prometheus import Prometheus, PrometheusError


def main(arguments: list[str]) -> int:
    """Exit code: 1 for stale or bad dashboards, and where Prometheus does not answer."""
    asked = _parser().parse_args(arguments)
    if asked.command == "write":
        return _write()
    if asked.command == "check":
        return _check()
    return _draw(asked)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python tools/dashboards", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("write", help="write charts/m2r/dashboards/")
    commands.add_parser("check", help="fail if a file is stale or breaks a rule")
    draw = commands.add_parser("draw", help="draw a dashboard from a Prometheus")
    draw.add_argument("board", choices=sorted(boards.BOARDS))
    draw.add_argument("--prometheus", required=True, metavar="URL")
    draw.add_argument("-o", "--out", required=True, type=Path, metavar="FILE.html")
    draw.add_argument("--minutes", type=float, default=60.0, help="back from --end (default 60)")
    draw.add_argument("--scrape", type=float, default=15.0, help="seconds between two scrapes")
    draw.add_argument("--end", type=float, help="Unix time (default: now)")
    draw.add_argument(
        "--set", action="append", default=[], metavar="VARIABLE=VALUE",
        help="a variable of the dashboard; left out: its first value",
    )  # fmt: skip
    return parser


def _write() -> int:
    files = boards.generated()
    boards.FOLDER.mkdir(parents=True, exist_ok=True)
    for path in boards.stale():
        if path in files:
            path.write_text(files[path])
        else:
            path.unlink()
        print(f"dashboards: {path.relative_to(boards.ROOT)}")
    return 0


def _check() -> int:
    found = [
        f"{path.relative_to(boards.ROOT)} is stale: run `make chart`" for path in boards.stale()
    ]
    for name in boards.BOARDS:
        found += [f"{name}: {line}" for line in lint.problems(boards.made(name))]
    for line in found:
        print(f"dashboards: {line}", file=sys.stderr)
    return 1 if found else 0


def _draw(asked: argparse.Namespace) -> int:
    given = dict(one.partition("=")[::2] for one in asked.set)
    end = time.time() if asked.end is None else asked.end
    try:
        text = page(
            boards.read(asked.board),
            Prometheus(asked.prometheus),
            given,
            start=end - 60 * asked.minutes,
            end=end,
            scrape=asked.scrape,
        )
    except PrometheusError as error:
        print(f"dashboards: {error}", file=sys.stderr)
        return 1
    asked.out.write_text(text)
    print(asked.out)
    return 0
