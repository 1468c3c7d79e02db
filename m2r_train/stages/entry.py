"""One attempt at one run: find out whether it is done, claim it, run its stage.

Free of torch until a stage has work to do: a run that is done, refused or stopped is told at once.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from m2r_train.api.runspec import GANGS, RunSpec
from m2r_train.engine.ranks import ALONE as ONE_RANK
from m2r_train.engine.ranks import FIRST, Ranks, Seat
from m2r_train.stages.context import Context, preempted
from m2r_train.stages.place import ALONE, Place
from m2r_train.stages.stop import StopNow, StopRequest
from m2r_train.stages.support import refuse_unsupported
from m2r_train.store import (
    Damaged,
    Helper,
    ObjectStore,
    Run,
    RunFinished,
    first_start,
    open_store,
    read_head,
)
from m2r_train.telemetry.metrics import MetricSet
from m2r_train.telemetry.progress import Progress
from m2r_train.telemetry.server import StatusServer

Stage = Callable[[Context], dict[str, Any]]

STAGES: Final[Mapping[str, str]] = {  # modules with a function `run`: most of them import torch
    "DataSynthesisJob": "m2r_train.stages.synthesize",
    "SFTJob": "m2r_train.stages.sft",
    "RLVRJob": "m2r_train.stages.rlvr",
    "EvalJob": "m2r_train.stages.evaluate",
}


def run_stage(
    run_spec: RunSpec,
    *,
    progress: Progress,
    cache_dir: Path,
    stop: StopRequest,
    server: StatusServer | None = None,
    metrics: MetricSet | None = None,
    place: Place = ALONE,
    seat: Seat | None = None,
) -> Mapping[str, Any]:
    """Carry a run to its end, from wherever it stands; returns its outcome.

    ``place`` says which of several pods this is that make parts of the work, ``seat`` which of
    several ranks that compute each step together. Raises ``Preempted`` when a stop was asked for
    and the state is safe, and the other errors of ``api.errors``.
    """
    refuse_unsupported(run_spec.parsed_spec)
    attempt = _Attempt(run_spec, progress, cache_dir, stop, server, metrics or MetricSet(), place)
    if run_spec.kind in GANGS:
        attempt.place, attempt.seat = ALONE, seat or FIRST
    try:
        with stop.at_once():
            return attempt.carry()
    except StopNow:
        done = attempt.context.done if attempt.context is not None else None
        raise preempted(run_spec, stop, done) from None


@dataclass
class _Attempt:
    run_spec: RunSpec
    progress: Progress
    cache_dir: Path
    stop: StopRequest
    server: StatusServer | None
    metrics: MetricSet
    place: Place
    seat: Seat = FIRST
    context: Context | None = None

    def __post_init__(self) -> None:
        self.probe = kill_point()

    def carry(self) -> Mapping[str, Any]:
        store = self._store()
        finished = _outcome(store)
        if finished is None:
            _stage(self.run_spec.kind)  # the long imports come before the claim
        if self.place.helps or self.seat.index > 0:
            return self._help(store) if finished is None else self._done(finished)
        run = Run.claim(
            store, self.run_spec.attempt, probe=self.probe, on_corrupt=self.progress.note
        )
        self._tell(epoch=run.epoch)
        store.put("spec.json", self.run_spec.to_json().encode())  # for people and reports
        done = run.result()
        if done is not None:
            run.journal_clear(done["steps"])  # a kill may have come between the end and this
            return self._done(done)
        context = self._context(run)
        if self.run_spec.kind in GANGS:
            context.started = first_start(store, context.started)
        outcome = _stage(self.run_spec.kind)(context)
        run.finish(outcome)
        run.journal_clear(outcome["steps"])
        return outcome

    def _help(self, store: ObjectStore) -> Mapping[str, Any]:
        helper = Helper(store, self.run_spec.attempt)
        try:
            return _stage(self.run_spec.kind)(self._context(helper))
        except RunFinished:
            return self._done(_outcome(store) or {})

    def _context(self, run: Run | Helper) -> Context:
        self.context = Context(
            run_spec=self.run_spec,
            run=run,
            progress=self.progress,
            metrics=self.metrics,
            cache_dir=self.cache_dir,
            stop=self.stop,
            server=self.server,
            place=self.place,
            ranks=self._ranks(),
            probe=self.probe,
        )
        return self.context

    def _ranks(self) -> Ranks:
        """Waits until all ranks are there."""
        if self.seat.size == 1:
            return ONE_RANK
        from m2r_train.engine.group import Group  # noqa: PLC0415 - torch

        return Group(self.seat, float(self.run_spec.parsed_spec.watchdog.stall_seconds))

    def _done(self, outcome: Mapping[str, Any]) -> Mapping[str, Any]:
        self._tell(step=outcome.get("step"), total_steps=outcome.get("steps"))
        name = f"{self.run_spec.kind}/{self.run_spec.metadata.name}"
        self.progress.note(f"{name}: done before, nothing to do")
        return outcome

    def _store(self) -> ObjectStore:
        storage = self.run_spec.storage

        def count_error(operation: str, error: str) -> None:
            shown = self.metrics if self.context is None else self.context.metrics
            shown.inc("m2r_store_errors_total", operation=operation, error=error)

        return open_store(
            storage.uri, endpoint=storage.endpoint, region=storage.region, on_error=count_error
        ).under(self.run_spec.run_prefix)

    def _tell(self, **what: Any) -> None:
        if self.server is not None:
            self.server.update(**what)


def outcome_of(run_spec: RunSpec) -> Mapping[str, Any] | None:
    """The outcome of a run that is finished; None for any other."""
    storage = run_spec.storage
    store = open_store(storage.uri, endpoint=storage.endpoint, region=storage.region)
    return _outcome(store.under(run_spec.run_prefix))


def _outcome(store: ObjectStore) -> Mapping[str, Any] | None:
    """The outcome of a finished run: one read."""
    try:
        head = read_head(store)
    except Damaged:
        return None  # the claim recovers it
    return head.result if head is not None and head.done else None


def _stage(kind: str) -> Stage:
    with _no_collections():
        stage: Stage = import_module(STAGES[kind]).run
    return stage


@contextmanager
def _no_collections() -> Iterator[None]:
    """Imports make a million objects that stay; looking for garbage among them takes a fifth."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if enabled:
            gc.enable()


def kill_point() -> Callable[[str], None]:
    """Test hook: ``M2R_KILL_AT=<point>:<n>`` kills this process the nth time it passes a point.

    The resume tests need deaths inside saves, uploads and commits; nothing else reads it.
    """
    wanted, _, count = os.environ.get("M2R_KILL_AT", "").partition(":")
    if not wanted:
        return lambda _name: None
    left = int(count or "1")

    def probe(name: str) -> None:
        nonlocal left
        if name == wanted:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return probe
