"""The engine that a spec asks for: the one place where a training stage's optimiser is made."""

from __future__ import annotations

from m2r_train.api.rlvr import Optimization
from m2r_train.api.sft import SFTTraining
from m2r_train.engine.base import Engine
from m2r_train.engine.group import Group
from m2r_train.engine.local import AdamWConfig, LocalEngine
from m2r_train.engine.parallel import DataParallelEngine
from m2r_train.engine.ranks import ALONE, Ranks
from m2r_train.model.freezing import VISUAL, frozen_names
from m2r_train.model.lora import Adapters
from m2r_train.model.policy import Policy
from m2r_train.model.recompute import recompute_layers


def training_engine(
    policy: Policy, asked: SFTTraining | Optimization, seed: int, ranks: Ranks = ALONE
) -> Engine:
    """Trains ``policy.module`` in place, as the spec's training or optimization part says.

    With several ranks all of them train it together.
    """
    choose_what_learns(policy, asked, seed)
    config = AdamWConfig(
        beta1=asked.adam_beta1,
        beta2=asked.adam_beta2,
        weight_decay=asked.weight_decay,
        gradient_clip=asked.gradient_clip,
    )
    if isinstance(ranks, Group):
        return DataParallelEngine(policy.module, config, ranks)
    return LocalEngine(policy.module, config)


def choose_what_learns(policy: Policy, asked: SFTTraining | Optimization, seed: int) -> None:
    """Freeze, put adapters in, and turn gradient checkpointing on, as the spec says.

    Raises ``ConfigError`` for names that fit nothing, and where nothing is left to learn.
    """
    where = "spec.training" if isinstance(asked, SFTTraining) else "spec.optimization"
    module = policy.module
    frozen = frozen_names(
        [name for name, _ in module.named_parameters()],
        asked.freeze,
        freeze_vision=asked.freeze_vision,
        where=f"{where}.freeze",
    )
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in frozen)
    if asked.lora is not None:
        policy.adapters = Adapters(
            module,
            rank=asked.lora.rank,
            alpha=asked.lora.alpha or 2.0 * asked.lora.rank,
            targets=asked.lora.targets,
            frozen=frozen,
            seed=seed,
            where=f"{where}.lora",
        )
    if not any(p.requires_grad for n, p in module.named_parameters() if n.startswith(VISUAL)):
        policy.freeze_vision()
    if asked.gradient_checkpointing:
        recompute_layers(module)
