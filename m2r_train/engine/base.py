"""What a stage asks of an engine: the optimiser of one process, or of one rank of several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from torch import Tensor

T = TypeVar("T")


class Engine(Protocol):
    """Owns the optimiser; stages own the loss.

    With several ranks every method is called by all of them, in the same order.
    """

    @property
    def in_step(self) -> bool:
        """Whether ranks have to compute equally many micro-batches, each through all modules."""

    def forward(self, call: Callable[[], T]) -> T:
        """What ``call`` makes of the module, for a gradient: no pass goes around this."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of ``loss``: this rank's part of a sum over all micro-batches."""

    def step(self, learning_rate: float) -> float:
        """Sum over ranks, clip, update, clear. Returns the norm before clipping.

        A gradient that is not finite leaves the parameters untouched, and the norm says so.
        """

    def state_dict(self) -> Mapping[str, Tensor]:
        """What a checkpoint holds, named as ``engine.local.LocalEngine`` does.

        Whole on rank 0; other ranks may be given less.
        """

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state_dict`` gave to rank 0; every rank is given all of it."""

    def gathered(self) -> AbstractContextManager[None]:
        """While the block lasts, every rank holds every parameter whole. They must not change."""
