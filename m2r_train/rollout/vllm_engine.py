"""Rollouts by vLLM, in this process, with the policy's weights pushed into it after every update.

The only module that imports vllm (an optional dependency). A completion is a function of the
weights, the prompt's seed and the sample's number; how far that holds when other prompts share the
batch is up to vLLM's kernels, whose sums may differ in the last bits with the batch. So caches are
emptied before each call: a step that is drawn again after a kill, in a fresh process, is the same
step. Pictures and clips are given once, as such, with prompts whose placeholders are not expanded;
what vLLM expands them to is held against the trainer's own tokens.
"""

from __future__ import annotations

import copy
import gc
import os
import random
import weakref
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import torch

from m2r_train.api.errors import ConfigError
from m2r_train.model.policy import Policy, Prompt, Request
from m2r_train.model.vision import FRAMES_PER_SECOND, Clip
from m2r_train.rollout.available import why_no_vllm
from m2r_train.rollout.base import Completion, SamplingParams
from m2r_train.rollout.vllm_hosts import Colocated, Host, OnCpu
from m2r_train.rollout.weights import Gather, stream

MEMORY_RATIO: Final = 0.45
_LONGEST: Final = 32768  # tokens of prompt and completion, where the model allows as many
_ENVIRONMENT: Final = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # weights are handed over by reference
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # threads are the run's, see `use_threads`
    "VLLM_LOGGING_LEVEL": "ERROR",
}


class VllmEngine:
    """Implements ``RolloutEngine[Request]``. Raises ``ConfigError`` where there is no vLLM.

    ``look`` is called before each of the engine's steps; what it raises ends the drawing.
    ``gather`` makes sharded parameters whole: see ``weights.stream``. On a GPU the engine sleeps
    between two calls of ``generate``, and takes the weights as they are when it wakes: a policy
    must not be trained between ``update_weights`` and what is drawn from it.

    vLLM keeps much of its state in the process, so there is one engine at a time: a new one closes
    that before it.
    """

    _open: weakref.ref[VllmEngine] | None = None

    def __init__(
        self,
        policy: Policy,
        look: Callable[[], None] = lambda: None,
        gather: Gather = lambda _parameters: nullcontext(),
        host: Host | None = None,
    ) -> None:
        if missing := why_no_vllm():
            raise ConfigError(missing)
        self._policy = policy
        self._look = look
        self._gather = gather
        if host is None:
            host = Colocated(MEMORY_RATIO) if torch.cuda.is_available() else OnCpu()
        self._host = host
        last = VllmEngine._open() if VllmEngine._open is not None else None
        if last is not None:
            last.close()
        VllmEngine._open = weakref.ref(self)
        text = policy.module.config.text_config
        self._longest = min(_LONGEST, text.max_position_embeddings)
        self._folder = TemporaryDirectory(prefix="m2r-vllm-")  # vLLM reads it when it likes
        _save_without_weights(policy, Path(self._folder.name))
        self._llm = _start(
            self._folder.name,
            dtype=str(policy.module.dtype).removeprefix("torch."),
            max_model_len=self._longest,
            **host.settings(_token_bytes(policy), self._longest),
        )
        host.rest(self._llm)
        self._current = False

    def close(self) -> None:
        """Give everything back; the engine is of no use any more.

        What vLLM leaves to the garbage collector would, some time later, take the process's groups
        away from the engine that follows.
        """
        if hasattr(self, "_llm"):
            self._llm.llm_engine.engine_core.shutdown()
            del self._llm
            gc.collect()

    def update_weights(self) -> None:
        """See ``RolloutEngine.update_weights``."""
        self._host.load(self._llm, stream(self._policy.module, self._gather))
        self._current = True

    def generate(
        self, requests: Sequence[Request], seeds: Sequence[int], params: SamplingParams
    ) -> list[list[Completion]]:
        """See ``RolloutEngine.generate``. Raises ``ConfigError`` for a prompt that is too long."""
        if not requests:
            return []
        longest = max(len(r.prompt.tokens) for r in requests) + params.max_tokens
        if longest > self._longest:
            raise ConfigError(
                f"a prompt and maxCompletionTokens make {longest} tokens, and vllm takes "
                f"{self._longest} of this model; lower maxCompletionTokens, or shorten prompts"
            )
        if not self._current:
            self.update_weights()
        self._forget()
        try:
            with self._host.awake():
                outputs: list[Any] = []
                for wave in waves([len(r.prompt.tokens) for r in requests], self._host.wave_tokens):
                    asked = requests[wave], [self._sampling(s, params) for s in seeds[wave]]
                    outputs += self._draw(*asked)
        finally:
            self._current = self._host.rest(self._llm)
        return [self._completions(o, r) for o, r in zip(outputs, requests, strict=True)]

    def _draw(self, requests: Sequence[Request], params: Sequence[Any]) -> list[Any]:
        """vLLM's outputs in the order of requests. None stays behind when ``look`` raises."""
        engine = self._llm.llm_engine
        given = [self._given(r) for r in requests]
        ids = self._llm.enqueue(given, list(params), use_tqdm=False)
        outputs: list[Any] = []
        try:
            while engine.has_unfinished_requests():
                self._look()
                outputs += [o for o in engine.step() if o.finished]
        finally:
            if len(outputs) < len(requests):
                engine.abort_request(ids, internal=True)
        return sorted(outputs, key=lambda o: int(o.request_id))  # numbered as they were given

    def _given(self, request: Request) -> dict[str, Any]:
        """A prompt as vLLM takes it: one placeholder for each picture or clip, and these."""
        policy = self._policy
        visual = {policy.image_token, policy.video_token}
        shown: dict[str, list[Any]] = {
            "image": [one for one in request.images if not isinstance(one, Clip)],
            "video": [_video(one) for one in request.images if isinstance(one, Clip)],
        }
        return {
            "prompt_token_ids": unexpanded(request.prompt, visual, policy.merge),
            "multi_modal_data": {kind: items for kind, items in shown.items() if items},
        }

    def _sampling(self, seed: int, params: SamplingParams) -> Any:
        """vLLM gives sample g the seed ``seed + g``."""
        import vllm  # noqa: PLC0415 - optional

        return vllm.SamplingParams(
            n=params.samples if params.temperature > 0 else 1,
            seed=seed >> 1,  # room for the samples' numbers in 63 bits
            temperature=params.temperature,
            top_p=1.0,
            top_k=0,
            max_tokens=params.max_tokens,
            ignore_eos=True,  # the policy's own stop tokens are all that stop
            stop_token_ids=list(self._policy.stop_tokens),
            logprobs=0,  # of the sampled token alone
            flat_logprobs=True,
            detokenize=False,
        )

    def _completions(self, output: Any, request: Request) -> list[Completion]:
        if tuple(output.prompt_token_ids) != request.prompt.tokens:
            raise AssertionError("vllm and the trainer lay out a prompt differently")
        stops = self._policy.stop_tokens
        return [
            Completion(
                tuple(one.token_ids),
                tuple(one.logprobs.logprobs),
                truncated=one.token_ids[-1] not in stops,
            )
            for one in sorted(output.outputs, key=lambda one: one.index)
        ]

    def _forget(self) -> None:
        """Drop what was computed from other weights, or beside other prompts.

        The worker forgets its pictures when weights are loaded, the scheduler does not, and vLLM
        dies of it when one of them comes again (seen in 0.32).
        """
        self._llm.reset_prefix_cache()
        self._llm.reset_mm_cache()
        self._llm.llm_engine.reset_encoder_cache()


