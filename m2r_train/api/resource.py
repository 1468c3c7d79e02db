"""A manifest that was read: what it says, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from m2r_train.api.common import JobSpec
from m2r_train.api.kinds import Job


@dataclass(frozen=True, slots=True)
class Resource:
    """A parsed manifest and where it stands: file and number of the document, from 1."""

    job: Job
    path: Path
    document: int

    @property
    def kind(self) -> str:
        """Kind of the resource."""
        return self.job.kind

    @property
    def name(self) -> str:
        """Name of the resource."""
        return self.job.metadata.name

    @property
    def namespace(self) -> str:
        """Namespace of the resource."""
        return self.job.metadata.namespace

    @property
    def spec(self) -> JobSpec:
        """The typed spec, defaults filled."""
        return self.job.spec

    @property
    def where(self) -> str:
        """How messages name it: ``examples/x.yaml: RLVRJob/m2-rlvr``."""
        return f"{self.path}: {self.kind}/{self.name}"
