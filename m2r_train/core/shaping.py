"""Small penalties beside the task's reward: for overlong, short and repetitive completions.

Off unless asked for: the paper's reward has none of them. They change the total reward alone, never
the accuracy that difficulty and Eq. 6 read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaping:
    """Lengths in tokens, penalties at their largest; a penalty or length of 0 turns a part off.

    ``max_tokens`` is the completion limit, ``buffer_tokens`` what lies before it and is penalised
    more and more; ``min_tokens`` is what a completion should have at least; of its n-grams of
    ``ngram`` tokens a share of ``tolerance`` may be repetitions.
    """

    max_tokens: int = 0
    buffer_tokens: int = 0
    overlong_penalty: float = 1.0
    min_tokens: int = 0
    short_penalty: float = 1.0
    ngram: int = 4
    tolerance: float = 0.2
    repetition_penalty: float = 0.0

    @property
    def is_on(self) -> bool:
        """Whether any completion can be penalised."""
        return bool(
            (self.buffer_tokens and self.overlong_penalty)
            or (self.min_tokens and self.short_penalty)
            or self.repetition_penalty
        )


OFF = Shaping()


def shaping_reward(tokens: Sequence[int], shaping: Shaping) -> float:
    """The sum of the penalties of a completion's tokens: 0 or less."""
    length = len(tokens)
    reward = 0.0
    if shaping.buffer_tokens:
        reward += shaping.overlong_penalty * overlong(
            length, shaping.max_tokens, shaping.buffer_tokens
        )
    if shaping.min_tokens:
        reward -= shaping.short_penalty * max(0.0, 1.0 - length / shaping.min_tokens)
    if shaping.repetition_penalty:
        share = repeated_share(tokens, shaping.ngram)
        over = max(0.0, share - shaping.tolerance) / max(1.0 - shaping.tolerance, 1e-9)
        reward -= shaping.repetition_penalty * over
    return reward


def overlong(length: int, maximum: int, buffer: int) -> float:
    """DAPO's soft overlong punishment (arXiv 2503.14476, Eq. 13), from 0 to -1.

    0 up to ``maximum - buffer`` tokens, then falling evenly to -1 at ``maximum`` and beyond.
    """
    return max(-1.0, min(0.0, (maximum - buffer - length) / buffer))


def repeated_share(tokens: Sequence[int], ngram: int) -> float:
    """Share of the n-grams that stood before, 0..1 (arXiv 2502.03373, appendix C.2).

    0 for fewer tokens than an n-gram has.
    """
    total = len(tokens) - ngram + 1
    if total < 1:
        return 0.0
    return 1.0 - len({tuple(tokens[i : i + ngram]) for i in range(total)}) / total
