"""Small models that are no Qwen2.5-VL, as folders: one that reads, and one that sees as well."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLProcessor,
)
from unit.model.tinies import WORDS

from m2r_train.model.tiny import TinyShape, tiny_processor, tiny_tokenizer

# Contents that are texts: what a template for text alone is given.
TEXT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    + TEXT_TEMPLATE
)


def reader(folder: Path, template: str | None = TEXT_TEMPLATE, stops: Sequence[int] = ()) -> Path:
    """A Llama with a template of its own; ``stops`` end a reply as well as the usual token."""
    tokenizer = tiny_tokenizer(WORDS)
    tokenizer.chat_template = template
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512,
        initializer_range=0.3, bos_token_id=None, eos_token_id=end,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = LlamaForCausalLM(config).float()
    module.generation_config.eos_token_id = [end, *stops]
    module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def seer(folder: Path) -> Path:
    """A Qwen2-VL, with the tiny preset's tokenizer and patches."""
    own = tiny_processor(WORDS, TinyShape(merge=2))
    processor = Qwen2VLProcessor(
        image_processor=own.image_processor, video_processor=own.video_processor,
        tokenizer=own.tokenizer, chat_template=own.chat_template,
    )  # fmt: skip
    token = own.tokenizer.convert_tokens_to_ids
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": len(own.tokenizer), "hidden_size": 64, "intermediate_size": 64,
            "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
            "max_position_embeddings": 2048, "initializer_range": 0.3,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 1000.0, "mrope_section": [4, 6, 6],
            },
            "bos_token_id": None, "eos_token_id": token("<|im_end|>"),
            "pad_token_id": token("<|endoftext|>"),
        },
        vision_config={
            "depth": 1, "embed_dim": 64, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2,
            "patch_size": 8, "spatial_merge_size": 2, "temporal_patch_size": 2,
            "initializer_range": 0.3,
        },
        image_token_id=token("<|image_pad|>"), video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"), tie_word_embeddings=True,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        module = Qwen2VLForConditionalGeneration(config).float()
    module.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
