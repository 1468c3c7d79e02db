"""The command line: what is to do, doing it, and the page of what came out."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from experiments import kept, page, planning, running
from experiments.catalogue import ROOT, Experiment, experiments
from m2r_train.api.errors import M2RError
from m2r_train.api.runspec import RunStorage
from m2r_train.api.sweep import parse_seeds
from m2r_train.cli import cache_dir
from m2r_train.stages.stop import StopRequest

STORE = ROOT / "m2r-store" / "experiments"


def main(arguments: list[str]) -> int:
    """Exit code: that of the error, as ``m2r``; 1 for failed runs and a stale page."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    asked = _parser().parse_args(arguments)
    try:
        chosen = experiments(asked.names)
        if asked.command == "plan":
            return _plan(asked, chosen)
        if asked.command == "run":
            return _run(asked, chosen)
        return _page(asked)
    except M2RError as error:
        return _complain(getattr(error, "lines", None) or [str(error)], error.exit_code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python tools/experiments", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    plan = commands.add_parser("plan", help="what is done, what is to run, and how long it takes")
    run = commands.add_parser("run", help="run what has no result yet; goes on where it was")
    for one in (plan, run):
        one.add_argument("names", nargs="*", metavar="NAME", help="of experiments (default: all)")
        one.add_argument("--seeds", help="0-4 or 0,3; instead of those of each experiment")
    run.add_argument("--store", default=str(STORE), metavar="URI", help="where runs write")
    run.add_argument("--endpoint", metavar="URL", help="of an S3 server")
    run.add_argument("--lanes", type=int, default=1, help="runs at once, a thread each")
    made = commands.add_parser("page", help="write docs/experiments.md from the results")
    made.add_argument("--check", action="store_true", help="write nothing; fail if it is stale")
    made.set_defaults(names=[])
    return parser


def _seeds(asked: argparse.Namespace, chosen: list[Experiment]) -> list[int]:
    if asked.seeds:
        return list(parse_seeds(asked.seeds))
    return sorted({seed for one in chosen for seed in one.seeds})


def _plan(asked: argparse.Namespace, chosen: list[Experiment]) -> int:
    have = kept.read_all()
    wanted = [_seeds(asked, chosen)] if asked.seeds else [[0, 1, 2], [0, 1, 2, 3, 4]]
    for seeds in wanted:
        print(f"seeds {', '.join(map(str, seeds))}")
        print("\n".join(planning.table([planning.share(one, seeds, have) for one in chosen])))
        print()
    return 0


def _run(asked: argparse.Namespace, chosen: list[Experiment]) -> int:
    if asked.lanes < 1:
        return _complain(["--lanes: must be at least 1; write 1 or 2"], 64)
    uri = asked.store if "://" in asked.store else str(Path(asked.store).absolute())
    if "://" not in uri:
        Path(uri).mkdir(parents=True, exist_ok=True)
    stop = StopRequest()
    with stop.listening():
        failures = running.run_all(
            chosen,
            _seeds(asked, chosen),
            store=RunStorage(uri=uri if "://" in uri else f"file://{uri}", endpoint=asked.endpoint),
            cache_dir=cache_dir(),
            lanes=asked.lanes,
            stop=stop,
        )
    return _complain(failures, 1) if failures else 0


def _page(asked: argparse.Namespace) -> int:
    files = page.generated(experiments(), kept.read_all())
    if asked.check:
        found = [
            f"{path.relative_to(ROOT)} is stale: run `make experiments-page`"
            for path in page.stale(files)
        ]
        return _complain(found, 1) if found else 0
    for path in page.write(files):
        print(f"experiments: {path.relative_to(ROOT)}")
    return 0


def _complain(lines: list[str], code: int) -> int:
    for line in lines:
        print(f"experiments: {line}", file=sys.stderr)
    return code
