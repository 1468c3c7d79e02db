"""What a pod tells, as it goes into the status: progress, figures, checkpoint, results.

Progress is written at most every `EVERY` seconds and a finished percent at most every `SOON`:
the API server is no time series database, Prometheus has the fine-grained series.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import ValidationError

from m2r_operator.draft import Draft
from m2r_operator.state import Told
from m2r_train.api.schema import MAX_INT
from m2r_train.api.status import (
    Failure,
    LastCheckpoint,
    Metrics,
    Progress,
    ResumedFrom,
    Score,
    StatusOutputs,
)

EVERY: Final = 15.0
SOON: Final = 5.0
_DIGITS: Final = 4  # significant ones of a figure in the status


def step_of(told: Told | None) -> int | None:
    """The steps that a pod has done; None before it knows. A pod that still loads its model says
    "0 of 0", and to take that for step 0 would set a run back that is about to resume."""
    if told is None or (not told.step and not told.total_steps):
        return None
    return told.step


def note_progress(draft: Draft, told: Told, *, final: bool = False) -> float | None:
    """Take what a pod told into the status; seconds until what is held back is due, or None."""
    if told.resumed_from is not None:
        _note_resumed(draft, told.resumed_from)
    if step_of(told) is None or not _news(draft, told):
        return None
    wait = _wait(draft, told)
    if wait > 0 and not final:
        return wait
    draft.put(progress=_progress(draft, told))
    if told.metrics:
        draft.put(metrics=_metrics(told.metrics))
    if told.last_checkpoint:
        _note_checkpoint(draft, told.last_checkpoint)
    return None


def _news(draft: Draft, told: Told) -> bool:
    known: Progress | None = draft.progress
    if known is None or (known.step, known.total_steps) != (told.step, told.total_steps or None):
        return True
    saved = told.last_checkpoint
    if not saved:
        return False
    return draft.last_checkpoint is None or draft.last_checkpoint.step != int(saved["step"])


def _wait(draft: Draft, told: Told) -> float:
    """Seconds until the status may say it; a new attempt's first step is told at once."""
    known: Progress | None = draft.progress
    step = told.step or 0
    if known is None or known.time is None or step < known.step:
        return 0.0
    pause = SOON if _percent(told) != known.percent else EVERY
    return pause - (draft.now - known.time).total_seconds()


def _progress(draft: Draft, told: Told) -> Progress:
    known: Progress = draft.progress or Progress()
    step = told.step or 0
    same = known.time is not None and step == known.step
    return Progress(
        step=step,
        total_steps=told.total_steps or None,
        percent=_percent(told),
        eta_seconds=known.eta_seconds if same else _eta(draft, known, told),
        time=known.time if same else draft.now,
    )


def _percent(told: Told) -> int:
    return min(100, 100 * (told.step or 0) // told.total_steps) if told.total_steps else 0


def outputs_of(outcome: Mapping[str, Any] | None) -> StatusOutputs:
    """``status.outputs`` from a stage's outcome (its termination message)."""
    given = outcome or {}
    scores = given.get("scores") or {}
    return StatusOutputs(
        model_uri=given.get("modelUri"),
        dataset_uri=given.get("datasetUri"),
        counts=given.get("counts") or {},
        scores=tuple(
            Score(
                benchmark=name,
                value=one["overall"]["value"],
                n=one["overall"].get("n"),
                stderr=one["overall"].get("stderr"),
            )
            for name, one in sorted(scores.items())
            if one.get("overall", {}).get("value") is not None
        ),
        digest=given.get("digest"),
    )


def _note_resumed(draft: Draft, resumed: Mapping[str, Any]) -> None:
    failure: Failure | None = draft.failure
    if failure is not None and failure.attempt == draft.attempt:
        return  # this attempt has ended; what it began with is in the status
    step, lost = int(resumed["step"]), resumed.get("lostSteps")
    if lost is None:  # the trainer does not know: what was last seen of the attempt before
        seen_at = failure.step if failure is not None else None
        lost = max(0, (seen_at or step) - step)
    draft.put(resumed_from=ResumedFrom(step=step, lost_steps=int(lost)))


def _note_checkpoint(draft: Draft, told: Mapping[str, Any]) -> None:
    time = told.get("time")
    draft.put(
        last_checkpoint=LastCheckpoint(
            uri=str(told["uri"]),
            step=int(told["step"]),
            time=None if time is None else datetime.fromtimestamp(int(time), UTC),
        )
    )
    draft.set("CheckpointReady", True, "CheckpointCommitted", "the run can resume from it")


def _eta(draft: Draft, known: Progress, told: Told) -> int | None:
    """Seconds left at the pace since the last write; None without a pace, which a pause before
    this stretch of running does not give."""
    step, total, since = told.step or 0, told.total_steps, known.time
    if not total or step <= known.step or since is None or since < draft.since("Running"):
        return None
    waited = (draft.now - since).total_seconds()
    return min(round(max(0, total - step) * waited / (step - known.step)), MAX_INT)


def _metrics(told: Mapping[str, float]) -> Metrics:
    """The figures that a status has; those that it cannot hold (a negative throughput) are left
    out, for what a pod says must not keep its run from being decided about."""
    fields = {info.alias for info in Metrics.model_fields.values()}
    figures = {
        name: float(f"{value:.{_DIGITS}g}")
        for name, value in told.items()
        if name in fields and math.isfinite(value)
    }
    try:
        return Metrics.model_validate(figures, by_alias=True)
    except ValidationError as error:
        wrong = {str(e["loc"][0]) for e in error.errors()}
        return Metrics.model_validate(
            {name: value for name, value in figures.items() if name not in wrong}, by_alias=True
        )
