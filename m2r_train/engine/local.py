"""One process: AdamW on a module's own parameters, with a state that is tensors by name.

Nothing here is pickled: ``state_dict`` is what safetensors can hold, named by parameter, so a
checkpoint can be read by another engine or another world size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamWConfig:
    """Optimiser settings (Loshchilov and Hutter, 2019); a ``gradient_clip`` of 0 clips nothing."""

    beta1: float
    beta2: float
    weight_decay: float
    gradient_clip: float
    epsilon: float = 1e-8


def choose(
    module: nn.Module, config: AdamWConfig, frozen: Iterable[str] = ()
) -> tuple[dict[str, nn.Parameter], list[dict[str, Any]]]:
    """(parameters that learn by name, the optimiser's groups); all others are frozen here.

    ``frozen`` are the beginnings of names. Vectors (norms, biases) are not decayed, as is usual.
    """
    prefixes = tuple(frozen)
    named: dict[str, nn.Parameter] = {}
    for name, parameter in module.named_parameters():
        learns = not (prefixes and name.startswith(prefixes))
        parameter.requires_grad_(learns)
        if learns:
            named[name] = parameter
    decayed = [p for p in named.values() if p.ndim >= 2]
    plain = [p for p in named.values() if p.ndim < 2]
    return named, [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]


class LocalEngine:
    """Owns the optimiser; stages own the loss.

    ``trainable`` are the parameters that learn; all others are frozen for the whole run.
    """

    def __init__(self, module: nn.Module, config: AdamWConfig, frozen: Iterable[str] = ()) -> None:
        self._module = module
        self._config = config
        self._named, groups = choose(module, config, frozen)
        self._optimizer = torch.optim.AdamW(
            groups,
            lr=0.0,
            betas=(config.beta1, config.beta2),
            eps=config.epsilon,
            foreach=True,
        )

    in_step = False

    def forward(self, call: Callable[[], T]) -> T:
        """What ``call`` makes of the module."""
        return call()

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of ``loss``."""
        loss.backward()  # type: ignore[no-untyped-call]

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """One process holds its parameters whole at all times."""
        yield

    def step(self, learning_rate: float) -> float:
        """Clip, update, clear; the caller has run ``backward``. Returns the norm before clipping.

        A gradient that is not finite leaves the parameters untouched, and the norm says so.
        """
        norm = torch.nn.utils.clip_grad_norm_(
            self._named.values(), self._config.gradient_clip or math.inf, foreach=True
        )
        if bool(torch.isfinite(norm)):
            for group in self._optimizer.param_groups:
                group["lr"] = learning_rate
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and moments by name: ``param/N``, ``adam_m/N``, ``adam_v/N``, ``adam_t/N``.

        Frozen parameters are not part of it: they are those of the model that the run started from.
        """
        state: dict[str, Tensor] = {}
        for name, parameter in self._named.items():
            state[f"param/{name}"] = parameter.detach()
            moments = self._optimizer.state.get(parameter)
            if moments:
                state[f"adam_m/{name}"] = moments["exp_avg"]
                state[f"adam_v/{name}"] = moments["exp_avg_sq"]
                state[f"adam_t/{name}"] = moments["step"].reshape(1)
        return state

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state_dict`` gave; a missing or superfluous parameter is an error."""
        names = {key.removeprefix("param/") for key in state if key.startswith("param/")}
        if names != self._named.keys():
            odd = sorted(names ^ self._named.keys())[:3]
            raise ValueError(f"checkpoint and model differ in parameters: {', '.join(odd)}")
        self._optimizer.state.clear()
        for name, parameter in self._named.items():
            parameter.copy_(state[f"param/{name}"])
            if f"adam_m/{name}" in state:
                self._optimizer.state[parameter] = {
                    "step": state[f"adam_t/{name}"].reshape(()).clone(),
                    "exp_avg": state[f"adam_m/{name}"].clone(),
                    "exp_avg_sq": state[f"adam_v/{name}"].clone(),
                }
