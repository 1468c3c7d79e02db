"""The engine that a spec asks for: the one place where a training stage's optimiser is made."""

from __future__ import annotations

from m2r_train.api.rlvr import Optimization
from m2r_train.api.sft import SFTTraining
from m2r_train.engine.base import Engine
from m2r_train.engine.group import Group
from m2r_train.engine.local import AdamWConfig, LocalEngine
from m2r_train.engine.parallel import DataParallelEngine
from m2r_train.engine.ranks import ALONE, Ranks
from m2r_train.model.policy import Policy

_VISION = "model.visual."  # names of the vision tower's parameters begin so


def training_engine(
    policy: Policy, asked: SFTTraining | Optimization, ranks: Ranks = ALONE
) -> Engine:
    """Trains ``policy.module`` in place, as the spec's training or optimization part says.

    With several ranks all of them train it together.
    """
    config = AdamWConfig(
        beta1=asked.adam_beta1,
        beta2=asked.adam_beta2,
        weight_decay=asked.weight_decay,
        gradient_clip=asked.gradient_clip,
    )
    frozen = (_VISION,) if asked.freeze_vision else ()
    if isinstance(ranks, Group):
        return DataParallelEngine(policy.module, config, ranks, frozen)
    return LocalEngine(policy.module, config, frozen)
