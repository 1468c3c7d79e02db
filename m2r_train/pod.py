"""``m2r stage``: one attempt in a pod. Told by a mounted file, tells by exit code and HTTP.

The pod speaks three ways (design section 4): ``GET /status`` and ``/metrics`` while it runs, a
termination message when it ends, and its exit code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from m2r_train.api.errors import M2RError, naming
from m2r_train.api.runspec import RunSpec
from m2r_train.stages.entry import run_stage
from m2r_train.stages.stop import StopRequest
from m2r_train.telemetry.metrics import MetricSet
from m2r_train.telemetry.progress import Progress
from m2r_train.telemetry.server import StatusServer
from m2r_train.telemetry.termination import Termination, write_termination


def run_pod(
    run_spec: RunSpec, *, port: int, cache_dir: Path, stop: StopRequest
) -> Mapping[str, Any]:
    """Run the attempt; whatever happens, leave a termination message before the error goes on."""
    metrics = MetricSet()
    server = StatusServer(metrics, port=port)
    try:
        with server, Progress() as progress, naming(f"{run_spec.kind}/{run_spec.metadata.name}"):
            outcome = run_stage(
                run_spec,
                progress=progress,
                cache_dir=cache_dir,
                stop=stop,
                server=server,
                metrics=metrics,
            )
    except M2RError as error:
        _leave(server, error.exit_code, type(error).__name__, str(error))
        raise
    except BaseException as error:
        _leave(server, 1, type(error).__name__, str(error))
        raise
    _leave(server, 0, "Done", "", outcome)
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
            step=status["step"],
            total_steps=status["totalSteps"],
            metrics=status["metrics"],
            last_checkpoint=status["lastCheckpoint"],
            outputs=outcome,
        )
    )
