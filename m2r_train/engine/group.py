"""Ranks that are several processes: torch.distributed, gloo in host memory, nccl between GPUs.

A wait for the others is bounded, and what goes wrong in one is `RanksLostError`. A rank that ends
closes its connections, so the others learn of it at their next agreement, and none of them hangs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from m2r_train.engine.ranks import Ranks, RanksLostError, Seat

_PIECE_BYTES = 1 << 28  # of a large message at a time
_NOTHING = -1  # the length of a message that is None


class Group(Ranks):
    """All ranks of a run; made once in a process, and closed at its end."""

    def __init__(self, seat: Seat, seconds: float) -> None:
        """Meets the others at ``MASTER_ADDR``; ``seconds`` bounds this and every later wait."""
        super().__init__(seat)
        self._seconds = seconds
        backend = "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(seat.local)
            backend = "cpu:gloo,cuda:nccl"
        with self._together("the start"):
            dist.init_process_group(
                backend,
                init_method="env://",
                timeout=timedelta(seconds=seconds),
                rank=seat.index,
                world_size=seat.size,
            )

    @contextmanager
    def _together(self, what: str) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, dist.DistError) as error:
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise RanksLostError(
                f"rank {self.seat.index} of {self.size}: lost the others at {what}: one has ended, "
                f"or did not answer within {self._seconds:.0f} s (watchdog.stallSeconds); {first}"
            ) from error

    def share_bytes(self, data: bytes | memoryview | None) -> bytes | memoryview | None:
        size = torch.tensor([_NOTHING if data is None else len(data)], dtype=torch.int64)
        with self._together("a message of rank 0"):
            dist.broadcast(size, src=0)
            length = int(size)
            if length == _NOTHING:
                return None
            memory = bytearray(data) if self.leads and data is not None else bytearray(length)
            for start in range(0, length, _PIECE_BYTES):
                piece = torch.frombuffer(
                    memory,
                    dtype=torch.uint8,
                    offset=start,
                    count=min(_PIECE_BYTES, length - start),
                )
                dist.broadcast(piece, src=0)
        return data if self.leads else memoryview(memory)

    def gather_bytes(self, data: bytes) -> list[bytes]:
        with self._together("an agreement"):
            lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
            dist.all_gather(lengths, torch.tensor([len(data)], dtype=torch.int64))
            longest = max(int(n) for n in lengths)
            if not longest:
                return [b""] * self.size
            own = torch.zeros(longest, dtype=torch.uint8)
            own[: len(data)] = torch.frombuffer(bytearray(data or b"\0"), dtype=torch.uint8)[
                : len(data)
            ]
            parts = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.size)]
            dist.all_gather(parts, own)
        return [part.numpy().tobytes()[: int(n)] for part, n in zip(parts, lengths, strict=True)]

    def add(self, tensor: Tensor) -> None:
        """Replace ``tensor`` by its sum over ranks: the same bits on each."""
        with self._together("the gradients"):
            dist.all_reduce(tensor)

    def any_of(self, flags: Sequence[bool], device: torch.device) -> list[bool]:
        """For each flag whether any rank has it set."""
        seen = torch.tensor(flags, dtype=torch.int32, device=device)
        with self._together("the gradients"):
            dist.all_reduce(seen, op=dist.ReduceOp.MAX)
        return [bool(flag) for flag in seen.tolist()]

    def close(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()
