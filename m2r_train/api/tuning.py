"""What of a model learns, and in which precision: fields that SFT and RLVR share."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from m2r_train.api.schema import Model, Ratio, Rule, unique_items

LearningRateSchedule = Literal["Cosine", "Linear", "Constant", "Wsd"]
Precision = Literal["Float32", "BFloat16"]
PARTS: Final = ("Vision", "Projector", "Language", "Embeddings", "Head")
"""Names that ``freeze`` knows; anything else in it is a pattern of parameter names."""

_PATTERN = r"^[A-Za-z0-9_.*?]+$"
NamePattern = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_PATTERN)]


class Lora(Model):
    """Low-rank adapters: W + alpha / rank * B A, of which A and B learn (arXiv 2106.09685)."""

    rank: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=16, description="Rows of A and columns of B."
    )
    alpha: Annotated[float, Field(ge=0.001, le=100_000)] | None = Field(
        default=None, description="The adapters' scale times rank. Left out: twice the rank."
    )
    targets: tuple[NamePattern, ...] = Field(
        default=(),
        max_length=32,
        description=(
            "Linear layers with adapters (q_proj), or patterns of their names. Left out: all "
            "but frozen ones and the head."
        ),
    )
    rules = (unique_items("targets", "targets"),)


class Tuning(Model):
    """What learns, and how it is computed."""

    decay_ratio: Ratio = Field(
        default=0.1, description="Share of the steps over which Wsd lowers the learning rate."
    )
    freeze: tuple[NamePattern, ...] = Field(
        default=(),
        max_length=32,
        description=(
            "What stays as it is: Vision, Projector, Language, Embeddings, Head, or patterns of "
            "parameter names."
        ),
    )
    lora: Lora | None = Field(
        default=None, description="Train low-rank adapters; left out: the weights themselves."
    )
    precision: Precision | None = Field(
        default=None,
        description=(
            "Of weights; what learns keeps a Float32 master. Left out: BFloat16 on GPUs, Float32 "
            "on CPUs."
        ),
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Compute layers again in the backward pass: less memory, a third more work.",
    )


def tuning_rules() -> tuple[Rule, ...]:
    """For a `Tuning` with a field ``freezeVision``."""
    return (
        unique_items("freeze", "freeze"),
        Rule(
            path="freeze",
            cel=(
                "!(self.freeze.exists(f, f == 'Language') && (self.freezeVision || "
                "(self.freeze.exists(f, f == 'Vision') && "
                "self.freeze.exists(f, f == 'Projector'))))"
            ),
            message="leaves nothing to learn; take Language, Vision or Projector out of it",
            check=lambda t: (
                not (
                    "Language" in t.freeze
                    and (t.freeze_vision or {"Vision", "Projector"} <= set(t.freeze))
                )
            ),
        ),
    )