def waves(lengths: Sequence[int], budget: int | None) -> list[slice]:
    """Runs of items, each of at most ``budget`` in all; an item longer than it is one of its own.

    None: one run of all.
    """
    if budget is None:
        return [slice(0, len(lengths))]
    starts, used = [0], 0
    for i, length in enumerate(lengths):
        if used and used + length > budget:
            starts.append(i)
            used = 0
        used += length
    return [slice(a, b) for a, b in pairwise([*starts, len(lengths)])]


def unexpanded(prompt: Prompt, visual: Set[int], merge: int) -> list[int]:
    """The prompt's tokens with one placeholder for each picture or clip, as a chat template has it.

    ``visual`` are the placeholders of pictures and of clips.
    """
    counts = iter([t * h * w // merge**2 for t, h, w in prompt.grids])
    tokens: list[int] = []
    i = 0
    while i < len(prompt.tokens):
        token = prompt.tokens[i]
        tokens.append(token)
        i += next(counts) if token in visual else 1
    return tokens


def _video(clip: Clip) -> tuple[np.ndarray, dict[str, Any]]:
    """Frames (T, height, width, 3) and when they were filmed, as vLLM takes a video."""
    frames = np.stack([np.asarray(frame) for frame in clip.frames])
    times = {
        "total_num_frames": len(frames),
        "frames_indices": list(range(len(frames))),
        "fps": FRAMES_PER_SECOND,
        "do_sample_frames": False,
    }
    return frames, times


def _start(folder: str, **settings: Any) -> Any:
    """An ``LLM`` with weights still to come. Leaves the process's own settings as they were."""
    os.environ.update({k: v for k, v in _ENVIRONMENT.items() if k not in os.environ})
    with _settings_kept():
        import vllm  # noqa: PLC0415 - optional, and it reads the environment when imported

        return vllm.LLM(
            folder,
            load_format="dummy",
            trust_remote_code=False,
            generation_config="vllm",  # nothing but what each request says
            logprobs_mode="processed_logprobs",  # of the distribution that is drawn from
            limit_mm_per_prompt={"video": 1},
            mm_device_do_normalize=False,  # by the processor, as in training: see the ADR
            mm_processor_cache_gb=0,  # it grows for ever, and a picture comes once a step
            distributed_executor_backend=_executor(),
            disable_log_stats=True,
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


def _save_without_weights(policy: Policy, folder: Path) -> None:
    """The policy's configuration and processor, as vLLM reads them from a folder."""
    config = copy.deepcopy(policy.module.config)
    config.architectures = [type(policy.module).__name__]
    config.save_pretrained(folder)
    policy.processor.save_pretrained(folder)


def _token_bytes(policy: Policy) -> int:
    """What keys and values of one token take, in bytes."""
    text: Any = policy.module.config.text_config
    head = text.hidden_size // text.num_attention_heads
    width: int = policy.module.dtype.itemsize
    return int(2 * text.num_hidden_layers * text.num_key_value_heads * head * width)
