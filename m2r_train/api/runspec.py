"""What a stage is told, and what names a run: the resolved spec with its inputs, as JSON.

The operator mounts this file into a pod and ``m2r run`` writes it on a machine without a
cluster; ``m2r stage --spec FILE`` reads it. Nothing else is told to a stage.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, cast

from pydantic import BaseModel, Field, ValidationError

from m2r_train.api.common import NON_RESULT_FIELDS, EndpointRef, JobSpec
from m2r_train.api.errors import SpecError
from m2r_train.api.kinds import KINDS
from m2r_train.api.ownreward import OwnReward
from m2r_train.api.problems import SpecErrors, problem_lines
from m2r_train.api.refs import DatasetRef, ModelRef
from m2r_train.api.schema import (
    API_VERSION,
    MAX_INT,
    Endpoint,
    LongText,
    Model,
    RunName,
    ShortText,
    StoreUri,
    Word,
)
from m2r_train.api.sources import AnnotatedScenes

UID_PREFIX: Final = 8

KindName = Literal["DataSynthesisJob", "SFTJob", "RLVRJob", "EvalJob"]


class RunMetadata(Model):
    """Which run this is."""

    namespace: Word = "default"
    name: RunName
    uid: Annotated[str, Field(min_length=8, max_length=64, pattern="^[0-9a-f][0-9a-f-]*$")]
    labels: Mapping[str, str] = Field(default_factory=dict)  # for reports; change no result


class RunStorage(Model):
    """Where the run writes; credentials come from the environment."""

    uri: StoreUri
    endpoint: Endpoint | None = None
    region: Word | None = None


class RunInput(Model):
    """Where a model or dataset of the spec lies, and its digest where one is known."""

    uri: LongText
    digest: ShortText | None = None


GANGS: Final = ("SFTJob", "RLVRJob")
"""Kinds whose processes compute each step together; those of others make parts of the work."""


class RunSpec(Model):
    """One attempt at one run. ``inputs`` is keyed by field path, as ``input_refs`` names them."""

    api_version: Literal["m2r.dev/v1alpha1"] = API_VERSION
    kind: KindName
    metadata: RunMetadata
    attempt: Annotated[int, Field(ge=1, le=MAX_INT)] = 1
    storage: RunStorage
    seed: Annotated[int, Field(ge=0, le=MAX_INT)]
    spec: dict[str, Any]
    inputs: Mapping[str, RunInput] = Field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str | bytes, *, source: str = "run spec") -> Self:
        """Parse a run spec; its ``spec`` is checked too.

        Raises SpecErrors with one line for each problem, each beginning with ``source``.
        """
        try:
            run = cls.model_validate_json(text, strict=True, by_alias=True, by_name=False)
        except ValidationError as error:
            raise SpecErrors(problem_lines(error, cls, source)) from None
        kind_spec = KINDS[run.kind].spec
        try:
            kind_spec.model_validate_json(
                json.dumps(run.spec), strict=True, by_alias=True, by_name=False
            )
        except ValidationError as error:
            raise SpecErrors(problem_lines(error, kind_spec, source, "spec")) from None
        return run

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a run spec from a file; SpecError when it cannot be read or is wrong."""
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise SpecError(f"{path}: cannot be read ({error.strerror}); check the path") from None
        return cls.from_json(text, source=str(path))

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, nulls kept, one line and a line feed.

        Labels stand there only where there are any: an older image that a run pins knows none.
        """
        told = self.model_dump(mode="json", by_alias=True)
        if not told["metadata"]["labels"]:
            del told["metadata"]["labels"]
        return canonical_json(told) + "\n"

    @property
    def run_prefix(self) -> str:
        """The run's folder under ``storage.uri``: ``<namespace>/<kind>/<name>-<uid8>``."""
        meta = self.metadata
        return run_prefix(meta.namespace, self.kind, meta.name, meta.uid)

    @property
    def processes(self) -> int:
        """Processes of each pod that work on the run together."""
        return self.parsed_spec.resources.processes if self.kind in GANGS else 1

    @property
    def threads(self) -> int:
        """Compute threads of each process."""
        return max(1, self.parsed_spec.resources.cpu_threads // self.processes)

    @property
    def parsed_spec(self) -> JobSpec:
        """The typed spec: DataSynthesisSpec, SFTSpec, RLVRSpec or EvalSpec, as ``kind`` says."""
        return KINDS[self.kind].spec.model_validate_json(
            json.dumps(self.spec), strict=True, by_alias=True, by_name=False
        )


def run_prefix(namespace: str, kind: str, name: str, uid: str) -> str:
    """A run's folder below its storage (design section 5)."""
    return f"{namespace}/{kind.lower()}/{name}-{uid[:UID_PREFIX]}"


def resolved(spec: JobSpec) -> dict[str, Any]:
    """The spec as JSON values in YAML's names, defaults filled, nulls kept."""
    return spec.model_dump(mode="json", by_alias=True)


def recipe(spec: JobSpec) -> dict[str, Any]:
    """Of the resolved spec what changes the result: without ``NON_RESULT_FIELDS``, and of
    ``resources`` the number of compute threads alone."""
    fields = spec.__class__.model_fields
    left_out = {cast("str", fields[n].alias) for n in NON_RESULT_FIELDS if n in fields}
    relevant = {k: v for k, v in resolved(spec).items() if k not in left_out}
    return {**relevant, "resources": {"cpuThreads": spec.resources.cpu_threads}}


def canonical_json(value: object) -> str:
    """The one way to write a JSON value: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def local_uid(kind: str, spec: JobSpec, inputs: Mapping[str, str | None] | None = None) -> str:
    """A run's identity without a cluster: 64 hex digits of SHA-256.

    ``inputs`` maps field paths to digests. Fields that do not change the result are left out
    (`recipe`), so changing them goes on with the same run.
    """
    identity = {
        "apiVersion": API_VERSION,
        "kind": kind,
        "spec": recipe(spec),
        "inputs": dict(inputs or {}),
    }
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


InputRef = ModelRef | DatasetRef | AnnotatedScenes | OwnReward


def input_refs(spec: BaseModel, path: str = "") -> Iterator[tuple[str, InputRef]]:
    """Every model, dataset, folder of scenes and own reward of a spec, with its field path.

    The paths, in YAML's names (``model``, ``sources[0].dataset``, ``quality.judge.model``), are
    relative to the spec; they are the keys of ``RunSpec.inputs``. Order: that of the fields.
    """
    for where, part in _parts(spec, path):
        if isinstance(part, InputRef):
            yield where, part


def endpoint_refs(spec: BaseModel) -> Iterator[tuple[str, EndpointRef]]:
    """Every endpoint that a spec asks, with its field path as `input_refs` writes them."""
    for where, part in _parts(spec, ""):
        if isinstance(part, EndpointRef):
            yield where, part


def _parts(spec: BaseModel, path: str) -> Iterator[tuple[str, BaseModel]]:
    """The spec and every model in it, each before what it holds."""
    yield path, spec
    for name, info in type(spec).model_fields.items():
        field = f"{path}.{info.alias}" if path else str(info.alias)
        value = getattr(spec, name)
        if isinstance(value, BaseModel):
            yield from _parts(value, field)
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                if isinstance(item, BaseModel):
                    yield from _parts(item, f"{field}[{index}]")
