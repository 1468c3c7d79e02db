"""From a sample to chat messages: the paper's system prompt and user turn (paper.yaml)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from m2r_train.core.records import Sample

SYSTEM_PROMPT = (
    "You are a helpful assistant. When the user asks a question, your response must include two "
    "parts: first, the reasoning process enclosed in <think>...</think> tags, then the final "
    "answer enclosed in <answer>...</answer> tags. The critical answer or key result should be "
    "placed within \\boxed{}."
)


def messages(
    sample: Sample, control: Iterable[str] = (), system: str | None = SYSTEM_PROMPT
) -> list[dict[str, Any]]:
    """The system and user turns of a sample; images come before the text, in order.

    ``system`` None leaves that turn out. A chat template may drop the system turn (the tiny
    preset's does, to save tokens). Strings of ``control`` (the tokenizer's special tokens) in the
    user's text are broken up, so that a question which mentions ``<|image_pad|>`` stays text and
    cannot forge a turn.
    """
    content: list[dict[str, str]] = [{"type": "image"} for _ in sample.images]
    if sample.video is not None:
        content.append({"type": "video"})
    text = sample.question
    if sample.options:
        text += "".join(
            f"\n{chr(ord('A') + i)}. {option}" for i, option in enumerate(sample.options)
        )
    for token in control:
        text = text.replace(token, f"{token[:1]} {token[1:]}")
    content.append({"type": "text", "text": text})
    turns: list[dict[str, Any]] = [{"role": "user", "content": content}]
    return turns if system is None else [{"role": "system", "content": system}, *turns]
