"""A sweep on this machine: what is done already, what can start, and what came of each run.

A run that fails takes those with it that are made from it; the others go on, for a sweep takes
hours. A stop ends all; the same command goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m2r_train.api.errors import M2RError, naming
from m2r_train.api.graph import references
from m2r_train.api.resource import Resource
from m2r_train.api.runspec import RunSpec, RunStorage
from m2r_train.runner import Finished, Results, resolve
from m2r_train.stages.entry import outcome_of
from m2r_train.stages.stop import StopRequest
from m2r_train.sweeps.expansion import Planned

Key = tuple[str, str, str]
Carry = Callable[[RunSpec], Mapping[str, Any]]


@dataclass
class Board:
    """What is known of the runs of a sweep. ``store`` is where all of them write."""

    runs: Sequence[Planned]
    store: RunStorage
    cache_dir: Path
    finished: Results = field(default_factory=dict)
    failed: dict[Key, str] = field(default_factory=dict)
    code: int = 0

    def spec_of(self, run: Planned) -> RunSpec:
        """What its stage is told, when all that it is made from is done. One thread (ADR 13)."""
        job = run.resource.job
        resources = job.spec.resources.model_copy(update={"cpu": "1"})
        spec = job.spec.model_copy(update={"resources": resources})
        one_thread = Resource(
            job=job.model_copy(update={"spec": spec}),
            path=run.resource.path,
            document=run.resource.document,
        )
        with naming(run.resource.where):
            return resolve(
                one_thread,
                self.finished,
                store=self.store,
                default_store=self.store.uri,
                seed=None,
                cache_dir=self.cache_dir,
            )

    def look(self) -> None:
        """Notes every run that the store has done, in order of references."""
        for run in self.runs:
            if self.is_ready(run):
                spec = self.spec_of(run)
                outcome = outcome_of(spec)
                if outcome is not None:
                    self.done(run, spec, outcome)

    def done(self, run: Planned, spec: RunSpec, outcome: Mapping[str, Any]) -> None:
        self.finished[key_of(run)] = Finished(run_spec=spec, outcome=outcome)

    def fail(self, run: Planned, error: M2RError) -> None:
        """It and all that is made from it."""
        self.failed[key_of(run)] = str(error)
        self.code = self.code or error.exit_code
        for other in self.runs:
            if key_of(other) not in self.failed and any(k in self.failed for k in _needs(other)):
                self.failed[key_of(other)] = ""

    def is_done(self, run: Planned) -> bool:
        return key_of(run) in self.finished

    def is_ready(self, run: Planned) -> bool:
        """Neither done nor failed, and all that it is made from is done."""
        key = key_of(run)
        open_ = key not in self.finished and key not in self.failed
        return open_ and all(need in self.finished for need in _needs(run))

    def complaints(self) -> list[str]:
        """A line for each run that failed, and one for those that could not begin."""
        lines = [text for text in self.failed.values() if text]
        lost = [f"{kind}/{name}" for (_, kind, name), text in self.failed.items() if not text]
        return [
            *lines,
            *([f"not run, as what they need failed: {', '.join(lost)}"] if lost else []),
        ]


def carry_all(
    board: Board,
    carriers: Sequence[Carry],
    stop: StopRequest,
    tell: Callable[[str], None],
    quit_: Callable[[], None] = lambda: None,
) -> None:
    """Runs what is not done: as many at once as there are ``carriers``, one in this thread.

    ``quit_`` asks those under way to stop. Raises what a stop raises; failures are on the board.
    """
    waiting = [run for run in board.runs if not board.is_done(run)]
    if len(carriers) == 1:
        while (run := next(filter(board.is_ready, waiting), None)) is not None:
            _settle(board, run, board.spec_of(run), carriers[0], tell)
        return
    free = list(carriers)
    under_way: dict[Future[None], Carry] = {}
    begun: set[Key] = set()
    with ThreadPoolExecutor(len(carriers)) as threads:
        try:
            while True:
                for run in waiting:
                    if free and not stop and key_of(run) not in begun and board.is_ready(run):
                        begun.add(key_of(run))
                        spec, carry = board.spec_of(run), free.pop()
                        under_way[threads.submit(_settle, board, run, spec, carry, tell)] = carry
                if not under_way:
                    break
                for ended in wait(under_way, 0.2, FIRST_COMPLETED).done:
                    free.append(under_way.pop(ended))
                    ended.result()
                if stop:
                    quit_()
        finally:
            quit_()


class LaneStopped(Exception):  # noqa: N818 - says what happened
    """A run was stopped by our own asking, or before it began."""


def _settle(
    board: Board, run: Planned, spec: RunSpec, carry: Carry, tell: Callable[[str], None]
) -> None:
    try:
        with naming(run.resource.where):
            outcome = carry(spec)
    except LaneStopped:
        return
    except M2RError as error:
        if error.exit_code == _STOPPED:
            raise
        board.fail(run, error)
        tell(f"{run.resource.kind}/{run.resource.name}: failed: {error}")
        return
    board.done(run, spec, outcome)
    count = f"{len(board.finished)} of {len(board.runs)}"
    tell(f"{run.resource.kind}/{run.resource.name}: done ({count})")


_STOPPED = 75


def key_of(run: Planned) -> Key:
    """How references name it."""
    return run.resource.namespace, run.resource.kind, run.resource.name


def _needs(run: Planned) -> list[Key]:
    return [(run.resource.namespace, ref.kind, ref.name) for ref in references(run.resource)]
