"""The quickstart's runs under a real Prometheus with the chart's rules: no alert may fire.

    python bench/bench_healthy.py [--steps 1600] [--minutes 30]

Data, SFT and RLVR of ``examples/quickstart`` run as pods run them, one after another, scraped each
half second; RLVR gets so many steps, and runs again where that did not fill the time. What is asked
in the end is the server's own series ``ALERTS`` over the whole time. An alert that had nothing to
look at was not silent but blind: it is named, and is a failure unless its series need what this
machine has not.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import yaml
from promserver import Server, prometheus
from runs import M2R, Manifests, change, run, write
from watched import operator, watch

from m2r_train.telemetry.rules import ALERTS, Alert

ROOT = Path(__file__).resolve().parent.parent
QUICKSTART = ROOT / "examples" / "quickstart"
NAMES = ("data", "sft", "curriculum", "rlvr")
KINDS = {"data": "DataSynthesisJob", "sft": "SFTJob", "rlvr": "RLVRJob"}  # those that are watched
BLIND = {"M2RIdleGPU": "dcgm-exporter's series; this machine has no GPU"}
_SERIES = re.compile(r"\b(?:m2r_[a-z_]+|namespace_run_kind_run:[A-Za-z0-9_:]+)\b")
FIRST_STEPS = 20  # of the run whose inputs the watched one reads; at least its warm-up
LONGEST = 7200.0  # seconds of one run
STEP_SECONDS = 1.0  # between two looks at ALERTS


def quickstart(rlvr_steps: int) -> Manifests:
    """The quickstart's manifests without its evaluations; of RLVR a few steps."""
    texts = (path.read_text() for path in sorted(QUICKSTART.glob("*.yaml")))
    found = (d for text in texts for d in yaml.safe_load_all(text))
    kept = {d["metadata"]["name"]: d for d in found if d["metadata"]["name"] in NAMES}
    return change(kept, "rlvr", "steps", rlvr_steps)


def fired(server: Server, start: float, end: float) -> tuple[list[str], list[str]]:
    """What fired, and what only came to wait, each with its seconds."""
    told: dict[str, list[str]] = {"firing": [], "pending": []}
    for one in server.api.range("ALERTS", start, end, STEP_SECONDS):
        name, run_name = one.labels["alertname"], one.labels.get("run", "-")
        told[one.labels["alertstate"]].append(f"{name} of {run_name}: {len(one.points)} s")
    return told["firing"], told["pending"]


def unseen(server: Server, alert: Alert, start: float, end: float) -> list[str]:
    """Series that an alert looks at and that never were there."""
    length = f"{math.ceil(end - start)}s"
    names = sorted(set(_SERIES.findall(alert.expression)))
    return [n for n in names if not server.api.at(f"count_over_time({n}[{length}])", end)]


def main() -> int:
    """Run, ask, print markdown; 1 where an alert fired, was blind, or the time was too short."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1600, help="of RLVR")
    parser.add_argument("--minutes", type=float, default=30.0, help="the least that is watched")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="m2r-healthy-") as name:
        home = Path(name)
        m2r = M2R(home, patience=LONGEST)
        manifests = write(quickstart(FIRST_STEPS), home / "manifests")
        golden = run(m2r, manifests, (home / "store").as_uri())
        rules = ROOT / "charts" / "m2r" / "rules.yaml"
        try:
            watched = [(kind, name) for name, kind in KINDS.items()]
            with (
                prometheus(home / "prometheus", rules) as server,
                operator(server, running=watched),
            ):
                start = time.time()
                for stage in ("data", "sft"):
                    watch(server, golden, m2r, stage, home / stage, within=LONGEST)
                runs, steps = 0, {"steps": args.steps}
                while runs == 0 or time.time() - start < 60 * args.minutes:
                    runs += 1
                    own = home / f"rlvr-{runs}"
                    watch(server, golden, m2r, "rlvr", own, steps=steps, within=LONGEST)
                end = time.time()
                firing, pending = fired(server, start, end)
                blind = {a.name: unseen(server, a, start, end) for a in ALERTS}
        finally:
            m2r.kill_all()
    minutes = (end - start) / 60
    done = f"{runs} times {args.steps} steps of RLVR"
    print(f"{minutes:.1f} minutes, {done}, {len(ALERTS)} alerts\n")
    print(f"fired: {', '.join(firing) or 'none'}\n\nonly waited: {', '.join(pending) or 'none'}\n")
    blind = {name: series for name, series in blind.items() if series}
    for alert, series in sorted(blind.items()):
        print(f"no data for {alert}: {', '.join(series)}; {BLIND.get(alert, 'NOT EXPECTED')}")
    return 1 if firing or blind.keys() - BLIND.keys() else 0


if __name__ == "__main__":
    sys.exit(main())
