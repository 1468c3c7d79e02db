"""``m2r stage``: one attempt in a pod. Told by a mounted file, tells by exit code and HTTP.

The pod speaks three ways (design section 4): ``GET /status`` and ``/metrics`` while it runs, a
termination message when it ends, and its exit code. The port is open before the long imports.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from m2r_train.api.errors import M2RError, naming
from m2r_train.api.runspec import RunSpec
from m2r_train.stages.place import place_in_job
from m2r_train.stages.stop import StopRequest
from m2r_train.telemetry.metrics import MetricSet
from m2r_train.telemetry.progress import Progress
from m2r_train.telemetry.server import StatusServer
from m2r_train.telemetry.termination import Termination, write_termination


def run_pod(spec: Path, *, port: int, cache_dir: Path, stop: StopRequest) -> Mapping[str, Any]:
    """Run the attempt; whatever happens, leave a termination message before the error goes on."""
    server = StatusServer(MetricSet(), port=port)
    try:
        outcome = _serve(server, RunSpec.load(spec), cache_dir, stop)
    except M2RError as error:
        _leave(server, error.exit_code, type(error).__name__, str(error))
        raise
    except BaseException as error:
        _leave(server, 1, type(error).__name__, str(error))
        raise
    _leave(server, 0, "Done", "", outcome)
    return outcome


def _serve(
    server: StatusServer, run_spec: RunSpec, cache_dir: Path, stop: StopRequest
) -> Mapping[str, Any]:
    server.update(attempt=run_spec.attempt)
    with server, Progress() as progress, naming(f"{run_spec.kind}/{run_spec.metadata.name}"):
        from m2r_train.stages.entry import run_stage  # noqa: PLC0415 - once the port is open

        return run_stage(
            run_spec,
            progress=progress,
            cache_dir=cache_dir,
            stop=stop,
            server=server,
            metrics=server.metrics,
            place=place_in_job(run_spec.parsed_spec.resources.nodes),
        )


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
