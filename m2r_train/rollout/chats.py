"""Models that only speak, as teachers and judges: any that transformers knows, text or pictures.

What is trained is a Qwen2.5-VL, laid out token by token (`model.policy`). Whoever writes or judges
chains is shown a conversation by its own chat template, and its replies are texts. Nothing of a
folder is run as code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from jinja2 import TemplateError
from PIL import Image
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
)

from m2r_train.api.errors import ConfigError
from m2r_train.core.rng import derive_seed
from m2r_train.model.folders import check_safe
from m2r_train.rollout.base import SamplingParams

Turns = list[dict[str, Any]]
_ROLES = ("system", "user")


@dataclass(frozen=True, slots=True)
class Asked:
    """Turns as `model.prompts.messages` makes them, and their pictures in order."""

    turns: Turns
    pictures: tuple[Image.Image, ...] = ()


class Chats(Protocol):
    """A model that replies."""

    @property
    def folder(self) -> ChatFolder:
        """What it was loaded from."""
        ...

    def reply(
        self, asked: Sequence[Asked], seeds: Sequence[int], params: SamplingParams
    ) -> Iterator[list[str]]:
        """``params.samples`` replies to each, in order; one where the temperature is 0.

        Sample g of question i is a function of ``seeds[i]`` and g. Raises ``ConfigError`` for
        pictures that the model cannot see, and for a question that is too long.
        """
        ...


class ChatFolder:
    """A model folder's own processor: how it is spoken to."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError for a folder that has code, pickles, or no chat template."""
        check_safe(path)
        self.path = path
        try:
            self.processor = AutoProcessor.from_pretrained(
                path, local_files_only=True, trust_remote_code=False
            )
        except (ValueError, OSError) as error:
            raise ConfigError(f"model {path}: {first_line(error)}") from error
        self.sees = hasattr(self.processor, "image_processor")
        self.tokenizer = self.processor.tokenizer if self.sees else self.processor
        if not (self.processor.chat_template or self.tokenizer.chat_template):
            raise ConfigError(
                f"model {path}: no chat template; give a model that was tuned to converse"
            )
        self.reads_system = self._reads_system()
        self.stop_tokens = self._stop_tokens()

    def _stop_tokens(self) -> tuple[int, ...]:
        """Tokens that end a reply: often several, of which the tokenizer knows one."""
        told: Any = None
        if (self.path / "generation_config.json").is_file():
            told = GenerationConfig.from_pretrained(self.path, local_files_only=True).eos_token_id
        listed = [told] if isinstance(told, int) else list(told or [])
        last = self.tokenizer.eos_token_id
        return tuple(dict.fromkeys([*listed, *([] if last is None else [last])]))

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of a reply, without what ended it and without special tokens."""
        kept = [token for token in tokens if token not in self.stop_tokens]
        text: str = self.tokenizer.decode(kept, skip_special_tokens=True)
        return text

    def _reads_system(self) -> bool:
        """Whether a system turn makes a difference; some templates refuse it."""
        turns = [{"role": role, "content": self._content("any", iter(()), "")} for role in _ROLES]
        try:
            with_it, without = (
                self.processor.apply_chat_template(some, tokenize=False, add_generation_prompt=True)
                for some in (turns, turns[1:])
            )
        except TemplateError:
            return False
        return bool(with_it != without)

    def written(self, asked: Asked, image: str = "image") -> Turns:
        """The turns as the template takes them; ``image`` is the type, and key, of a picture.

        A system turn that the template does not know is left out. Raises ConfigError for pictures
        where the model has no eyes.
        """
        if asked.pictures and not self.sees:
            raise ConfigError(
                f"model {self.path}: is shown pictures, and has no image processor; name a model "
                "that sees"
            )
        left = iter(asked.pictures)
        return [
            {"role": turn["role"], "content": self._content(turn["content"], left, image)}
            for turn in asked.turns
            if turn["role"] != "system" or self.reads_system
        ]

    def _content(self, content: Any, left: Iterator[Image.Image], image: str) -> Any:
        items = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not self.sees:
            return "".join(item["text"] for item in items)
        return [
            {"type": image, image: next(left)} if item["type"] == "image" else item
            for item in items
        ]


class InProcessChats:
    """Implements ``Chats`` by transformers' own generation: one reply at a time."""

    def __init__(self, path: Path, dtype: torch.dtype, device: torch.device) -> None:
        """Raises ConfigError for a folder that cannot be loaded."""
        self.folder = ChatFolder(path)
        loader = AutoModelForImageTextToText if self.folder.sees else AutoModelForCausalLM
        try:
            module = loader.from_pretrained(
                path, dtype=dtype, local_files_only=True, trust_remote_code=False,
                use_safetensors=True,
            )  # fmt: skip
        except (ValueError, OSError) as error:
            raise ConfigError(f"model {path}: {first_line(error)}") from error
        self._module: Any = module.eval().to(device)
        self._device = device

    def reply(
        self, asked: Sequence[Asked], seeds: Sequence[int], params: SamplingParams
    ) -> Iterator[list[str]]:
        """See ``Chats.reply``."""
        samples = params.samples if params.temperature > 0 else 1
        for one, seed in zip(asked, seeds, strict=True):
            inputs = self.folder.processor.apply_chat_template(
                self.folder.written(one), add_generation_prompt=True, tokenize=True,
                return_dict=True, return_tensors="pt",
            ).to(self._device)  # fmt: skip
            self._fits(inputs["input_ids"].shape[1] + params.max_tokens)
            yield [self._one(inputs, derive_seed(seed, g), params) for g in range(samples)]

    def _fits(self, tokens: int) -> None:
        most = getattr(self._module.config.get_text_config(), "max_position_embeddings", None)
        if most is not None and tokens > most:
            raise ConfigError(
                f"model {self.folder.path}: a question and maxCompletionTokens make {tokens} "
                f"tokens, and it takes {most}; lower maxCompletionTokens, or leave long ones out"
            )

    def _one(self, inputs: Any, seed: int, params: SamplingParams) -> str:
        stops = list(self.folder.stop_tokens)
        config = GenerationConfig(
            do_sample=False, max_new_tokens=params.max_tokens, eos_token_id=stops or None,
            pad_token_id=stops[0] if stops else 0,
        )  # fmt: skip
        drawn = [_Drawn(seed, params.temperature)] if params.temperature > 0 else []
        with torch.no_grad():
            out = self._module.generate(
                **inputs, generation_config=config, logits_processor=LogitsProcessorList(drawn)
            )
        return self.folder.decode(out[0, inputs["input_ids"].shape[1] :].tolist())


class _Drawn(LogitsProcessor):  # type: ignore[misc]
    """Makes the largest a draw: Gumbel noise from a generator of one reply's own."""

    def __init__(self, seed: int, temperature: float) -> None:
        self._temperature = temperature
        self._generator = torch.Generator("cpu").manual_seed(seed >> 1)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        uniform = torch.rand(scores.shape, generator=self._generator, dtype=torch.float64)
        noise = -torch.log(-torch.log(uniform.clamp(1e-300, 1 - 1e-16)))
        return scores.double() / self._temperature + noise.to(scores.device)


def first_line(error: Exception) -> str:
    """What a library says, in one line of at most 300 characters."""
    return str(error).strip().splitlines()[0][:300]
