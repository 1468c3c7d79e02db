"""One training or evaluation sample, as every stage sees it.

The columns of ``dataset/<split>/*.parquet`` are these fields, under these names.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, Self

Domain = Literal["general", "spatial"]
AnswerType = Literal["choice", "number", "expression", "text"]
RewardKind = Literal["exact", "ednm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """A judge's three integers, 1..5 each (paper section 2.1.1)."""

    structure: int
    load: int
    verification: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A question with a verifiable answer, and a reasoning chain where one was made.

    ``images`` are encoded files (PNG, JPEG or WEBP), never decoded pixels: a process that holds
    a dataset holds its compressed size. ``video`` is the same for frames in order.
    ``chain`` is the whole assistant turn, ``<think>..</think><answer>\\boxed{..}</answer>``.
    ``accuracy`` is the mean task reward of offline rollouts, ``difficulty`` is 1 - accuracy.
    """

    id: str
    domain: Domain
    task: str
    source: str
    question: str
    answer: str
    answer_type: AnswerType
    reward: RewardKind
    images: tuple[bytes, ...] = field(default=(), repr=False)
    video: tuple[bytes, ...] | None = field(default=None, repr=False)
    options: tuple[str, ...] | None = None
    unit: str | None = None
    chain: str | None = None
    quality: Quality | None = None
    accuracy: float | None = None
    difficulty: float | None = None

    def with_(self, **changes: object) -> Self:
        """A copy with some fields replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]
