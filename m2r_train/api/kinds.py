"""The four kinds, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from m2r_train.api.common import JobSpec
from m2r_train.api.datasynthesis import DataSynthesisJob, DataSynthesisSpec
from m2r_train.api.evaljob import EvalJob, EvalSpec
from m2r_train.api.rlvr import RLVRJob, RLVRSpec
from m2r_train.api.sft import SFTJob, SFTSpec

Job = DataSynthesisJob | SFTJob | RLVRJob | EvalJob


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind's names and classes."""

    name: str
    plural: str
    short: str
    job: type[DataSynthesisJob] | type[SFTJob] | type[RLVRJob] | type[EvalJob]
    spec: type[JobSpec]


KINDS: Final[dict[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind("DataSynthesisJob", "datasynthesisjobs", "dsj", DataSynthesisJob, DataSynthesisSpec),
        Kind("SFTJob", "sftjobs", "sftj", SFTJob, SFTSpec),
        Kind("RLVRJob", "rlvrjobs", "rlvrj", RLVRJob, RLVRSpec),
        Kind("EvalJob", "evaljobs", "evj", EvalJob, EvalSpec),
    )
}
"""Every kind, in the order of the recipe."""
