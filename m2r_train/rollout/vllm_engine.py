"""Rollouts by vLLM, in this process, with the policy's weights pushed into it after every update.

A completion is a function of the weights, the prompt's seed and the sample's number; how far that
holds when other prompts share the batch is up to vLLM's kernels, whose sums may differ in the last
bits with the batch. So caches are emptied before each call: a step that is drawn again after a
kill, in a fresh process, is the same step. Pictures and clips are given once, as such, with prompts
whose placeholders are not expanded; what vLLM expands them to is held against the trainer's own
tokens.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Sequence, Set
from contextlib import nullcontext
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
from m2r_train.rollout.vllm_start import end, forget, longest, only, sampling, start, token_bytes
from m2r_train.rollout.weights import Gather, stream

MEMORY_RATIO: Final = 0.45


class VllmEngine:
    """Implements ``RolloutEngine[Request]``. Raises ``ConfigError`` where there is no vLLM.

    ``look`` is called before each of the engine's steps; what it raises ends the drawing.
    ``gather`` makes sharded parameters whole: see ``weights.stream``. On a GPU the engine sleeps
    between two calls of ``generate``, and takes the weights as they are when it wakes: a policy
    must not be trained between ``update_weights`` and what is drawn from it.

    There is one engine at a time in a process: a new one closes that before it.
    """

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
        only(self)
        self._longest = longest(policy.module.config)
        self._folder = TemporaryDirectory(prefix="m2r-vllm-")  # vLLM reads it when it likes
        _save_without_weights(policy, Path(self._folder.name))
        self._llm = start(
            self._folder.name,
            policy.module.dtype,
            self._longest,
            load_format="dummy",  # weights come with the first update
            logprobs_mode="processed_logprobs",  # of the distribution that is drawn from
            limit_mm_per_prompt={"video": 1},
            mm_device_do_normalize=False,  # by the processor, as in training: see the ADR
            **host.settings(token_bytes(policy.module.config, policy.module.dtype), self._longest),
        )
        host.rest(self._llm)
        self._current = False

    def close(self) -> None:
        """Give everything back; the engine is of no use any more.

        What vLLM leaves to the garbage collector would, some time later, take the process's groups
        away from the engine that follows.
        """
        if hasattr(self, "_llm"):
            end(self._llm)
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
        most = max(len(r.prompt.tokens) for r in requests) + params.max_tokens
        if most > self._longest:
            raise ConfigError(
                f"a prompt and maxCompletionTokens make {most} tokens, and vllm takes "
                f"{self._longest} of this model; lower maxCompletionTokens, or shorten prompts"
            )
        if not self._current:
            self.update_weights()
        forget(self._llm)
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
        return sampling(
            seed,
            params,
            self._policy.stop_tokens,
            ignore_eos=True,  # the policy's own stop tokens are all that stop
            logprobs=0,  # of the sampled token alone
            flat_logprobs=True,
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


def _save_without_weights(policy: Policy, folder: Path) -> None:
    """The policy's configuration and processor, as vLLM reads them from a folder."""
    config = copy.deepcopy(policy.module.config)
    config.architectures = [type(policy.module).__name__]
    config.save_pretrained(folder)
    policy.processor.save_pretrained(folder)
