"""Saving a run's state and its records, and finding them again.

A checkpoint holds the engine's state (safetensors) and the records that a report is made from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from m2r_train.store import Checkpoint
from m2r_train.telemetry.history import History, from_lines, to_lines

if TYPE_CHECKING:
    from torch import Tensor

    from m2r_train.stages.context import Context

_STATE = "state.safetensors"
_HISTORY = "history.jsonl"
_TIMINGS = "timings.jsonl"
_TRACES = "traces.jsonl"


def records(ctx: Context) -> dict[str, bytes]:
    """What the run has noted so far, as files."""
    return {
        _HISTORY: ctx.history.to_bytes(),
        _TIMINGS: ctx.timings.to_bytes(),
        _TRACES: to_lines(ctx.traces),
    }


def restore(ctx: Context, load_state: Callable[[Mapping[str, Tensor]], None], keep: int) -> int:
    """Load the newest good checkpoint, if there is one; returns its step, 0 without one.

    What earlier attempts left half-saved goes now: attempts that die in their first save would
    otherwise fill the store.
    """
    started = time.monotonic()
    checkpoint = ctx.owned.latest()
    if checkpoint is None:
        return 0
    _load(ctx, checkpoint, load_state)
    ctx.owned.prune(keep)
    seconds = time.monotonic() - started
    ctx.metrics.observe("m2r_checkpoint_seconds", seconds, phase="restore")
    ctx.progress.note(f"resumed from step {checkpoint.step} ({checkpoint.uri})")
    ctx.tell(last_checkpoint={"uri": checkpoint.uri, "step": checkpoint.step})
    return checkpoint.step


def _load(
    ctx: Context, checkpoint: Checkpoint, load_state: Callable[[Mapping[str, Tensor]], None]
) -> None:
    from safetensors.torch import load  # noqa: PLC0415 - torch

    load_state(load(checkpoint.files[_STATE]))
    ctx.history = History.from_bytes(checkpoint.files[_HISTORY], _HISTORY)
    ctx.timings = History.from_bytes(checkpoint.files[_TIMINGS], _TIMINGS)
    ctx.traces = from_lines(checkpoint.files[_TRACES], _TRACES)


def save(ctx: Context, done: int, state: Mapping[str, Tensor], keep: int) -> None:
    """Commit the state after ``done`` steps; then clear the journal and prune."""
    from safetensors.torch import save as to_bytes  # noqa: PLC0415 - torch

    ctx.probe("before-save")
    ctx.tell(phase="Saving")
    started = time.monotonic()
    files = {_STATE: to_bytes({k: v.contiguous() for k, v in state.items()}), **records(ctx)}
    snapshot = time.monotonic()
    run = ctx.owned
    checkpoint = run.commit(done, files, {"seed": ctx.seed})
    run.journal_clear(done)
    run.prune(keep)
    ctx.metrics.observe("m2r_checkpoint_seconds", snapshot - started, phase="snapshot")
    ctx.metrics.observe("m2r_checkpoint_seconds", time.monotonic() - snapshot, phase="upload")
    ctx.metrics.set("m2r_checkpoint_last_step", done)
    ctx.metrics.set("m2r_checkpoint_bytes", sum(map(len, files.values())))
    saved = {"uri": checkpoint.uri, "step": done, "time": time.time()}
    ctx.tell(last_checkpoint=saved, phase="Running")
    ctx.probe("after-save")
