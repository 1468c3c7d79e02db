"""The contract: the four kinds, how manifests are read, and what a stage is told.

Standard library, pydantic and yaml only, so that the operator and ``m2r validate`` need no more.
"""

from m2r_train.api.common import (
    Checkpoint,
    Engine,
    JobSpec,
    Resources,
    Schedule,
    Storage,
)
from m2r_train.api.datasynthesis import DataSynthesisJob, DataSynthesisSpec
from m2r_train.api.errors import (
    ConfigError,
    DataError,
    FencedError,
    M2RError,
    Preempted,
    SpecError,
)
from m2r_train.api.evaljob import EvalJob, EvalSpec
from m2r_train.api.graph import Reference, order, references
from m2r_train.api.kinds import KINDS, Job, Kind
from m2r_train.api.manifests import load_manifests
from m2r_train.api.problems import SpecErrors
from m2r_train.api.refs import DatasetRef, Metadata, ModelRef, Split
from m2r_train.api.resource import Resource
from m2r_train.api.rlvr import RLVRJob, RLVRSpec
from m2r_train.api.runspec import (
    RunInput,
    RunMetadata,
    RunSpec,
    RunStorage,
    canonical_json,
    input_refs,
    local_uid,
    resolved,
)
from m2r_train.api.schema import API_VERSION, GROUP, VERSION
from m2r_train.api.sft import SFTJob, SFTSpec
from m2r_train.api.status import JobStatus

__all__ = [
    "API_VERSION",
    "GROUP",
    "KINDS",
    "VERSION",
    "Checkpoint",
    "ConfigError",
    "DataError",
    "DataSynthesisJob",
    "DataSynthesisSpec",
    "DatasetRef",
    "Engine",
    "EvalJob",
    "EvalSpec",
    "FencedError",
    "Job",
    "JobSpec",
    "JobStatus",
    "Kind",
    "M2RError",
    "Metadata",
    "ModelRef",
    "Preempted",
    "RLVRJob",
    "RLVRSpec",
    "Reference",
    "Resource",
    "Resources",
    "RunInput",
    "RunMetadata",
    "RunSpec",
    "RunStorage",
    "SFTJob",
    "SFTSpec",
    "Schedule",
    "SpecError",
    "SpecErrors",
    "Split",
    "Storage",
    "canonical_json",
    "input_refs",
    "load_manifests",
    "local_uid",
    "order",
    "references",
    "resolved",
]
