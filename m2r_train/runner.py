"""``m2r run``: a set of manifests on this machine, in the order of their references.

The same stages, specs and store layout as in a cluster. A run's identity is a digest of its
resolved spec and of its inputs' content, so the same manifests go on where they were, and a
changed manifest, or changed data, starts afresh.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2r_train.api.errors import naming
from m2r_train.api.resource import Resource
from m2r_train.api.runspec import (
    InputRef,
    RunInput,
    RunMetadata,
    RunSpec,
    RunStorage,
    input_refs,
    local_uid,
    resolved,
)
from m2r_train.launching import launch, ranks_of
from m2r_train.stages.entry import outcome_of, run_stage
from m2r_train.stages.stop import StopRequest
from m2r_train.store import fetch_uri
from m2r_train.telemetry.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A resource that has run to its end."""

    run_spec: RunSpec
    outcome: Mapping[str, Any]

    @property
    def uri(self) -> str:
        """The run's folder in its store."""
        return f"{self.run_spec.storage.uri.rstrip('/')}/{self.run_spec.run_prefix}"

    @property
    def output_uri(self) -> str:
        """Where the result lies: model, dataset or evaluation."""
        for key in ("modelUri", "datasetUri", "resultsUri"):
            if key in self.outcome:
                return str(self.outcome[key])
        raise AssertionError("an outcome names its result")


Results = dict[tuple[str, str, str], Finished]  # by (namespace, kind, name)


def run_all(
    resources: Sequence[Resource],
    *,
    store: RunStorage | None,
    default_store: str,
    seed: int | None,
    progress: Progress,
    cache_dir: Path,
    stop: StopRequest,
) -> list[Finished]:
    """Run resources, which are in the order of their references; the finished ones in order."""
    finished: Results = {}
    for resource in resources:
        with naming(resource.where):
            run_spec = resolve(
                resource,
                finished,
                store=store,
                default_store=default_store,
                seed=seed,
                cache_dir=cache_dir,
            )
            outcome = carried(run_spec, progress, cache_dir, stop)
        finished[resource.namespace, resource.kind, resource.name] = Finished(
            run_spec=run_spec, outcome=outcome
        )
    return list(finished.values())


def carried(
    run_spec: RunSpec, progress: Progress, cache_dir: Path, stop: StopRequest
) -> Mapping[str, Any]:
    """The outcome of a run, by this process or by ranks: those of one node, as there is one."""
    here = copy.deepcopy(run_spec.spec)
    here["resources"]["nodes"] = 1
    local = run_spec.model_copy(update={"spec": here})
    if ranks_of(local) > 1 and outcome_of(local) is None:
        launch(local, port=0, stop=stop)
        outcome = outcome_of(local)
        assert outcome is not None
        return outcome
    return run_stage(run_spec, progress=progress, cache_dir=cache_dir, stop=stop)


def resolve(
    resource: Resource,
    finished: Results,
    *,
    store: RunStorage | None,
    default_store: str,
    seed: int | None,
    cache_dir: Path,
) -> RunSpec:
    """What the stage is told: references become URIs with digests, the seed and store are set.

    Raises ``DataError`` for an input that is not there.
    """
    spec = resource.spec
    if seed is not None:
        spec = spec.model_copy(update={"seed": seed})
    storage = store or _storage(resource, default_store)
    inputs: dict[str, RunInput] = {}
    for path, ref in input_refs(spec):
        with naming(f"spec.{path}"):
            given = _input(ref, finished, resource.namespace, storage, cache_dir)
        if given is not None:
            inputs[path] = given
    uid = local_uid(resource.kind, spec, {path: i.digest for path, i in inputs.items()})
    return RunSpec(
        kind=resource.job.kind,
        metadata=RunMetadata(
            namespace=resource.namespace,
            name=resource.name,
            uid=uid,
            labels=resource.job.metadata.labels,
        ),
        storage=storage,
        seed=spec.seed,
        spec=resolved(spec),
        inputs=inputs,
    )


def _storage(resource: Resource, default_store: str) -> RunStorage:
    own = resource.spec.storage
    if own is None:
        return RunStorage(uri=default_store)
    return RunStorage(uri=own.uri, endpoint=own.endpoint, region=own.region)


def _input(
    ref: InputRef,
    finished: Results,
    namespace: str,
    storage: RunStorage,
    cache_dir: Path,
) -> RunInput | None:
    if ref.from_ is not None:
        made = finished[namespace, ref.from_.kind, ref.from_.name]
        return RunInput(uri=made.output_uri, digest=str(made.outcome["digest"]))
    if ref.uri is not None:
        _, digest = fetch_uri(ref.uri, cache_dir, endpoint=storage.endpoint, region=storage.region)
        return RunInput(uri=ref.uri, digest=digest)
    return None


def summary(finished: Sequence[Finished]) -> dict[str, Any]:
    """The document of ``m2r run --summary`` (design section 8)."""
    return {
        "resources": [
            {
                "kind": one.run_spec.kind,
                "name": one.run_spec.metadata.name,
                "phase": "Succeeded",
                "step": one.outcome["step"],
                "scores": one.outcome.get("scores", {}),
                "output": one.output_uri,
                "digest": one.outcome["digest"],
            }
            for one in finished
        ]
    }
