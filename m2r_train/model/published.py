"""The published architectures as configurations: for benchmarks with random weights."""

from __future__ import annotations

from typing import Any

from m2r_train.core.sizing import ModelSize


def config_of(size: ModelSize) -> dict[str, Any]:
    """A ``config.json`` of Qwen2.5-VL with these sizes; the numbers beside them are published."""
    rope = {"type": "mrope", "rope_type": "default", "mrope_section": [16, 24, 24],
            "rope_theta": 1_000_000.0}  # fmt: skip
    return {
        "model_type": "qwen2_5_vl",
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "tie_word_embeddings": size.tied,
        "image_token_id": 151655,
        "video_token_id": 151656,
        "vision_start_token_id": 151652,
        "vision_end_token_id": 151653,
        "text_config": {
            "model_type": "qwen2_5_vl_text",
            "hidden_size": size.hidden,
            "num_hidden_layers": size.layers,
            "num_attention_heads": size.heads,
            "num_key_value_heads": size.kv_heads,
            "intermediate_size": size.intermediate,
            "vocab_size": size.vocabulary,
            "max_position_embeddings": 128_000,
            "rms_norm_eps": 1e-6,
            "rope_parameters": rope,
            "rope_theta": 1_000_000.0,
            "tie_word_embeddings": size.tied,
        },
        "vision_config": {
            "model_type": "qwen2_5_vl",
            "hidden_size": size.vision_hidden,
            "depth": size.vision_layers,
            "intermediate_size": size.vision_intermediate,
            "num_heads": 16,
            "out_hidden_size": size.hidden,
            "patch_size": 14,
            "spatial_merge_size": size.merge,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [7, 15, 23, 31],
            "tokens_per_second": 4 if size.tied else 2,
        },
    }
