"""Data parallel: every rank has the whole model, and learns from the sum of all gradients.

Gradients are summed once a step, in buckets of a fixed size and in the order of the parameters, so
it matters to nobody how many micro-batches a rank has, and a run's bits depend on the number of
ranks and on nothing else. Each rank makes the same update of the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from m2r_train.engine.group import Group
from m2r_train.engine.local import AdamWConfig, LocalEngine

_BUCKET_ELEMENTS = 1 << 23  # 32 MiB in float32


class DataParallelEngine(LocalEngine):
    """`LocalEngine` on each rank of ``group``."""

    def __init__(
        self, module: nn.Module, config: AdamWConfig, group: Group, frozen: Iterable[str] = ()
    ) -> None:
        super().__init__(module, config, frozen)
        self._group = group

    def step(self, learning_rate: float) -> float:
        """`LocalEngine.step` with the gradients' sum over ranks."""
        self._sum_gradients()
        return super().step(learning_rate)

    @torch.no_grad()
    def _sum_gradients(self) -> None:
        """A parameter that no rank has a gradient of keeps none, as in one process."""
        parameters = list(self._named.values())
        if not parameters:
            return
        there = self._group.any_of(
            [p.grad is not None for p in parameters], device=parameters[0].device
        )
        gradients = []
        for parameter, used in zip(parameters, there, strict=True):
            if not used:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        for bucket in _buckets(gradients, _BUCKET_ELEMENTS):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            self._group.add(flat)
            sizes = [gradient.numel() for gradient in bucket]
            for gradient, summed in zip(bucket, flat.split_with_sizes(sizes), strict=True):
                gradient.copy_(summed.view_as(gradient))


def _buckets(tensors: Iterable[Tensor], most: int) -> Iterator[list[Tensor]]:
    """Neighbours of one type, of at most ``most`` elements; a larger tensor is a bucket itself."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and (size + tensor.numel() > most or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    if bucket:
        yield bucket
