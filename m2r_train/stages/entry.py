"""One attempt at one run: claim it, find out whether it is done, else run its stage."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from m2r_train.api.errors import Preempted
from m2r_train.api.runspec import RunSpec
from m2r_train.stages import evaluate, rlvr, sft, synthesize
from m2r_train.stages.context import Context, use_threads
from m2r_train.stages.stop import StopRequest
from m2r_train.stages.support import refuse_unsupported
from m2r_train.store import Run, open_store
from m2r_train.telemetry.metrics import MetricSet
from m2r_train.telemetry.progress import Progress
from m2r_train.telemetry.server import StatusServer

Stage = Callable[[Context], dict[str, Any]]

STAGES: Mapping[str, Stage] = {
    "DataSynthesisJob": synthesize.run,
    "SFTJob": sft.run,
    "RLVRJob": rlvr.run,
    "EvalJob": evaluate.run,
}


def run_stage(
    run_spec: RunSpec,
    *,
    progress: Progress,
    cache_dir: Path,
    stop: StopRequest,
    server: StatusServer | None = None,
    metrics: MetricSet | None = None,
) -> Mapping[str, Any]:
    """Carry a run to its end, from wherever it stands; returns its outcome.

    A finished run is recognised by its HEAD and costs one read. Raises ``Preempted`` when a stop
    was asked for and the state is safe, and the other errors of ``api.errors``.
    """
    name = f"{run_spec.kind}/{run_spec.metadata.name}"
    refuse_unsupported(run_spec.parsed_spec)
    if stop:
        raise Preempted(f"{name}: stopped by {stop.reason} before it began; run it again")
    use_threads(run_spec.parsed_spec.resources.cpu_threads)
    storage = run_spec.storage
    metrics = metrics or MetricSet()
    context: Context | None = None

    def count_store_error(operation: str, error: str) -> None:
        shown = metrics if context is None else context.metrics  # the claim comes before it
        shown.inc("m2r_store_errors_total", operation=operation, error=error)

    store = open_store(
        storage.uri,
        endpoint=storage.endpoint,
        region=storage.region,
        on_error=count_store_error,
    ).under(run_spec.run_prefix)
    probe = kill_point()
    run = Run.claim(store, run_spec.attempt, probe=probe, on_corrupt=progress.note)
    context = Context(
        run_spec=run_spec,
        run=run,
        progress=progress,
        metrics=metrics,
        cache_dir=cache_dir,
        stop=stop,
        server=server,
        probe=probe,
    )
    store.put("spec.json", run_spec.to_json().encode())  # for people and reports; not read back
    done = run.result()
    if done is not None:
        run.journal_clear(done["steps"])  # a kill may have come between the end and this
        progress.note(f"{name}: done before, nothing to do")
        return done
    outcome = STAGES[run_spec.kind](context)
    run.finish(outcome)
    run.journal_clear(outcome["steps"])
    return outcome


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
