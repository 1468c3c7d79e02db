"""``m2r stage``: one attempt in a pod. Told by a mounted file, tells by exit code and HTTP.

The pod speaks three ways (design section 4): ``GET /status`` and ``/metrics`` while it runs, a
termination message when it ends, and its exit code. The port is open before the long imports.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from m2r_train import launching
from m2r_train.api.errors import M2RError, naming
from m2r_train.api.runspec import GANGS, RunSpec
from m2r_train.engine.ranks import FIRST, Seat, seat_here
from m2r_train.stages.place import place_in_job
from m2r_train.stages.stop import StopRequest
from m2r_train.telemetry.metrics import MetricSet
from m2r_train.telemetry.progress import Progress
from m2r_train.telemetry.server import StatusServer
from m2r_train.telemetry.termination import Termination, leave_words, write_termination


def run_pod(spec: Path, *, port: int, cache_dir: Path, stop: StopRequest) -> Mapping[str, Any]:
    """Run the attempt; whatever happens, leave a termination message before the error goes on."""
    server = StatusServer(MetricSet(), port=port)
    try:
        run_spec = RunSpec.load(spec)
        seat = seat_here() if run_spec.kind in GANGS else None
        if seat is None and launching.ranks_of(run_spec) > 1:
            leave_words(launching.launch(run_spec, port=port, stop=stop))
            return {}
        outcome = _serve(server, run_spec, cache_dir, stop, seat or FIRST)
    except launching.RanksEndedError as error:
        if error.told is not None:
            leave_words(error.told)
        else:
            _leave(server, error.exit_code, type(error).__name__, str(error))
        raise
    except M2RError as error:
        _leave(server, error.exit_code, type(error).__name__, str(error))
        raise
    except BaseException as error:
        _leave(server, 1, type(error).__name__, str(error))
        raise
    _leave(server, 0, "Done", "", outcome)
    return outcome


def _serve(
    server: StatusServer, run_spec: RunSpec, cache_dir: Path, stop: StopRequest, seat: Seat
) -> Mapping[str, Any]:
    """One process of a pod answers at its port; one of all shows progress."""
    server.update(attempt=run_spec.attempt)
    with (
        server if seat.local == 0 else nullcontext(),
        Progress(None if seat.index == 0 else Console(quiet=True)) as progress,
        naming(f"{run_spec.kind}/{run_spec.metadata.name}"),
    ):
        from m2r_train.stages.entry import run_stage  # noqa: PLC0415 - once the port is open

        outcome = run_stage(
            run_spec,
            progress=progress,
            cache_dir=cache_dir,
            stop=stop,
            server=server,
            metrics=server.metrics,
            place=place_in_job(run_spec.parsed_spec.resources.nodes),
            seat=seat,
        )
        server.linger(lambda: bool(stop))
        return outcome


def _leave(
    server: StatusServer,
    exit_code: int,
    reason: str,
    message: str,
    outcome: Mapping[str, Any] | None = None,
) -> None:
    status = server.status()
    write_termination(
        Termination(
            exit_code=exit_code,
            reason=reason,
            message=message,
            phase=status["phase"],
            attempt=status["attempt"],
            epoch=status["epoch"],
            step=status["step"],
            total_steps=status["totalSteps"],
            last_step_time=status["lastStepTime"],
            metrics=status["metrics"],
            last_checkpoint=status["lastCheckpoint"],
            resumed_from=status["resumedFrom"],
            outputs=outcome,
        )
    )
