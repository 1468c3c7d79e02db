"""What ``m2r sweep`` does, given its options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from m2r_train.api.errors import M2RError, Preempted, naming
from m2r_train.api.runspec import RunSpec, RunStorage
from m2r_train.api.sweep import Sweep, load_sweep, parse_seeds
from m2r_train.runner import carried
from m2r_train.stages.stop import StopRequest
from m2r_train.stages.support import refuse_unsupported
from m2r_train.sweeps.expansion import Planned, expand, load_base
from m2r_train.sweeps.lanes import Lane
from m2r_train.sweeps.running import Board, Carry, carry_all
from m2r_train.telemetry.progress import Progress


class RunsFailed(M2RError):  # noqa: N818 - says what happened
    """Some runs of a sweep failed; the code is that of the first."""

    def __init__(self, lines: list[str], exit_code: int) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines
        self.exit_code = exit_code


def planned(file: Path, seeds: str | None, sweep: Sweep | None = None) -> list[Planned]:
    """Every run of the sweep of ``file``; SpecErrors for what is wrong with it.

    A ``sweep`` that is given was read from no file; then ``file`` is what messages begin with.
    """
    if sweep is None:
        sweep = load_sweep(file)
    if seeds is not None:
        sweep = sweep.model_copy(update={"seeds": parse_seeds(seeds)})
    return expand(sweep, load_base(sweep, file), file)


def board_of(runs: list[Planned], store: RunStorage, cache_dir: Path) -> Board:
    """What the store has of them."""
    board = Board(runs, store, cache_dir)
    board.look()
    return board


def run_sweep(board: Board, lanes: int, stop: StopRequest) -> None:
    """Runs what is not done. Raises `RunsFailed` for failures, ``Preempted`` for a stop."""
    for run in board.runs:  # before the first has run for hours
        with naming(run.resource.where):
            refuse_unsupported(run.resource.spec)
    with Progress() as progress:
        if lanes == 1:

            def here(spec: RunSpec) -> Mapping[str, Any]:
                return carried(spec, progress, board.cache_dir, stop)

            carry_all(board, [here], stop, progress.note)
        else:
            _in_lanes(board, lanes, stop, progress)
    if board.failed:
        raise RunsFailed(board.complaints(), board.code)


def _in_lanes(board: Board, lanes: int, stop: StopRequest, progress: Progress) -> None:
    processes = [Lane(stop) for _ in range(lanes)]
    carriers: list[Carry] = list(processes)

    def ask_all() -> None:
        for lane in processes:
            lane.ask_to_stop()

    try:
        carry_all(board, carriers, stop, progress.note, ask_all)
    finally:
        for lane in processes:
            lane.close()
    if stop and any(board.is_ready(run) for run in board.runs):
        raise Preempted(f"stopped by {stop.reason}, state saved; the same command goes on")
