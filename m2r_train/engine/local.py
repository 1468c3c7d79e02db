"""One process: AdamW on a module's parameters, with a state that is tensors by name.

Parameters narrower than float32 have a master in float32 here: gradients are summed into it, the
optimiser works on it, and the parameter is its rounded copy (mixed precision, arXiv 1710.03740).

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


def learning(module: nn.Module, frozen: Iterable[str] = ()) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name: those that ask for gradients, less the ``frozen``.

    ``frozen`` are the beginnings of names. All others stay as they are for the whole run.
    """
    prefixes = tuple(frozen)
    named: dict[str, nn.Parameter] = {}
    for name, parameter in module.named_parameters():
        learns = parameter.requires_grad and not (prefixes and name.startswith(prefixes))
        parameter.requires_grad_(learns)
        if learns:
            named[name] = parameter
    return named


def groups(parameters: Iterable[nn.Parameter], config: AdamWConfig) -> list[dict[str, Any]]:
    """The optimiser's groups: vectors (norms, biases) are not decayed, as is usual."""
    given = list(parameters)
    return [
        {"params": [p for p in given if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in given if p.ndim < 2], "weight_decay": 0.0},
    ]


class LocalEngine:
    """Owns the optimiser; stages own the loss.

    What learns are the parameters that ask for gradients, less those whose names begin with one of
    ``frozen``; all others stay as they are for the whole run.
    """

    def __init__(self, module: nn.Module, config: AdamWConfig, frozen: Iterable[str] = ()) -> None:
        self._module = module
        self._config = config
        own = learning(module, frozen)
        # float32 or wider, which the optimiser holds; the module's own, where that is another
        self._named = {name: _master_of(parameter) for name, parameter in own.items()}
        self._rounded = {n: p for n, p in own.items() if self._named[n] is not p}
        self._optimizer = torch.optim.AdamW(
            groups(self._named.values(), config),
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
            self._round()
        self._optimizer.zero_grad(set_to_none=True)
        return float(norm)

    @torch.no_grad()
    def _round(self) -> None:
        for name, parameter in self._rounded.items():
            parameter.copy_(self._named[name])

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and moments by name: ``param/N``, ``adam_m/N``, ``adam_v/N``, ``adam_t/N``.

        All in float32 or wider: where a parameter has a master, ``param/N`` is that.
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
                    "exp_avg": state[f"adam_m/{name}"].to(parameter.device, copy=True),
                    "exp_avg_sq": state[f"adam_v/{name}"].to(parameter.device, copy=True),
                }
        self._round()


def _master_of(parameter: nn.Parameter) -> nn.Parameter:
    """The parameter itself, or a copy in float32 that takes its gradients over as they come."""
    if parameter.dtype.itemsize >= torch.float32.itemsize:
        return parameter
    master = nn.Parameter(parameter.detach().float())

    def take(own: Tensor) -> None:
        assert own.grad is not None
        if master.grad is None:
            master.grad = own.grad.float()
        else:
            master.grad += own.grad
        own.grad = None

    parameter.register_post_accumulate_grad_hook(take)  # type: ignore[no-untyped-call]
    return master
