"""Low-rank adapters (Hu et al., arXiv 2106.09685): W + alpha / rank * B A, where A and B learn.

The layers keep their place and the names of their weights, so that whoever knows the model knows
it with adapters too; A and B are two more parameters of the layer. The maths, the initial values
(Kaiming-uniform A, zero B) and the format on disk are those of the ``peft`` library.

Shapes: r rank, I inputs of a layer, O its outputs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import linear

from m2r_train.api.errors import ConfigError
from m2r_train.core.rng import derive_seed

SUFFIXES: Final = ("lora_A", "lora_B")
_PEFT_PREFIX: Final = "base_model.model."


class _Switch:
    """Whether the adapters of a model take part."""

    on = True


class LoraLinear(nn.Linear):
    """A linear layer with an adapter; ``weight`` and ``bias`` are the base model's own tensors."""

    def __init__(self, base: nn.Linear, rank: int, scale: float, switch: _Switch) -> None:
        super().__init__(base.in_features, base.out_features, bias=False, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.lora_A = nn.Parameter(base.weight.new_zeros(rank, base.in_features))
        self.lora_B = nn.Parameter(base.weight.new_zeros(base.out_features, rank))
        self.scale = scale
        self._switch = switch
        self.train(base.training)

    def forward(self, input: Tensor) -> Tensor:
        """(..., I) -> (..., O)."""
        out = linear(input, self.weight, self.bias)
        if not self._switch.on:
            return out
        return out + linear(linear(input, self.lora_A), self.lora_B) * self.scale

    @torch.no_grad()
    def merged(self) -> Tensor:
        """The weight (O, I) of a plain layer that computes the same.

        The product is made in float32, so that one rounding stands between it and the weight.
        """
        change = (self.lora_B.float() @ self.lora_A.float()) * self.scale
        return (self.weight.float() + change).to(self.weight.dtype)


class Adapters:
    """The adapters of one model: put in by the constructor, which freezes all other parameters.

    Layers of ``frozen`` parameters get none. A's initial values come from ``seed`` and the layer's
    name. Raises ``ConfigError``, which begins with the field ``where``, for a target that fits no
    layer that may learn.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        rank: int,
        alpha: float,
        targets: Sequence[str],
        frozen: frozenset[str],
        seed: int,
        where: str,
    ) -> None:
        self.rank, self.alpha = rank, alpha
        self._switch = _Switch()
        chosen = _targets(module, targets, frozen, where)
        module.requires_grad_(False)
        for name, layer in chosen.items():
            adapted = LoraLinear(layer, rank, alpha / rank, self._switch)
            _draw(adapted.lora_A, derive_seed(seed, "lora", name))
            parent, _, own = name.rpartition(".")
            setattr(module.get_submodule(parent), own, adapted)
        self.names = tuple(chosen)

    @contextmanager
    def off(self) -> Iterator[None]:
        """While the block lasts the model is the one that the run started from."""
        before, self._switch.on = self._switch.on, False
        try:
            yield
        finally:
            self._switch.on = before

    def save(self, module: nn.Module, folder: Path) -> None:
        """Write the adapter as ``peft`` reads it: its configuration and its tensors."""
        folder.mkdir(parents=True)
        tensors = {
            f"{_PEFT_PREFIX}{name}.{suffix}.weight": _tensor(module, name, suffix)
            for name in self.names
            for suffix in SUFFIXES
        }
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        config = {
            "peft_type": "LORA",
            "base_model_name_or_path": None,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "init_lora_weights": True,
            "lora_alpha": self.alpha,
            "lora_dropout": 0.0,
            "modules_to_save": None,
            "r": self.rank,
            "target_modules": list(self.names),
            "task_type": None,
        }
        text = json.dumps(config, indent=2, sort_keys=True) + "\n"
        (folder / "adapter_config.json").write_text(text, encoding="utf-8")


def merged_state(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter of the plain model that computes the same, a tied one once, by its name."""
    for name, parameter in module.named_parameters():
        if not is_adapter(name):
            yield name, merged(module, name, parameter)


def merged(module: nn.Module, name: str, parameter: nn.Parameter) -> Tensor:
    """A parameter of the model, with its layer's adapter in it where there is one."""
    owner = module.get_submodule(name.rpartition(".")[0])
    if isinstance(owner, LoraLinear) and parameter is owner.weight:
        return owner.merged()
    return parameter.detach()


def is_adapter(name: str) -> bool:
    """Whether a parameter's name is that of an adapter."""
    return name.rpartition(".")[2] in SUFFIXES


def plain(module: nn.Module) -> None:
    """Merge every adapter into its layer, in place: the model has none any more."""
    for name, layer in list(module.named_modules()):
        if isinstance(layer, LoraLinear):
            bare = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
            bare.weight = nn.Parameter(layer.merged(), requires_grad=False)
            bare.bias = layer.bias
            bare.train(layer.training)
            parent, _, own = name.rpartition(".")
            setattr(module.get_submodule(parent), own, bare)


def _targets(
    module: nn.Module, targets: Sequence[str], frozen: frozenset[str], where: str
) -> Mapping[str, nn.Linear]:
    """The layers that get an adapter, by name."""
    head = getattr(module, "lm_head", None)
    free = {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and f"{name}.weight" not in frozen
    }
    chosen: dict[str, nn.Linear] = {}
    for number, target in enumerate(targets):
        own = {n: layer for n, layer in free.items() if _fits(n, target)}
        if not own:
            raise ConfigError(
                f"{where}.targets[{number}]: {target!r} fits no linear layer that may learn; write "
                "the last part of a layer's name, such as q_proj, or freeze less"
            )
        chosen |= own
    if not targets:
        chosen = {n: layer for n, layer in free.items() if layer is not head}
    if not chosen:
        raise ConfigError(f"{where}: no linear layer is left to adapt; freeze less")
    # A head that shares its weight with the embeddings cannot be merged without changing them.
    tied = {id(p) for m in module.modules() if isinstance(m, nn.Embedding) for p in [m.weight]}
    for name, layer in chosen.items():
        if id(layer.weight) in tied:
            raise ConfigError(
                f"{where}.targets: {name} shares its weight with the embeddings, so its adapter "
                "could not be merged; leave it out"
            )
    return chosen


def _fits(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}") or fnmatchcase(name, target)


@torch.no_grad()
def _draw(lora_A: nn.Parameter, seed: int) -> None:
    """Uniform in +-1 / sqrt(I): Kaiming's rule with a = sqrt(5), as ``nn.Linear`` and peft draw."""
    generator = torch.Generator().manual_seed(seed)
    bound = 1.0 / math.sqrt(lora_A.shape[1])
    values = torch.empty(lora_A.shape, dtype=torch.float32)
    lora_A.copy_(values.uniform_(-bound, bound, generator=generator))


def _tensor(module: nn.Module, name: str, suffix: str) -> Tensor:
    layer: Any = module.get_submodule(name)
    tensor: Tensor = getattr(layer, suffix)
    return tensor.detach().float().cpu().contiguous()
