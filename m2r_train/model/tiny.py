"""The preset ``tiny``: a Qwen2.5-VL of about 0.9 million parameters, made from a config.

Same classes, same processor, same file layout as a 7B checkpoint; only the numbers are small.
The tokenizer knows the words it is given and falls back to bytes, so any text round-trips.
Sizes and initial scale are those that were seen to learn in minutes on two cores (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_STRUCTURE = ("<think>", "</think><answer>\\boxed{", "}</answer>")
_SPLIT = (
    r"</think><answer>\\boxed\{|\}</answer>|</?think>|</?answer>|\\boxed\{"
    r"| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}<}]|\s+|[<}]"
)
# The system prompt is left out on purpose: at this size every prompt token is paid in minutes.
_CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "{% if m.role == 'user' %}"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}"
    "{% if c.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif c.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}{{ c.text }}{% endif %}{% endfor %}{% endif %}"
    "{% elif m.role == 'assistant' %}<|im_start|>{{ m.content }}<|im_end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
)


@dataclass(frozen=True, slots=True)
class TinyShape:
    """Sizes of the tiny preset; patches are ``patch`` pixels, merged ``merge`` x ``merge``."""

    hidden: int = 128
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    intermediate: int = 256
    vision_hidden: int = 128
    vision_layers: int = 2
    vision_heads: int = 4
    vision_intermediate: int = 256
    patch: int = 8
    merge: int = 1
    rope_theta: float = 20.0
    mrope_section: tuple[int, int, int] = (4, 6, 6)
    initializer_range: float = 0.08


def _byte_alphabet() -> list[str]:
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def _to_byte_level(text: str) -> str:
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(
        text
    )
    return "".join(piece for piece, _ in pieces)


def tiny_tokenizer(vocabulary: Sequence[str]) -> PreTrainedTokenizerFast:
    """A word-level tokenizer over bytes: each given word, bare or after a space, is one token.

    ``ignore_merges`` makes a whole pre-token that is in the vocabulary one token; there are no
    merges, so any other text falls to bytes. Nothing is trained, so nothing can differ.
    """
    words = sorted({*vocabulary, *"0123456789"})
    entries = [*_byte_alphabet(), *_STRUCTURE]
    entries += [w for word in words for w in (_to_byte_level(word), _to_byte_level(" " + word))]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(entries))}
    backend = Tokenizer(BPE(vocab=vocab, merges=[], ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
        padding_side="left",
        clean_up_tokenization_spaces=False,
        chat_template=_CHAT_TEMPLATE,
    )


def tiny_processor(vocabulary: Sequence[str], shape: TinyShape) -> Qwen2_5_VLProcessor:
    """The processor that belongs to the tiny model: its tokenizer and small patches."""
    factor = shape.patch * shape.merge
    sizes = {"shortest_edge": factor * factor, "longest_edge": 40 * factor * factor}
    geometry = {"patch_size": shape.patch, "merge_size": shape.merge, "temporal_patch_size": 2}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=dict(sizes), **geometry),
        video_processor=Qwen2VLVideoProcessor(size=dict(sizes), **geometry),
        tokenizer=tiny_tokenizer(vocabulary),
        chat_template=_CHAT_TEMPLATE,
    )


def tiny_config(tokenizer: PreTrainedTokenizerFast, shape: TinyShape) -> Qwen2_5_VLConfig:
    """The Qwen2.5-VL config of the tiny preset for a tokenizer."""
    token_id = tokenizer.convert_tokens_to_ids
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": shape.hidden,
            "intermediate_size": shape.intermediate,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "max_position_embeddings": 4096,
            "initializer_range": shape.initializer_range,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": shape.rope_theta,
                "mrope_section": list(shape.mrope_section),
            },
            "bos_token_id": None,
            "eos_token_id": token_id("<|im_end|>"),
            "pad_token_id": token_id("<|endoftext|>"),
        },
        vision_config={
            "depth": shape.vision_layers,
            "hidden_size": shape.vision_hidden,
            "intermediate_size": shape.vision_intermediate,
            "num_heads": shape.vision_heads,
            "patch_size": shape.patch,
            "spatial_merge_size": shape.merge,
            "temporal_patch_size": 2,
            "window_size": shape.patch * shape.merge * 8,
            "out_hidden_size": shape.hidden,
            "fullatt_block_indexes": list(range(shape.vision_layers)),
            "initializer_range": shape.initializer_range,
        },
        image_token_id=token_id("<|image_pad|>"),
        video_token_id=token_id("<|video_pad|>"),
        vision_start_token_id=token_id("<|vision_start|>"),
        vision_end_token_id=token_id("<|vision_end|>"),
        tie_word_embeddings=True,
        dtype="float32",
    )


def tiny_model(
    vocabulary: Sequence[str], seed: int, shape: TinyShape | None = None
) -> tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]:
    """Untrained tiny model and its processor; weights are a pure function of ``seed``."""
    shape = shape or TinyShape()
    processor = tiny_processor(vocabulary, shape)
    config = tiny_config(processor.tokenizer, shape)
    with torch.random.fork_rng(devices=[]):  # weight initialisation draws from torch's global RNG
        torch.manual_seed(seed)
        module = Qwen2_5_VLForConditionalGeneration(config)
    module.generation_config.eos_token_id = config.text_config.eos_token_id
    module.generation_config.pad_token_id = config.text_config.pad_token_id
    return module.float().eval(), processor
