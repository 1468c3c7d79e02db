"""Where vLLM lives: on a CPU, or on the GPU that the trainer uses too.

What differs is small and stands here: the engine's settings, and what happens around a step. Both
load weights the same way, so that the tests on a CPU go through all of it but the driver's part of
giving memory back. The engine is vLLM's ``LLM``, in this process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Protocol

import torch
from torch import Tensor

Weights = Iterator[tuple[str, Tensor]]
_WAVE_TOKENS: Final = 32768
_CACHE_TOKENS: Final = 131072  # of a CPU's key-value cache, unless that is more than ...
_CACHE_BYTES: Final = 1 << 30  # ... this many bytes; one sequence of full length always fits


class Host(Protocol):
    """What a ``VllmEngine`` asks of its place."""

    wave_tokens: int | None
    """Most tokens of prompts that are given to vLLM at a time; None: all at once."""

    def settings(self, token_bytes: int, longest: int) -> dict[str, Any]:
        """Arguments of ``LLM``; ``token_bytes`` is what one token takes of the key-value cache."""
        ...

    def load(self, llm: Any, weights: Weights) -> None:
        """Take the weights over; afterwards ``llm`` can generate."""
        ...

    def awake(self) -> AbstractContextManager[object]:
        """What ``llm`` generates in."""
        ...

    def rest(self, llm: Any) -> bool:
        """Nothing is to be generated for a while. Whether ``llm`` still holds its weights."""
        ...


class OnCpu:
    """Memory is plentiful, so weights and cache stay; nothing is compiled.

    vLLM compiles small functions at their first call, which here takes a C++ compiler and half a
    minute, and saves nothing.

    No prompt is computed in parts. After a part vLLM takes the drawn number back from the
    request's generator, which generators on a CPU do not support: it dies of it (seen in 0.32).
    Parts come from a budget of tokens that is smaller than a prompt, or of visual tokens smaller
    than those of the pictures that wait; hence ``wave_tokens``.
    """

    wave_tokens: int | None = _WAVE_TOKENS

    def settings(self, token_bytes: int, longest: int) -> dict[str, Any]:
        """See ``Host``."""
        cache = min(token_bytes * _CACHE_TOKENS, _CACHE_BYTES)
        return {
            "enforce_eager": True,
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(_WAVE_TOKENS, longest),
            "kv_cache_memory_bytes": max(cache, 2 * token_bytes * longest),
        }

    def load(self, llm: Any, weights: Weights) -> None:
        """See ``Host``."""
        llm.collective_rpc(take_over, args=(weights,))

    def awake(self) -> AbstractContextManager[object]:
        """See ``Host``."""
        stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
        return stance

    def rest(self, llm: Any) -> bool:
        """See ``Host``."""
        return True


class Colocated:
    """One GPU for trainer and vLLM: all of vLLM's memory goes back after each step's rollouts.

    Level 2 keeps nothing: neither a copy in host memory (level 1, 17 GB an engine for 7B) nor
    weights that the next update replaces anyway. Waking in stages keeps the peak low: weights
    come back and are filled before the key-value cache takes what is left.
    """

    wave_tokens: int | None = None

    def __init__(self, memory_ratio: float) -> None:
        self._memory_ratio = memory_ratio
        self._asleep = False

    def settings(self, token_bytes: int, longest: int) -> dict[str, Any]:
        """See ``Host``."""
        return {"enable_sleep_mode": True, "gpu_memory_utilization": self._memory_ratio}

    def load(self, llm: Any, weights: Weights) -> None:
        """See ``Host``."""
        if self._asleep:
            llm.wake_up(tags=["weights"])
        llm.collective_rpc(take_over, args=(weights,))
        if self._asleep:
            llm.wake_up(tags=["kv_cache"])
        self._asleep = False

    def awake(self) -> AbstractContextManager[object]:
        """See ``Host``."""
        return nullcontext()

    def rest(self, llm: Any) -> bool:
        """See ``Host``."""
        llm.sleep(level=2)
        self._asleep = True
        return False


def take_over(worker: Any, weights: Weights) -> None:
    """Runs in vLLM's worker: replace every weight, in place, in the checkpoint's own names.

    A CPU's matrices are packed for its instructions. vLLM packs them again as they are loaded, but
    not the output matrix that is tied to the embedding, since the checkpoint does not name it: it
    would go on with the old weights, silently (seen in vLLM 0.32).
    """
    worker.reload_weights(weights_iterator=weights)
    for module in worker.model_runner.get_model().modules():
        if hasattr(module, "shard_indices") and hasattr(module, "cpu_linear"):
            module.quant_method.process_weights_after_loading(module)
