"""``m2r report --compare --claim``: which runs are a claim's, its page and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from m2r_train.api.claim import load_claim
from m2r_train.api.errors import ConfigError
from m2r_train.api.runspec import RunStorage
from m2r_train.claims import ArmRun, arm_run, claim_figures, labelled_runs
from m2r_train.report.claimpage import render_claim
from m2r_train.report.templating import write_page
from m2r_train.reporting import StoredRun, find_runs
from m2r_train.store import open_store
from m2r_train.sweeps.command import board_of, planned
from m2r_train.sweeps.running import Board, key_of


def judge(
    path: Path,
    uris: Sequence[str],
    out: Path,
    *,
    endpoint: str | None,
    of_sweep: Path | None,
    cache_dir: Path,
) -> dict[str, Any]:
    """Writes the page of the claim of ``path`` over the runs at ``uris``; returns its figures.

    ``of_sweep``: only the runs of that sweep's file, in the one store of ``uris``. Raises
    SpecErrors for a wrong claim or sweep, DataError for runs without what the claim names.
    """
    claim = load_claim(path)
    if of_sweep is None:
        own = labelled_runs(find_runs(uris, endpoint=endpoint), claim)
    else:
        own = _of_sweep(of_sweep, uris, endpoint, cache_dir)
    figures = claim_figures(claim, own, file=str(path))
    write_page(render_claim(figures), out)
    return figures


def _of_sweep(
    sweep: Path, uris: Sequence[str], endpoint: str | None, cache_dir: Path
) -> list[ArmRun]:
    if len(uris) != 1:
        raise ConfigError(f"--sweep needs one store, and {len(uris)} are given; name its root")
    uri = uris[0] if "://" in uris[0] else Path(uris[0]).absolute().as_uri()
    storage = RunStorage(uri=uri, endpoint=endpoint)
    return finished_arms(board_of(planned(sweep, None), storage, cache_dir))


def finished_arms(board: Board) -> list[ArmRun]:
    """The runs of arms that are done: exactly those of the sweep as it stands now."""
    store = open_store(board.store.uri, endpoint=board.store.endpoint)
    found = []
    for run in board.runs:
        if board.is_done(run) and run.arm is not None and run.seed is not None:
            spec = board.finished[key_of(run)].run_spec
            stored = StoredRun(store.under(spec.run_prefix), spec)
            found.append(arm_run(stored, run.base, run.arm, run.seed))
    return found
