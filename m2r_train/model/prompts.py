"""From a sample to chat messages: the paper's system prompt and user turn (paper.yaml)."""

from __future__ import annotations

from typing import Any

from m2r_train.core.records import Sample

SYSTEM_PROMPT = (
    "You are a helpful assistant. When the user asks a question, your response must include two "
    "parts: first, the reasoning process enclosed in <think>...</think> tags, then the final "
    "answer enclosed in <answer>...</answer> tags. The critical answer or key result should be "
    "placed within \\boxed{}."
)


def messages(sample: Sample) -> list[dict[str, Any]]:
    """The system and user turns of a sample; images come before the text, in order.

    A chat template may drop the system turn (the tiny preset's does, to save tokens).
    """
    content: list[dict[str, str]] = [{"type": "image"} for _ in sample.images]
    if sample.video is not None:
        content.append({"type": "video"})
    text = sample.question
    if sample.options:
        text += "".join(
            f"\n{chr(ord('A') + i)}. {option}" for i, option in enumerate(sample.options)
        )
    content.append({"type": "text", "text": text})
    return [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": content},
    ]
