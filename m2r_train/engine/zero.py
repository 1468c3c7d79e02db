"""ZeRO by DeepSpeed: ranks share the optimiser's state (stage 1), gradients (2), parameters (3).

Rajbhandari et al., arXiv 1910.02054. A state has the names and shapes of ``engine.local``, so that
a run goes on with another stage, or another number of ranks; its numbers then differ by rounding.

Stages 2 and 3 exchange gradients inside of ``backward``: their ranks go in step, which is what
``in_step`` tells. DeepSpeed is imported here alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from m2r_train.api.errors import ConfigError
from m2r_train.engine.group import Group
from m2r_train.engine.local import AdamWConfig, groups, learning

T = TypeVar("T")
_BUCKET_ELEMENTS = 1 << 23
_MOMENTS = {"adam_m": "exp_avg", "adam_v": "exp_avg_sq"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroConfig:
    """What the ranks share, and what of it lies in the hosts' memory."""

    stage: Literal[1, 2, 3]
    offload_optimizer: bool = False
    offload_parameters: bool = False  # stage 3 alone


class ZeroEngine:
    """One rank of a run whose model does not fit into each of them."""

    def __init__(
        self,
        module: nn.Module,
        config: AdamWConfig,
        zero: ZeroConfig,
        group: Group,
        frozen: Iterable[str] = (),
    ) -> None:
        try:
            import deepspeed  # noqa: PLC0415 - slow, and for who asks for it
        except ImportError as error:
            raise ConfigError(
                "spec.parallelism.strategy: ZeRO needs DeepSpeed, which is not installed; "
                "install M2R with its extra distributed, or use DataParallel"
            ) from error
        # an exchange in shared memory, which nothing here uses, and which would be compiled first
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        self.in_step = zero.stage >= 2
        self._deepspeed: Any = deepspeed
        self._group = group
        self._zero = zero
        self._named = learning(module, frozen)
        self._steps = 0
        self._passed = False  # whether this rank has a gradient for the step in flight
        optimizer = torch.optim.AdamW(
            groups(self._named.values(), config),
            lr=0.0,
            betas=(config.beta1, config.beta2),
            eps=config.epsilon,
        )
        root = _Root(module, tuple(frozen))
        if zero.stage == 3:
            head = getattr(module, "lm_head", None)
            if isinstance(head, nn.Module):  # is used without its own forward
                deepspeed.zero.register_external_parameter(root, head.weight)
        self._engine: Any = deepspeed.initialize(
            model=root,
            optimizer=optimizer,
            config=_settings(config, zero, {p.dtype for p in self._named.values()}),
            dist_init_required=False,
        )[0]
        self._make_moments()

    def forward(self, call: Callable[[], T]) -> T:
        """What ``call`` makes of the module, whose parameters are there while they are used."""
        made: T = self._engine(call)
        return made

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of ``loss``; DeepSpeed's mean over ranks becomes the sum."""
        self._engine.backward(loss * self._group.size, scale_wrt_gas=False)
        self._passed = True

    def step(self, learning_rate: float) -> float:
        """As ``engine.local.LocalEngine.step``, of the sum over ranks."""
        if not self._have_passed():
            return 0.0
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()
        norm = float(self._engine.get_global_grad_norm())
        if math.isfinite(norm):
            self._steps += 1
        return norm

    def _have_passed(self) -> bool:
        """Whether any rank has a gradient; then one without adds zeros: DeepSpeed asks all."""
        device = next(iter(self._named.values())).device
        if not self._group.any_of([self._passed], device)[0]:
            return False
        if not self._passed:  # stage 1 alone: in the others ranks keep in step
            named = self._named.values()
            self.backward(self.forward(lambda: 0.0 * torch.stack([p.sum() for p in named]).sum()))
        self._passed = False
        return True

    def state_dict(self) -> dict[str, Tensor]:
        """Whole on rank 0, nothing on the others; all of them take part."""
        from deepspeed import utils  # noqa: PLC0415

        state: dict[str, Tensor] = {}
        for name, parameter in self._named.items():
            whole = {f"param/{name}": utils.safe_get_full_fp32_param(parameter)}
            if self._steps:
                for key, moment in _MOMENTS.items():
                    whole[f"{key}/{name}"] = utils.safe_get_full_optimizer_state(parameter, moment)
                whole[f"adam_t/{name}"] = torch.tensor([float(self._steps)])
            if self._group.leads:
                state |= {key: tensor.detach().cpu() for key, tensor in whole.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore a state of any engine; each rank keeps its part of it."""
        from deepspeed import utils  # noqa: PLC0415

        names = {key.removeprefix("param/") for key in state if key.startswith("param/")}
        if names != self._named.keys():
            odd = sorted(names ^ self._named.keys())[:3]
            raise ValueError(f"checkpoint and model differ in parameters: {', '.join(odd)}")
        steps = [float(state[key]) for key in state if key.startswith("adam_t/")]
        self._steps = int(max(steps, default=0))
        self._make_moments()
        for name, parameter in self._named.items():
            self._fill(parameter, state[f"param/{name}"])
            utils.safe_set_full_fp32_param(parameter, state[f"param/{name}"])
            for key, moment in _MOMENTS.items() if self._steps else ():
                value = state.get(f"{key}/{name}")
                if value is None:  # never had a gradient
                    value = torch.zeros(getattr(parameter, "ds_shape", parameter.shape))
                utils.safe_set_full_optimizer_state(parameter, value, moment)

    @torch.no_grad()
    def _fill(self, parameter: nn.Parameter, value: Tensor) -> None:
        """The copy that computes; the optimiser has another one."""
        if self._zero.stage < 3:
            parameter.copy_(value)
            return
        with self._deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
            if self._group.leads:
                parameter.copy_(value)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """While the block lasts, each rank has all parameters; nothing is released in between."""
        if self._zero.stage < 3:
            yield
            return
        parameters = [p for p in self._engine.module.parameters() if hasattr(p, "ds_id")]
        offload = self._engine.optimizer.parameter_offload
        with self._deepspeed.zero.GatheredParameters(parameters):
            for parameter in parameters:
                parameter.ds_active_sub_modules.clear()
            for hook in (*offload.forward_hooks, *offload.backward_hooks):
                hook.remove()
            offload.forward_hooks, offload.backward_hooks = [], []
            try:
                yield
            finally:
                offload._register_deepspeed_module(offload.module)

    def _make_moments(self) -> None:
        """Zeros. DeepSpeed makes them in a step, and there finds those of the first group alone."""
        optimizer = self._engine.optimizer
        flats = (
            optimizer.fp32_partitioned_groups_flat
            if self._zero.stage == 3
            else optimizer.single_partition_of_fp32_groups
        )
        for flat in flats:
            optimizer.optimizer.state[flat] = {
                "step": torch.tensor(float(self._steps)),
                "exp_avg": torch.zeros_like(flat),
                "exp_avg_sq": torch.zeros_like(flat),
            }
        if self._zero.stage < 3:
            optimizer._hp_optimizer_states_linked = False
            optimizer._lazy_init_hp_params_optimizer_state()


class _Root(nn.Module):
    """What DeepSpeed takes for the model: it runs what it is called with.

    Frozen parts stay outside: every rank has them whole, and uses them when it likes.
    """

    def __init__(self, module: nn.Module, frozen: tuple[str, ...]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(_outside(module, "", frozen))

    def forward(self, call: Callable[[], T]) -> T:
        return call()


def _outside(module: nn.Module, name: str, frozen: tuple[str, ...]) -> list[nn.Module]:
    """The largest modules that hold none of the frozen prefixes."""
    if not any(prefix.startswith(name) for prefix in frozen):
        return [] if name and name.startswith(frozen or ("\0",)) else [module]
    found = []
    for child, part in module.named_children():
        path = f"{name}{child}."
        if not path.startswith(frozen):
            found += _outside(part, path, frozen)
    return found


def _settings(config: AdamWConfig, zero: ZeroConfig, types: set[torch.dtype]) -> dict[str, Any]:
    sharing: dict[str, Any] = {
        "stage": zero.stage,
        "overlap_comm": False,  # one order of all exchanges: equal runs give equal bits
        "reduce_bucket_size": _BUCKET_ELEMENTS,
        "allgather_bucket_size": _BUCKET_ELEMENTS,
    }
    pin = torch.cuda.is_available()
    if zero.offload_optimizer:
        sharing["offload_optimizer"] = {"device": "cpu", "pin_memory": pin}
    if zero.offload_parameters:
        sharing["offload_param"] = {"device": "cpu", "pin_memory": pin}
    return {
        "train_micro_batch_size_per_gpu": 1,  # of no meaning: a step ends when ``step`` is called
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": config.gradient_clip,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # torch's own: no compiler is needed
        "zero_optimization": sharing,
        "bf16": {"enabled": torch.bfloat16 in types},  # with float32 masters in the optimiser
        "steps_per_print": 1 << 30,
    }
