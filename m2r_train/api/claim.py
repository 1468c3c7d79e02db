"""The file of ``m2r report --claim``: what is claimed of two arms, and what would break it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from m2r_train.api.schema import (
    ItemName,
    LongText,
    Model,
    PositiveCount,
    Rule,
    RunName,
    ShortText,
    exactly_one,
    unique_items,
)
from m2r_train.api.singlefile import load_single

Better = Literal["Higher", "Lower"]
Statistic = Literal["Final", "Mean", "Max", "Min"]
Text = Annotated[str, Field(min_length=1, max_length=4096)]


class Measure(Model):
    """A number that each run of an arm has: a score of an evaluation, or a statistic of a curve."""

    score: ShortText | None = Field(
        default=None, description="BENCHMARK/FIGURE of an EvalJob, such as synthetic/overall."
    )
    curve: ShortText | None = Field(
        default=None, description="Key of a training run's history, such as reward."
    )
    task: ShortText | None = Field(
        default=None, description="Of the curve, the records of this task; left out: of all tasks."
    )
    statistic: Statistic = Field(
        default="Final", description="Of the curve: the mean of its last part, of all, an extreme."
    )
    last: Annotated[float, Field(ge=0.001, le=1)] = Field(
        default=0.1, description="The part of the steps that Final averages."
    )
    up_to_step: PositiveCount | None = Field(
        default=None, description="Leaves out what comes after this step of the curve."
    )
    run: RunName | None = Field(
        default=None, description="Base resource that has it; needed where several have."
    )
    better: Better = Field(default="Higher", description="Which of two values is the better one.")
    margin: Annotated[float, Field(ge=0, le=1e9)] = Field(
        default=0.0,
        description="Largest advantage that counts as none: points of percent of a score, else "
        "the curve's unit.",
    )
    rules = (
        exactly_one("score", "curve"),
        Rule(
            path="score",
            cel="!has(self.score) || self.score.contains('/')",
            message="must be BENCHMARK/FIGURE; write for example synthetic/overall",
            check=lambda m: m.score is None or "/" in m.score.strip("/"),
        ),
    )

    @property
    def title(self) -> str:
        """How tables and sentences name it."""
        if self.score is not None:
            return self.score
        task = f" of {self.task}" if self.task else ""
        until = f" until step {self.up_to_step}" if self.up_to_step else ""
        return f"{self.statistic.lower()} {self.curve}{task}{until}"


class Precondition(Model):
    """What an arm has to show on the mean of its seeds for the claim to be put to the test."""

    arm: ItemName = Field(description="Arm that has to show it, mostly a control.")
    measure: Measure = Field(description="What is looked at; better and margin do not count.")
    at_least: Annotated[float, Field(ge=-1e9, le=1e9)] = Field(
        description="Least mean over the seeds; below it there is nothing to test."
    )
    text: Text = Field(description="What it is that has to be there, in words.")


class Claim(Model):
    """A treatment against controls. The first measure decides, the others tell more."""

    name: ItemName = Field(description="Short name of the claim.")
    text: Text = Field(description="The claim.")
    breaks: Text = Field(description="What would falsify it, in words.")
    source: LongText = Field(default="", description="Where the claim stands.")
    sweep: ItemName | None = Field(
        default=None, description="Only runs of this sweep count; left out: all that are given."
    )
    treatment: ItemName = Field(description="Arm that the claim says is better.")
    controls: Annotated[tuple[ItemName, ...], Field(min_length=1, max_length=32)] = Field(
        description="Arms without what is claimed to help; one that does as well falsifies it."
    )
    measures: Annotated[tuple[Measure, ...], Field(min_length=1, max_length=32)] = Field(
        description="What is compared; the first decides."
    )
    preconditions: Annotated[tuple[Precondition, ...], Field(max_length=32)] = Field(
        default=(), description="Where one is not met, the claim is undecided whatever differs."
    )
    level: Annotated[float, Field(ge=0.5, le=0.999)] = Field(
        default=0.95, description="Level of the intervals; 1 less it, of the tests."
    )
    rules = (
        unique_items("controls", "controls"),
        Rule(
            path="controls",
            cel="!(self.treatment in self.controls)",
            message="must not hold the treatment; name another arm",
            check=lambda claim: claim.treatment not in claim.controls,
        ),
    )

    def measure_title(self, place: int) -> str:
        """How a comparison names a measure: with its run where another measure is called the same.

        A store has several evaluations: that of the cold start, and that of RLVR after it.
        """
        one = self.measures[place]
        shared = sum(other.title == one.title for other in self.measures) > 1
        return f"{one.title} of {one.run}" if shared and one.run else one.title


def load_claim(path: Path) -> Claim:
    """Reads a claim. Raises SpecErrors, a line for each problem: file, field, remedy."""
    return load_single(path, Claim)
