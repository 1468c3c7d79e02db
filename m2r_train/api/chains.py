"""Who writes reasoning chains, which are good enough, and how difficulty is measured."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from m2r_train.api.common import EndpointRef, Engine
from m2r_train.api.refs import ModelRef
from m2r_train.api.schema import (
    LongText,
    Model,
    OnOff,
    Ratio,
    Rule,
    exactly_one,
)

Temperature = Annotated[float, Field(ge=0, le=10)]
CompletionTokens = Annotated[int, Field(ge=1, le=131072)]


class Generator(Model):
    """Who writes the reasoning chains."""

    model: ModelRef | None = Field(
        default=None,
        description="Teacher that the run's own pods load; left out, as endpoint is: templates, "
        "which know drawn and simulated questions.",
    )
    endpoint: EndpointRef | None = Field(
        default=None, description="Teacher behind an OpenAI-compatible endpoint."
    )
    engine: Engine = Field(default="inprocess", description="What draws a teacher model's chains.")
    prompt: LongText | None = Field(
        default=None,
        description="System prompt of the teacher; left out: the paper's, as in training.",
    )
    chains_per_question: Annotated[int, Field(ge=1, le=64)] = Field(
        default=4, description="Chains written for each question; the best one is kept."
    )
    temperature: Temperature = Field(default=0.9, description="Sampling temperature.")
    max_completion_tokens: CompletionTokens = Field(
        default=1024, description="Longest chain in tokens."
    )
    rules = (
        Rule(
            path="",
            cel="!has(self.model) || !has(self.endpoint)",
            message="must have at most one of model or endpoint; keep one and remove the other",
            check=lambda g: g.model is None or g.endpoint is None,
        ),
        Rule(
            path="prompt",
            cel="!has(self.prompt) || has(self.model) || has(self.endpoint)",
            message="is for a teacher, and templates read none; name a model or endpoint, or "
            "remove it",
            check=lambda g: g.prompt is None or g.teaches,
        ),
    )

    @property
    def teaches(self) -> bool:
        """Whether a model writes the chains, and not templates."""
        return self.model is not None or self.endpoint is not None


class Judge(Model):
    """Who scores the chains."""

    model: ModelRef | None = Field(
        default=None,
        description="Judge that the run's own pods load, when all chains are written.",
    )
    endpoint: EndpointRef | None = Field(
        default=None, description="Judge behind an OpenAI-compatible endpoint."
    )
    engine: Engine = Field(
        default="vllm", description="What the judge of model replies with; vllm or inprocess."
    )
    prompt: LongText | None = Field(
        default=None,
        description="What the judge is asked, with {question}, {answer} and {chain}; left out: "
        "the built-in rubric.",
    )
    retries: Annotated[int, Field(ge=0, le=20)] = Field(
        default=3, description="Further questions about a chain whose verdict cannot be read."
    )
    canary_every: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=20, description="One chain with known scores is mixed in for so many others."
    )
    canaries_missed: Ratio = Field(
        default=0.25,
        description="Share of a shard's known chains above which the judge is refused.",
    )
    rules = (exactly_one("model", "endpoint"),)


class Quality(Model):
    """Which chains of a teacher model are good enough (paper section 2.1.1).

    Those of templates are right by construction, and are neither scored nor dropped.
    """

    filter: OnOff = Field(
        default="On",
        description="Whether a teacher model's chains below the bar are dropped or only scored.",
    )
    judge: Judge | None = Field(
        default=None, description="Model that scores; left out: the built-in rules score."
    )
    min_each: Annotated[int, Field(ge=1, le=5)] = Field(
        default=3, description="Lowest score (1 to 5) allowed in any of the three dimensions."
    )
    min_mean: Annotated[float, Field(ge=1, le=5)] = Field(
        default=4.0, description="Lowest mean (1 to 5) of the three scores."
    )


class Difficulty(Model):
    """Offline rollouts that measure each question: difficulty = 1 - accuracy (section 2.1.2)."""

    model: ModelRef = Field(description="Model whose rollouts measure.")
    rollouts: Annotated[int, Field(ge=1, le=256)] = Field(
        default=8, description="Rollouts of each question."
    )
    temperature: Temperature = Field(default=1.0, description="Sampling temperature.")
    max_completion_tokens: CompletionTokens = Field(
        default=1024, description="Longest rollout in tokens."
    )
    drop_unsolved: bool = Field(
        default=True, description="Whether questions that no rollout solves are dropped."
    )
    drop_solved: bool = Field(
        default=True, description="Whether questions that every rollout solves are dropped."
    )
