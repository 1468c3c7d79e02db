"""A Qwen2.5-VL checkpoint as the stages use it: encode prompts, run packed rows, save a folder.

Shapes: P prompt tokens, L packed tokens, N scored tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoProcessor,
    GenerationConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from m2r_train.core.linear import linear_logprobs
from m2r_train.core.packing import PackedRows
from m2r_train.core.records import Sample
from m2r_train.model.attention import use_rows
from m2r_train.model.folders import check_folder
from m2r_train.model.lora import Adapters, merged_state, plain
from m2r_train.model.prompts import SYSTEM_PROMPT, messages
from m2r_train.model.sight import Sight, tokens_of
from m2r_train.model.vision import (
    Clip,
    Grid,
    Picture,
    clip_grid,
    grid_of,
    patchify,
    patchify_clip,
    seconds_per_grid,
    visual_tokens,
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt laid out: token ids (P) with visual placeholders expanded; no pixels."""

    tokens: tuple[int, ...]
    positions: Tensor  # (3, P) rope positions: time, height, width
    grids: tuple[Grid, ...]  # of its pictures and clips, in the order of their placeholders
    prefix_length: int  # tokens up to the end of the last image: what questions can share


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt and its decoded pictures and clips, in order: what a rollout engine needs."""

    prompt: Prompt
    images: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class Extent:
    """What is laid out of a picture, or of a clip, without its pixels."""

    size: tuple[int, int]  # width and height in pixels
    frames: int | None = None  # None: a picture


class Policy:
    """A model with its processor; ``module`` holds the parameters that stages train."""

    def __init__(
        self,
        module: Qwen2_5_VLForConditionalGeneration,
        processor: Any,
        sight: Sight | None = None,
        adapters: Adapters | None = None,
    ) -> None:
        self.module = module
        self.adapters = adapters
        self._sight = sight
        use_rows(module)
        self.processor = processor
        self.tokenizer = processor.tokenizer
        config = module.config
        self.image_token: int = config.image_token_id
        self.video_token: int = config.video_token_id
        self.vision_end: int = config.vision_end_token_id
        self.merge: int = config.vision_config.spatial_merge_size
        self.tokens_per_second: int = config.vision_config.tokens_per_second
        self.stop_tokens = _stop_tokens(module, self.tokenizer)
        self.end_of_turn: int = self.stop_tokens[0]
        self._control = tuple(sorted({*self.tokenizer.all_special_tokens, *_visual(processor)}))
        self.pad_token: int = self.tokenizer.pad_token_id or 0

    @classmethod
    def load(cls, folder: Path, dtype: torch.dtype = torch.float32) -> Policy:
        """Load a Hugging Face folder, its weights as ``dtype``.

        Raises ``ConfigError`` for a folder that is no Qwen2.5-VL, that carries code or pickles.
        """
        check_folder(folder)
        module = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            folder, dtype=dtype, local_files_only=True, use_safetensors=True
        )
        processor = AutoProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        return cls(module.eval(), processor)

    def copy(self) -> Policy:
        """The policy as it is now, frozen and without adapters, which are merged.

        Later changes of this one do not reach it.
        """
        module = copy.deepcopy(self.module).requires_grad_(False)
        plain(module)
        return Policy(module, self.processor, self._sight)

    def start(self) -> Policy:
        """The policy that the run starts from: the same parameters with their adapters off.

        Raises ``AssertionError`` where there are no adapters, hence no such policy.
        """
        return _WithoutAdapters(self.module, self.processor, self._sight, self.adapters)

    def freeze_vision(self) -> None:
        """The vision tower stays as it is: copies made from now on share what it is shown."""
        self.module.model.visual.requires_grad_(False)
        self._sight = Sight()

    def save(self, folder: Path) -> None:
        """Write the folder that ``from_pretrained`` and ``vllm serve`` load as it is.

        Adapters are merged; they are also written by themselves, for ``peft``, to ``adapter/``.
        """
        whole = None
        if self.adapters is not None:
            self.adapters.save(self.module, folder / "adapter")
            whole = {name: value.cpu() for name, value in merged_state(self.module)}
        self.module.save_pretrained(folder, state_dict=whole, safe_serialization=True)
        self.processor.save_pretrained(folder)

    def lay_out(
        self,
        samples: Sequence[Sample],
        extents: Sequence[Sequence[Extent]],
        system: str | None = SYSTEM_PROMPT,
    ) -> list[Prompt]:
        """Lay out each sample's prompt; ``extents[i]`` are those of its pictures, then its clip.

        ``system`` is the system turn; None: without.
        Pixels are not needed: bins by token count can be made without decoding an image.
        """
        grids = [tuple(self._grid(extent) for extent in own) for own in extents]
        texts = [
            _expand(
                self.tokenizer.apply_chat_template(
                    messages(sample, self._control, system),
                    tokenize=False,
                    add_generation_prompt=True,
                ),
                own,
                (self.processor.image_token, self.processor.video_token),
                self.merge,
            )
            for sample, own in zip(samples, grids, strict=True)
        ]
        if not texts:
            return []
        ids = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return [self._prompt(tuple(i), own) for i, own in zip(ids, grids, strict=True)]

    def _grid(self, extent: Extent) -> Grid:
        if extent.frames is None:
            return grid_of(extent.size, self.processor.image_processor)
        return clip_grid(extent.frames, extent.size, self.processor.video_processor)

    def _prompt(self, tokens: tuple[int, ...], grids: tuple[Grid, ...]) -> Prompt:
        ends = [i for i, t in enumerate(tokens) if t == self.vision_end]
        return Prompt(
            tokens=tokens,
            positions=rope_positions(
                tokens,
                grids,
                self.merge,
                image_token=self.image_token,
                video_token=self.video_token,
                video_step=self.tokens_per_second
                * seconds_per_grid(self.processor.video_processor),
            ),
            grids=grids,
            prefix_length=ends[-1] + 1 if ends else 0,
        )

    def text_tokens(self, text: str) -> tuple[int, ...]:
        """Token ids of an assistant turn, its end-of-turn token included."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return (*ids, self.end_of_turn)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of a completion, stop tokens left out."""
        kept = [t for t in tokens if t not in self.stop_tokens]
        text: str = self.tokenizer.decode(kept, skip_special_tokens=False)
        return text

    def text(self, prompt: Prompt) -> str:
        """A prompt as the model reads it, turns and placeholders included."""
        text: str = self.tokenizer.decode(prompt.tokens, skip_special_tokens=False)
        return text

    def show(self, images: Sequence[Picture], *, more: bool = False) -> None:
        """A step's pictures, before anything is computed from them; nothing is kept of others.

        ``more``: these come to those that were shown. Does nothing while the tower may learn.
        """
        if self._sight is not None:
            self._sight.show(images, self._tower, more=more)

    def see(self, images: Sequence[Picture]) -> Tensor:
        """Visual tokens of pictures and clips in order, (sum M, D); see ``model.sight``."""
        if not images:
            return torch.zeros(0, self.width, device=self.device)
        return tokens_of(images, self._tower, self._sight, self.device)

    def _tower(self, images: Sequence[Picture]) -> Sequence[Tensor]:
        """Visual tokens (M, D) of each picture and clip."""
        stills = [image for image in images if not isinstance(image, Clip)]
        made = iter(patchify(stills, self.processor.image_processor))
        patches, grids = zip(
            *(
                patchify_clip(image, self.processor.video_processor)
                if isinstance(image, Clip)
                else next(made)
                for image in images
            ),
            strict=True,
        )
        tokens = visual_tokens(self.module.model.visual, patches, grids)
        return tokens.split_with_sizes([t * h * w // self.merge**2 for t, h, w in grids])

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        device: torch.device = self.module.device
        return device

    @property
    def width(self) -> int:
        """Hidden size D of the language model."""
        return int(self.module.config.text_config.hidden_size)

    def embed(self, tokens: Tensor, prefix: Tensor, seen: Tensor) -> Tensor:
        """Token embeddings (..., D) with visual tokens in place.

        Only the prefix holds images and clips: a placeholder that a policy samples is a token like
        any other.
        """
        embedded: Tensor = self.module.model.language_model.embed_tokens(tokens)
        if seen.shape[0] == 0:
            return embedded
        visual = (tokens == self.image_token) | (tokens == self.video_token)
        place = (prefix & visual).unsqueeze(-1)
        if int(place.sum()) != seen.shape[0]:
            raise AssertionError("visual tokens and placeholders differ in number")
        return embedded.masked_scatter(place, seen.to(embedded.dtype))

    def logits(self, packed: PackedRows, seen: Tensor) -> Tensor:
        """Logits (N, V) of the packed rows' targets, from the states that predict them."""
        logits: Tensor = self.module.lm_head(self._target_states(packed, seen))
        return logits

    def logprobs(
        self,
        packed: PackedRows,
        seen: Tensor,
        temperature: float = 1.0,
        *,
        entropies: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """The targets' log-probabilities and, where asked for, the ``entropies`` there, both (N).

        The logits of a large vocabulary are never held (``core.linear``).
        """
        states_ND = self._target_states(packed, seen)
        weight_VD: Tensor = self.module.lm_head.weight
        targets_N = packed.targets_N.to(states_ND.device)
        return linear_logprobs(states_ND, weight_VD, targets_N, temperature, entropies=entropies)

    def _target_states(self, packed: PackedRows, seen: Tensor) -> Tensor:
        """Hidden states (N, D) that predict the packed rows' targets."""
        packed = packed.to(self.device)
        states: Tensor = self.module.model.language_model(
            inputs_embeds=self.embed(packed.tokens_L, packed.prefix_L, seen)[None],
            position_ids=packed.positions_3L[:, None],
            attention_mask={"full_attention": packed.attention},
            use_cache=False,
        ).last_hidden_state
        return states[0].index_select(0, packed.source_N)


class _WithoutAdapters(Policy):
    """The same module, computed with its adapters off; it has no gradients."""

    def _tower(self, images: Sequence[Picture]) -> Sequence[Tensor]:
        with self._base():
            return super()._tower(images)

    def _target_states(self, packed: PackedRows, seen: Tensor) -> Tensor:
        with self._base():
            return super()._target_states(packed, seen)

    @contextmanager
    def _base(self) -> Iterator[None]:
        assert self.adapters is not None
        with torch.no_grad(), self.adapters.off():
            yield


def rope_positions(
    tokens: Sequence[int],
    grids: Sequence[Grid],
    merge: int,
    *,
    image_token: int,
    video_token: int,
    video_step: float,
) -> Tensor:
    """Three-dimensional rope positions (3, P) of a prompt with still images and clips.

    Text advances all three axes together; an image's tokens share their start and move along
    height and width. A clip's tokens also move along time, ``video_step`` positions from one
    temporal patch to the next, cut to whole numbers (Qwen2.5-VL, section 2.1.2). What follows goes
    on behind the largest position of any axis (Qwen2-VL, section 2.1), as vLLM has it, and
    transformers before 5.3 (ADR 9).
    """
    parts: list[Tensor] = []
    left = iter(grids)
    position, i = 0, 0
    while i < len(tokens):
        if tokens[i] in {image_token, video_token}:
            t, h, w = next(left)
            step = video_step if tokens[i] == video_token else 1.0
            axes = torch.meshgrid(
                (torch.arange(t) * step).long(),
                torch.arange(h // merge),
                torch.arange(w // merge),
                indexing="ij",
            )
            block = torch.stack(axes).reshape(3, -1)
            parts.append(block + position)
            position += int(block.max()) + 1
            i += block.shape[1]
        else:
            n = i
            while n < len(tokens) and tokens[n] not in {image_token, video_token}:
                n += 1
            parts.append(torch.arange(position, position + n - i).expand(3, -1))
            position += n - i
            i = n
    return torch.cat(parts, dim=1)


def _visual(processor: Any) -> tuple[str, str]:
    return processor.image_token, processor.video_token


def _expand(text: str, grids: Sequence[Grid], placeholders: Sequence[str], merge: int) -> str:
    pieces = re.split(f"({'|'.join(map(re.escape, placeholders))})", text)
    if len(pieces) // 2 != len(grids):
        raise AssertionError("chat template and images disagree in number")
    out = [pieces[0]]
    for (t, h, w), placeholder, piece in zip(grids, pieces[1::2], pieces[2::2], strict=True):
        out += [placeholder * (t * h * w // merge**2), piece]
    return "".join(out)


def _stop_tokens(module: Qwen2_5_VLForConditionalGeneration, tokenizer: Any) -> tuple[int, ...]:
    generation: GenerationConfig = module.generation_config
    ids = generation.eos_token_id
    listed = [ids] if isinstance(ids, int) else list(ids or [])
    first = tokenizer.eos_token_id
    return tuple(dict.fromkeys([first, *listed]))
