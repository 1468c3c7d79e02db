"""``m2r purge``: what a pod runs when a resource with ``reclaimPolicy: Delete`` goes.

Of the run spec only the place in the store counts. The rest is not looked at, so that a run whose
spec this version cannot read can be deleted all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from m2r_train.api.errors import M2RError, SpecError
from m2r_train.api.problems import SpecErrors, problem_lines
from m2r_train.api.runspec import RunSpec
from m2r_train.store import open_store
from m2r_train.store.purge import purge
from m2r_train.telemetry.termination import Termination, write_termination


def purge_run(spec_file: Path, *, stopped: Callable[[], bool]) -> str:
    """Delete the run's folder; one line that says what is gone.

    A failure is left as the pod's termination message too. Raises what `purge` raises, and
    ``SpecError`` for a file without the run's name and store.
    """
    try:
        run_spec = _read(spec_file)
        storage = run_spec.storage
        store = open_store(storage.uri, endpoint=storage.endpoint, region=storage.region)
        gone = purge(store, run_spec.run_prefix, stopped=stopped)
    except M2RError as error:
        write_termination(
            Termination(exit_code=error.exit_code, reason=type(error).__name__, message=str(error))
        )
        raise
    return f"purged {store.uri}/{run_spec.run_prefix}: {gone.objects} objects, {gone.size} bytes"


def _read(path: Path) -> RunSpec:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    try:
        return RunSpec.model_validate_json(text, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise SpecErrors(problem_lines(error, RunSpec, str(path))) from None
