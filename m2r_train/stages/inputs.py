"""What a stage reads: models and datasets, fetched once and held against the run's digests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2r_train.api.errors import ConfigError, DataError, naming
from m2r_train.api.refs import DatasetRef, ModelRef
from m2r_train.api.runspec import RunSpec
from m2r_train.core.records import Sample
from m2r_train.data.user import BadRecord, LeftOut, iter_user_dataset, read_user_dataset
from m2r_train.store import fetch_uri
from m2r_train.telemetry.progress import Progress

if TYPE_CHECKING:
    from m2r_train.model.policy import Policy

_NAMED_BAD_RECORDS = 3


@dataclass(kw_only=True)
class Inputs:
    """The inputs of one run, by the path of the field in ``spec`` that names each."""

    run_spec: RunSpec
    progress: Progress
    cache_dir: Path
    _fetched: dict[str, tuple[Path, str]] = field(default_factory=dict)  # folder and digest

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.run_spec.seed

    def policy(self, path: str, ref: ModelRef) -> Policy:
        """The model that ``spec.<path>`` points at, ready to compute."""
        from m2r_train.stages import models  # noqa: PLC0415 - torch

        spec = self.run_spec.parsed_spec
        models.use_threads(self.run_spec.threads, gpu=spec.resources.gpus_per_node > 0)
        if ref.preset is not None:
            return models.preset(self.seed, spec)
        with naming(f"spec.{path}"):
            return models.load(self._fetch(path), spec)

    def model_folder(self, path: str) -> Path:
        """The folder of a model that ``spec.<path>`` points at, whatever model it is."""
        with naming(f"spec.{path}"):
            return self._fetch(path)

    def samples(
        self, path: str, ref: DatasetRef, split: str, source: str | None = None
    ) -> list[Sample]:
        """The usable records of the dataset that ``spec.<path>`` points at; bad ones are named.

        ``source`` is what new samples are marked with (default: the field's path).
        """
        with naming(f"spec.{path}"):
            loaded = read_user_dataset(**self._reading(path, ref, split, source))
        self._name_bad(loaded.bad, len(loaded.bad))
        return loaded.samples

    def each_sample(
        self,
        path: str,
        ref: DatasetRef,
        split: str,
        source: str | None = None,
        bad: LeftOut | None = None,
    ) -> Iterator[Sample]:
        """What ``samples`` gives, one in memory at a time; ``bad`` counts what is left out."""
        bad = LeftOut(_NAMED_BAD_RECORDS) if bad is None else bad
        with naming(f"spec.{path}"):
            yield from iter_user_dataset(**self._reading(path, ref, split, source), bad=bad)
        self._name_bad(bad.first, len(bad))

    def _reading(
        self, path: str, ref: DatasetRef, split: str, source: str | None
    ) -> dict[str, Any]:
        return {
            "path": self._fetch(path),
            "split": ref.split or (split if ref.from_ is not None else None),
            "columns": {str(name): column for name, column in ref.columns.items()},
            "max_bad_ratio": ref.max_bad_ratio,
            "source": source or path,
        }

    def _name_bad(self, bad: Sequence[BadRecord], count: int) -> None:
        for one in bad[:_NAMED_BAD_RECORDS]:
            self.progress.note(f"left out: {one}")
        if count > _NAMED_BAD_RECORDS:
            self.progress.note(f"left out: {count} bad records in all")

    def folder(self, path: str) -> Path:
        """A local copy of the folder that ``spec.<path>`` points at."""
        with naming(f"spec.{path}"):
            return self._fetch(path)

    def _fetch(self, path: str) -> Path:
        given = self.run_spec.inputs.get(path)
        if given is None:
            raise ConfigError(f"run spec: inputs has no {path!r}; the operator or m2r run sets it")
        storage = self.run_spec.storage
        folder, digest = fetch_uri(
            given.uri, self.cache_dir, endpoint=storage.endpoint, region=storage.region
        )
        if given.digest is not None and digest != given.digest:
            raise DataError(
                f"{given.uri} has changed since the run was made "
                f"(digest {digest[:12]}, expected {given.digest[:12]}); start a new run"
            )
        self._fetched[path] = folder, digest
        return folder
