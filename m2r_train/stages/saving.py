"""Saving a run's state while training goes on, and finding it again.

A save has two parts. Training waits while the state is copied to host memory; a thread then
commits the copy (files, manifest, HEAD), clears the journal and prunes. One commit is on its way
at a time, so that they stay in order; the next save waits for it. What goes wrong in the thread
is raised at the next boundary of a step, so that it ends the run with the same exit code as if
training had waited.

A checkpoint holds the engine's state (safetensors) and the records that a report is made from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final

from m2r_train.api.common import Checkpoint as CheckpointSpec
from m2r_train.api.rlvr import RLVRSpec
from m2r_train.api.sft import SFTSpec
from m2r_train.core.goodput import goodput
from m2r_train.core.intervals import give_up
from m2r_train.stages.attempt import Attempt
from m2r_train.stages.flight import Flight, GivenUp
from m2r_train.stages.pace import Pace
from m2r_train.telemetry.history import History, Scalar, from_lines, to_lines

if TYPE_CHECKING:
    from torch import Tensor

    from m2r_train.engine.snapshot import Snapshot

    State = Callable[[], Mapping[str, Tensor]]

_STATE = "state.safetensors"
_HISTORY = "history.jsonl"
_TIMINGS = "timings.jsonl"
_TRACES = "traces.jsonl"

_LOOK_SECONDS: Final = 0.1  # how often a wait looks at the clock and for a stop


class Saver:
    """The saves of one attempt. A context: what is on its way at the end is waited for.

    ``newest`` is the step of the newest state that is committed or on its way, ``committed`` that
    of the newest committed one.
    """

    def __init__(self, ctx: Attempt) -> None:
        self._ctx = ctx
        self._flight: Flight | None = None
        self._snapshot: Snapshot | None = None
        self._rate: float | None = None  # bytes a second of the last commit
        self._waited = False
        self.newest = self.committed = 0
        self.pace = Pace(_spec_of(ctx))

    # finding a state

    def restore(self, load_state: Callable[[Mapping[str, Tensor]], None], keep: int) -> int:
        """Load the newest good checkpoint, if there is one; returns its step, 0 without one.

        What earlier attempts left half-saved goes now: attempts that die in their first save
        would otherwise fill the store.
        """
        ctx = self._ctx
        started = time.monotonic()
        checkpoint = ctx.owned.latest() if ctx.ranks.leads else None
        step = int(ctx.ranks.share(checkpoint.step if checkpoint is not None else 0))
        if step:
            self._load(checkpoint.files if checkpoint is not None else {}, load_state)
            self.newest = self.committed = step
            ctx.metrics.set("m2r_checkpoint_last_step", step)
            ctx.metrics.set("m2r_goodput_ratio", self._goodput(ctx.timings.rows))
        if checkpoint is None:
            return step
        ctx.owned.prune(keep)
        seconds = time.monotonic() - started
        ctx.metrics.observe("m2r_checkpoint_seconds", seconds, phase="restore")
        ctx.progress.note(f"resumed from step {checkpoint.step} ({checkpoint.uri})")
        ctx.tell(last_checkpoint={"uri": checkpoint.uri, "step": checkpoint.step})
        return step

    def _load(
        self, files: Mapping[str, bytes], load_state: Callable[[Mapping[str, Tensor]], None]
    ) -> None:
        """Rank 0 has read the ``files``, and tells the others."""
        from safetensors.torch import load  # noqa: PLC0415 - torch

        def told(name: str) -> bytes:
            data = self._ctx.ranks.share_bytes(files[name] if files else None)
            assert data is not None
            return data if isinstance(data, bytes) else bytes(data)

        ctx = self._ctx
        load_state(load(told(_STATE)))
        ctx.history = History.from_bytes(told(_HISTORY), _HISTORY)
        ctx.timings = History.from_bytes(told(_TIMINGS), _TIMINGS)
        ctx.traces = from_lines(told(_TRACES), _TRACES)

    # saving

    def due(self, done: int, every: int) -> bool:
        """Whether the state after ``done`` steps is to be saved; ``every``: as the spec says."""
        if not self.pace.auto:
            return done % every == 0
        return done - self.newest >= self._interval(every)

    def _interval(self, most: int) -> int:
        steps, news = self.pace.interval(most)
        if steps is None:
            return 1  # the first save shows what one costs
        self._ctx.metrics.set("m2r_checkpoint_interval_steps", steps)
        if news:
            self._ctx.progress.note(f"a checkpoint every {steps} steps: {self.pace}")
        return steps

    def save(
        self, done: int, state: State, keep: int, timing: Mapping[str, Scalar] | None = None
    ) -> bool:
        """Copy the state after ``done`` steps and send it on its way.

        ``timing``: seconds of the last of them by phase, where they are not in the timings yet.
        Waits for an earlier save first. False, with nothing sent, where a stop leaves no time.
        All ranks give their part of the state; rank 0 saves it.
        """
        ctx = self._ctx
        if not ctx.ranks.share(self._make_way() if ctx.ranks.leads else None):
            return False
        if not ctx.ranks.leads:
            state()
            self.newest = self.committed = done
            return True
        ctx.probe("before-save")
        ctx.tell(phase="Saving")
        started = time.monotonic()
        data = self._copy(state())
        timings = (*ctx.timings.rows, *([timing] if timing is not None else []))
        gauges = {
            "m2r_checkpoint_last_step": done,
            "m2r_checkpoint_last_timestamp_seconds": time.time(),
            "m2r_goodput_ratio": self._goodput(timings),
        }
        notes = {
            _HISTORY: ctx.history.rows,
            _TIMINGS: timings,
            _TRACES: tuple(ctx.traces),
        }
        traced = dict(ctx.trace_files)
        blocking = time.monotonic() - started
        ctx.metrics.observe("m2r_checkpoint_seconds", blocking, phase="snapshot")
        self.pace.blocking = blocking
        ctx.probe("after-snapshot")

        def work(flight: Flight) -> None:
            files: dict[str, bytes | memoryview] = {_STATE: data}
            files |= {name: to_lines(rows) for name, rows in notes.items()}
            self._put_traces(traced)
            self._commit(flight, files, keep, gauges)
            for key in traced:
                ctx.trace_files.pop(key, None)

        self.newest = done
        self._flight = Flight(done, len(data), work)
        ctx.tell(phase="Running")
        return True

    def _put_traces(self, traced: Mapping[str, bytes]) -> None:
        """Before their checkpoint: a commit that is given up leaves them to the next one."""
        ctx = self._ctx
        if not traced:
            return
        ctx.owned.verify_fence()
        for key, data in traced.items():
            ctx.run.store.put(key, data)
        ctx.probe("after-traces")

    def _goodput(self, kept: Sequence[Mapping[str, Scalar]]) -> float:
        return goodput(kept, self._ctx.started, time.time())

    def _copy(self, state: Mapping[str, Tensor]) -> memoryview:
        if self._snapshot is None:
            from m2r_train.engine.snapshot import Snapshot  # noqa: PLC0415 - torch

            self._snapshot = Snapshot()
        return self._snapshot.take(state)

    def _commit(
        self,
        flight: Flight,
        files: Mapping[str, bytes | memoryview],
        keep: int,
        gauges: Mapping[str, float],
    ) -> None:
        """The thread's part. Only what HEAD names is told; only then may anything go."""
        ctx, run, done = self._ctx, self._ctx.owned, flight.step
        started = time.monotonic()
        checkpoint = run.commit(done, files, {"seed": ctx.seed}, watch=flight.watch)
        size = sum(map(len, files.values()))
        self._rate = size / max(1e-9, time.monotonic() - started)
        self.committed = done
        for name, value in {**gauges, "m2r_checkpoint_bytes": size}.items():
            ctx.metrics.set(name, value)
        ctx.tell(last_checkpoint={"uri": checkpoint.uri, "step": done, "time": time.time()})
        run.journal_clear(done)
        run.prune(keep)
        self.pace.upload = time.monotonic() - started
        ctx.metrics.observe("m2r_checkpoint_seconds", self.pace.upload, phase="upload")
        ctx.probe("after-save")

    # waiting

    def check(self) -> None:
        """Raise what went wrong in the thread, if it has ended so. Costs nothing: call it often."""
        if self._flight is not None and self._flight.ended():
            self._land()

    def settle(self) -> bool:
        """Wait until everything is committed; False where a stop leaves no time for that.

        The other ranks wait for rank 0.
        """
        return bool(self._ctx.ranks.share(self._settled() if self._ctx.ranks.leads else None))

    def _settled(self) -> bool:
        while self._flight is not None:
            if self._flight.ended(_LOOK_SECONDS):
                self._land()
            elif self._time_is_up():
                self._flight.give_up()
                return False
        return True

    def _make_way(self) -> bool:
        """Wait for the save on its way; where both do not fit into what a stop leaves, it goes."""
        self.check()
        flight, started = self._flight, time.monotonic()
        if flight is None:
            return not self._time_is_up()
        while not flight.ended(_LOOK_SECONDS):
            left = self._ctx.seconds_left()
            if left is not None and left <= 0:
                flight.give_up()
                return False
            rate = self._rate or flight.rate
            if left is None or rate is None:
                continue
            if give_up(left, rest=flight.left / rate, whole=flight.size / rate):
                flight.give_up()
        self._tell_of_wait(flight, time.monotonic() - started)
        self._land()
        return True

    def _land(self) -> None:
        flight, self._flight = self._flight, None
        assert flight is not None
        if isinstance(flight.error, GivenUp):
            self._ctx.progress.note(
                f"the checkpoint of step {flight.step} was given up: the grace period has no time "
                "for it"
            )
        elif flight.error is not None:
            raise flight.error

    def _tell_of_wait(self, flight: Flight, seconds: float) -> None:
        self._ctx.metrics.inc("m2r_checkpoint_wait_seconds_total", seconds)
        if not self._waited and seconds > 2 * _LOOK_SECONDS:
            self._waited = True
            self._ctx.progress.note(
                f"waited {seconds:.1f} s for the checkpoint of step {flight.step} to be stored: "
                "save less often (checkpoint.everySteps) or use a faster store"
            )

    def _time_is_up(self) -> bool:
        left = self._ctx.seconds_left()
        return left is not None and left <= 0

    def __enter__(self) -> None:
        if _spec_of(self._ctx) is not None:  # work that is lost with the pod from now on
            self._ctx.metrics.set("m2r_checkpoint_last_timestamp_seconds", time.time())
        self.pace.begin_step()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """After a mishap of training what was copied before still counts, and is committed."""
        if kind is None:
            self._settled()
        elif issubclass(kind, Exception) and self._flight is not None:
            while not self._flight.ended(_LOOK_SECONDS) and not self._time_is_up():
                pass


def records(ctx: Attempt) -> dict[str, bytes]:
    """What the run has noted so far, as files."""
    return {
        _HISTORY: ctx.history.to_bytes(),
        _TIMINGS: ctx.timings.to_bytes(),
        _TRACES: to_lines(ctx.traces),
    }


def _spec_of(ctx: Attempt) -> CheckpointSpec | None:
    spec = ctx.run_spec.parsed_spec
    return spec.checkpoint if isinstance(spec, SFTSpec | RLVRSpec) else None
