"""The engine that a spec asks for, and passes through it: the one place where they are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from PIL import Image
from torch import Tensor

from m2r_train.api.common import Parallelism
from m2r_train.api.errors import ConfigError
from m2r_train.api.rlvr import Optimization, RLVRSpec
from m2r_train.api.sft import SFTTraining
from m2r_train.core.packing import PackedRows
from m2r_train.engine.base import Engine
from m2r_train.engine.group import Group
from m2r_train.engine.local import AdamWConfig, LocalEngine
from m2r_train.engine.parallel import DataParallelEngine
from m2r_train.engine.ranks import ALONE, Ranks
from m2r_train.engine.zero import ZeroConfig, ZeroEngine
from m2r_train.model.freezing import VISUAL, frozen_names
from m2r_train.model.lora import Adapters
from m2r_train.model.policy import Policy
from m2r_train.model.recompute import recompute_layers
from m2r_train.model.vision import Picture

_STAGES: Final[dict[str, Literal[1, 2, 3]]] = {"Zero1": 1, "Zero2": 2, "Zero3": 3}
_BLANK: Final = Image.new("RGB", (56, 56), "white")


def training_engine(
    policy: Policy,
    asked: SFTTraining | Optimization,
    parallelism: Parallelism | None = None,
    ranks: Ranks = ALONE,
) -> Engine:
    """Trains what learns of ``policy.module``, as the spec's training or optimization part says.

    With several ranks all of them train it together; one rank has nothing to share. Call
    ``choose_what_learns`` before.
    """
    sharing = parallelism or Parallelism()
    config = AdamWConfig(
        beta1=asked.adam_beta1,
        beta2=asked.adam_beta2,
        weight_decay=asked.weight_decay,
        gradient_clip=asked.gradient_clip,
    )
    if not isinstance(ranks, Group):
        if sharing.offload != "None":
            raise ConfigError(
                "spec.parallelism.offload: a run of one process offloads nothing; "
                "set resources.processesPerNode to 2 or more, or offload to None"
            )
        return LocalEngine(policy.module, config)
    if sharing.strategy == "DataParallel":
        return DataParallelEngine(policy.module, config, ranks)
    if policy.adapters is not None:
        raise ConfigError(
            "spec.parallelism.strategy: adapters leave ZeRO little to share; "
            "use DataParallel, or leave lora out"
        )
    zero = ZeroConfig(
        stage=_STAGES[sharing.strategy],
        offload_optimizer=sharing.offload != "None",
        offload_parameters=sharing.offload == "OptimizerAndParameters",
    )
    whole = () if _tower_learns(policy) else (VISUAL,)
    return ZeroEngine(policy.module, config, zero, ranks, whole)


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
    if not _tower_learns(policy):
        policy.freeze_vision()
    if asked.gradient_checkpointing:
        recompute_layers(module)


def refuse_idle_ranks(spec: RLVRSpec, ranks: Ranks) -> None:
    """Raises ``ConfigError`` where a rank that has to keep in step would never have a prompt."""
    prompts = spec.rollout.prompts_per_step
    if spec.parallelism.strategy in ("Zero2", "Zero3") and ranks.size > prompts:
        raise ConfigError(
            f"spec.rollout.promptsPerStep: {prompts} prompts leave some of {ranks.size} ranks "
            f"idle, which {spec.parallelism.strategy} does not allow; raise it, or use Zero1"
        )


def logprobs(
    engine: Engine,
    policy: Policy,
    packed: PackedRows,
    images: Sequence[Picture],
    temperature: float = 1.0,
    *,
    entropies: bool = False,
) -> tuple[Tensor, Tensor]:
    """``Policy.logprobs`` of rows with these pictures, in a pass of the engine.

    Ranks in step go through the same modules: one without pictures shows its tower a blank one,
    whose gradient is zero.
    """

    def call() -> tuple[Tensor, Tensor]:
        blank = engine.in_step and not images and _tower_learns(policy)
        seen = policy.see([_BLANK] if blank else images)  # first: all ranks go one way
        shown = seen[:0] if blank else seen
        logp_N, entropy_N = policy.logprobs(packed, shown, temperature, entropies=entropies)
        return logp_N + 0.0 * seen.sum() if blank else logp_N, entropy_N

    return engine.forward(call)


def extra_passes(engine: Engine, ranks: Ranks, passes: int) -> int:
    """Passes without a gradient that this rank makes after its own, to keep in step."""
    return max(ranks.gather(passes)) - passes if engine.in_step else 0


def _tower_learns(policy: Policy) -> bool:
    return any(p.requires_grad for p in policy.module.model.visual.parameters())
