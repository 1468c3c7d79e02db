"""vLLM started in this process, and what its engines here have in common.

vllm is an optional dependency: modules called ``vllm_*`` import it, and only when they are used.
"""

from __future__ import annotations

import os
import random
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

import numpy as np
import torch

from m2r_train.rollout.base import SamplingParams

_LONGEST: Final = 32768
_ENVIRONMENT: Final = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # weights are handed over by reference
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # threads are the run's, see `use_threads`
    "VLLM_LOGGING_LEVEL": "ERROR",
}


class Closing(Protocol):
    """What holds an ``LLM``."""

    def close(self) -> None:
        """Give everything back."""
        ...


_open: weakref.ref[Closing] | None = None


def only(one: Closing) -> None:
    """Close whoever held an ``LLM`` before: vLLM keeps much of its state in the process."""
    global _open  # noqa: PLW0603 - as vLLM's own state is
    last = _open() if _open is not None else None
    if last is not None:
        last.close()
    _open = weakref.ref(one)


def start(folder: str, dtype: torch.dtype, longest: int, **settings: Any) -> Any:
    """An ``LLM`` of a model folder. Leaves the process's own settings as they were.

    ``longest``: tokens of a prompt and its completion.
    """
    os.environ.update({k: v for k, v in _ENVIRONMENT.items() if k not in os.environ})
    with _settings_kept():
        import vllm  # noqa: PLC0415 - optional, and it reads the environment when imported

        return vllm.LLM(
            folder,
            dtype=str(dtype).removeprefix("torch."),
            max_model_len=longest,
            trust_remote_code=False,
            generation_config="vllm",  # nothing but what each request says
            mm_processor_cache_gb=0,  # it grows for ever, and a picture comes once a step
            distributed_executor_backend=_executor(),
            disable_log_stats=True,
            structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
            seed=0,
            **settings,
        )


def _executor() -> str:
    """Of several processes that torchrun has started, each has an engine of its own."""
    return "external_launcher" if int(os.environ.get("WORLD_SIZE", "1")) > 1 else "uni"


@contextmanager
def _settings_kept() -> Iterator[None]:
    """vLLM seeds the global generators, and takes ``torch.set_num_threads`` away on a CPU."""
    set_threads, threads = torch.set_num_threads, torch.get_num_threads()
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        torch.set_num_threads = set_threads
        set_threads(threads)


def sampling(seed: int, params: SamplingParams, stops: Sequence[int], **more: Any) -> Any:
    """``vllm.SamplingParams`` of one prompt. vLLM gives sample g the seed ``seed + g``."""
    import vllm  # noqa: PLC0415 - optional
    from vllm.sampling_params import StructuredOutputsParams  # noqa: PLC0415

    schema = None if params.schema is None else StructuredOutputsParams(json=params.schema)
    return vllm.SamplingParams(
        n=params.samples if params.temperature > 0 else 1,
        seed=seed >> 1,  # room for the samples' numbers in 63 bits
        temperature=params.temperature,
        top_p=1.0,
        top_k=0,
        max_tokens=params.max_tokens,
        stop_token_ids=list(stops),
        detokenize=False,
        structured_outputs=schema,
        **more,
    )


def end(llm: Any) -> None:
    """Shut an ``LLM`` down. The caller lets go of it and collects the garbage.

    What vLLM leaves to the garbage collector would, some time later, take the process's groups
    away from the engine that follows.
    """
    llm.llm_engine.engine_core.shutdown()


def forget(llm: Any) -> None:
    """Drop what was computed from other weights, or beside other prompts.

    The worker forgets its pictures when weights are loaded, the scheduler does not, and vLLM
    dies of it when one of them comes again (seen in 0.32).
    """
    llm.reset_prefix_cache()
    llm.reset_mm_cache()
    llm.llm_engine.reset_encoder_cache()


def token_bytes(config: Any, dtype: torch.dtype) -> int:
    """What keys and values of one token take, in bytes, of a model with this config."""
    text = config.get_text_config()
    heads = text.num_attention_heads
    head = getattr(text, "head_dim", None) or text.hidden_size // heads
    keys = getattr(text, "num_key_value_heads", None) or heads
    return int(2 * text.num_hidden_layers * keys * head * dtype.itemsize)


def longest(config: Any) -> int:
    """Most tokens of a prompt and its completion: what the model allows, 32,768 at most."""
    return min(_LONGEST, int(config.get_text_config().max_position_embeddings))
