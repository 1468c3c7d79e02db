"""Any model that vLLM serves, as teacher or judge, in this process.

A reply is a function of the weights, the question's seed and the sample's number, as far as vLLM's
kernels make it one (`vllm_engine`).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoConfig

from m2r_train.api.errors import ConfigError
from m2r_train.rollout.available import why_no_vllm
from m2r_train.rollout.base import SamplingParams
from m2r_train.rollout.chats import Asked, ChatFolder, first_line
from m2r_train.rollout.vllm_hosts import OnCpu
from m2r_train.rollout.vllm_start import end, forget, longest, only, sampling, start, token_bytes

_MEMORY_RATIO: Final = 0.85  # of a GPU that nothing else of the run uses meanwhile
_SEEN_TOGETHER: Final = 8  # questions with pictures, on a CPU: see `OnCpu`


class VllmChats:
    """Implements ``Chats``. There is one engine at a time in a process."""

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        """Raises ConfigError where there is no vLLM, or none that takes the folder."""
        if missing := why_no_vllm():
            raise ConfigError(missing)
        self.folder = ChatFolder(path)
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        most = longest(config)
        settings: dict[str, Any] = {"gpu_memory_utilization": _MEMORY_RATIO}
        self._host = None if torch.cuda.is_available() else OnCpu()
        if self._host is not None:
            settings = self._host.settings(token_bytes(config, dtype), most)
        if self.folder.sees:
            settings["limit_mm_per_prompt"] = {"video": 0}
        only(self)
        try:
            self._llm = start(str(path), dtype, most, **settings)
        except ValueError as error:
            raise ConfigError(
                f"model {path}: vllm does not take it: {first_line(error)}"
            ) from error

    def close(self) -> None:
        """Give everything back; it is of no use any more."""
        if hasattr(self, "_llm"):
            end(self._llm)
            del self._llm
            gc.collect()

    def reply(
        self, asked: Sequence[Asked], seeds: Sequence[int], params: SamplingParams
    ) -> Iterator[list[str]]:
        """See ``Chats.reply``."""
        together = len(asked)
        if self._host is not None and any(one.pictures for one in asked):
            together = _SEEN_TOGETHER
        for at in range(0, len(asked), max(together, 1)):
            some = slice(at, at + together)
            given = [sampling(seed, params, self.folder.stop_tokens) for seed in seeds[some]]
            yield from self._some(asked[some], given)

    def _some(self, asked: Sequence[Asked], params: list[Any]) -> list[list[str]]:
        import vllm.exceptions  # noqa: PLC0415 - optional

        turns = [self.folder.written(one, "image_pil") for one in asked]
        forget(self._llm)
        try:
            with nullcontext() if self._host is None else self._host.awake():
                outputs = self._llm.chat(turns, params, use_tqdm=False)
        except (ValueError, vllm.exceptions.VLLMClientError) as error:
            raise ConfigError(
                f"model {self.folder.path}: vllm does not take a question: {first_line(error)}"
            ) from error
        return [
            [
                self.folder.decode(one.token_ids)
                for one in sorted(output.outputs, key=lambda one: one.index)
            ]
            for output in outputs
        ]
