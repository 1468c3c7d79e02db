"""Runs what has no JSON yet, by the code of ``m2r sweep``, and keeps each run when it is done.

Seed by seed, and within a seed the experiment with the least to do first: a night that ends early
leaves whole experiments. What the store has is not run again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments import kept, planning
from experiments.catalogue import Experiment, Run
from m2r_train.api.runspec import RunSpec, RunStorage
from m2r_train.reporting import StoredRun
from m2r_train.stages.stop import StopRequest
from m2r_train.store import open_store
from m2r_train.sweeps.command import RunsFailed, run_sweep
from m2r_train.sweeps.expansion import Planned
from m2r_train.sweeps.running import Board


@dataclass
class KeepingBoard(Board):
    """A board that tells of every run that is done, be it now or in an earlier night."""

    keep: Callable[[Planned, RunSpec], None] = field(default=lambda _run, _spec: None)

    def done(self, run: Planned, spec: RunSpec, outcome: Mapping[str, Any]) -> None:
        super().done(run, spec, outcome)
        self.keep(run, spec)


def run_all(
    experiments: Sequence[Experiment],
    seeds: Sequence[int],
    *,
    store: RunStorage,
    cache_dir: Path,
    lanes: int,
    stop: StopRequest,
    results: Path = kept.RESULTS,
) -> list[str]:
    """Makes what is missing. Returns a line for each run that failed; raises what a stop raises."""
    failures: list[str] = []
    for seed in seeds:
        have = kept.read_all(results)
        for experiment in planning.cheapest_first(experiments, seed, have):
            todo = planning.missing(experiment.runs(seed), kept.read_all(results))
            if not todo:
                continue
            print(f"experiments: {experiment.name}, seed {seed}: {len(todo)} runs", flush=True)
            board = _board(todo, store, cache_dir, results)
            try:
                run_sweep(board, lanes, stop)
            except RunsFailed as failed:
                failures += failed.lines
    return failures


def _board(todo: Sequence[Run], store: RunStorage, cache_dir: Path, results: Path) -> Board:
    by_planned = {id(one.planned): one for one in todo}

    def keep(planned: Planned, spec: RunSpec) -> None:
        run = by_planned[id(planned)]
        if run.is_kept:
            opened = open_store(store.uri, endpoint=store.endpoint, region=store.region)
            stored = StoredRun(opened.under(spec.run_prefix), spec)
            print(f"experiments: {kept.write(run, stored, results).name}", flush=True)

    board = KeepingBoard([one.planned for one in todo], store, cache_dir, keep=keep)
    board.look()
    return board
