"""A state copied to host memory, as the very bytes of its safetensors file.

The copy is all that training waits for. Since it is laid out like the file, nothing has to be
serialised afterwards, and there is no second copy: a store reads from it while training goes on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final

import torch
from torch import Tensor

_LINE = 64  # bytes of a cache line: copies between lines that do not match take a third longer
_NAMES: Final[Mapping[torch.dtype, str]] = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the tensors lie in the file: ``spans`` are (first byte, byte after the last)."""

    header: bytes
    spans: Mapping[str, tuple[int, int]]
    size: int

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Layout:
        """Header and data, all aligned.

        The format allows no gaps, and a single odd tensor shifts all that follow: those of whole
        cache lines come first, of the others the widest elements.

        Raises ``ValueError`` for elements that the format does not have.
        """
        odd = [f"{name} ({t.dtype})" for name, t in state.items() if t.dtype not in _NAMES]
        if odd:
            raise ValueError(f"safetensors cannot hold {', '.join(odd[:3])}")
        order = sorted(state, key=lambda name: _place(name, state[name]))
        ends = list(accumulate((state[name].nbytes for name in order), initial=0))
        offsets = dict(zip(order, pairwise(ends), strict=True))
        described = {
            name: {
                "dtype": _NAMES[state[name].dtype],
                "shape": list(state[name].shape),
                "data_offsets": list(offsets[name]),
            }
            for name in order
        }
        text = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-(len(text) + 8) % _LINE)
        header = len(text).to_bytes(8, "little") + text
        spans = {name: (len(header) + a, len(header) + b) for name, (a, b) in offsets.items()}
        return cls(header, spans, len(header) + ends[-1])


def _place(name: str, tensor: Tensor) -> tuple[bool, int, str]:
    """What the order in the file goes by."""
    return tensor.nbytes % _LINE != 0, -tensor.itemsize, name


class Snapshot:
    """Host memory for one state, pinned where the state is on a GPU, and used again each time."""

    def __init__(self) -> None:
        self._memory: Tensor | None = None

    @torch.no_grad()
    def take(self, state: Mapping[str, Tensor]) -> memoryview:
        """The state as safetensors; the view holds until the next call."""
        layout, gpus = Layout.of(state), {t.device for t in state.values() if t.is_cuda}
        memory = self._room(layout.size, pinned=bool(gpus))
        memory[: len(layout.header)] = torch.frombuffer(bytearray(layout.header), dtype=torch.uint8)
        for name, (start, end) in layout.spans.items():
            tensor = state[name]
            place = memory[start:end].view(tensor.dtype).view(tensor.shape)
            place.copy_(tensor, non_blocking=bool(gpus))
        for gpu in gpus:
            torch.cuda.synchronize(gpu)
        view: memoryview = memory.numpy().data
        return view[: layout.size].toreadonly()

    def _room(self, size: int, *, pinned: bool) -> Tensor:
        if self._memory is None or self._memory.numel() < size:
            self._memory = None  # before there is another
            self._memory = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
        return self._memory
