"""A stage's context over a store in a folder: what the stages' own tests are made of."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from m2r_train.api.runspec import RunMetadata, RunSpec, RunStorage, resolved
from m2r_train.api.sft import SFTSpec
from m2r_train.stages.context import Context
from m2r_train.stages.place import ALONE, Place
from m2r_train.stages.stop import StopRequest
from m2r_train.store import Helper, LocalStore, ObjectStore, Run
from m2r_train.telemetry.metrics import MetricSet
from m2r_train.telemetry.progress import Progress
from m2r_train.telemetry.server import StatusServer


def run_spec(folder: Path, attempt: int = 1, **more: Any) -> RunSpec:
    """A run that is never carried out: contexts only ask for its names, its seed and the like."""
    spec = SFTSpec.model_validate(
        {"model": {"preset": "tiny"}, "dataset": {"uri": "file:///d"}, **more}
    )
    return RunSpec(
        kind="SFTJob",
        metadata=RunMetadata(name="run", uid="0123456789abcdef"),
        attempt=attempt,
        storage=RunStorage(uri=folder.as_uri()),
        seed=0,
        spec=resolved(spec),
    )


def context(
    folder: Path,
    *,
    attempt: int = 1,
    place: Place = ALONE,
    stop: StopRequest | None = None,
    store: ObjectStore | None = None,
    **spec: Any,
) -> Context:
    """A context of a new attempt at the run in ``folder``: its owner's, or a helper's.

    ``spec``: fields of the spec, in YAML's names.
    """
    store = store or LocalStore(folder)
    metrics = MetricSet()
    return Context(
        run_spec=run_spec(folder, attempt, **spec),
        run=Helper(store, attempt) if place.helps else Run.claim(store, attempt),
        progress=Progress(Console(file=io.StringIO())),
        metrics=metrics,
        cache_dir=folder / "cache",
        stop=stop or StopRequest(),
        server=StatusServer(metrics, port=0),
        place=place,
    )


def status(ctx: Context) -> dict[str, Any]:
    """What ``GET /status`` would say."""
    assert ctx.server is not None
    return ctx.server.status()
