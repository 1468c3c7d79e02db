"""Evaluation during training, on samples that are not trained on."""

from __future__ import annotations

from pydantic import Field

from m2r_train.api.refs import DatasetRef
from m2r_train.api.schema import Model, PositiveCount


class HeldOut(Model):
    """Figures of the model as training goes on; they never change what is learnt."""

    dataset: DatasetRef = Field(description="Samples that are not trained on.")
    every_steps: PositiveCount = Field(
        default=100, description="Steps between two evaluations; also before the first, at the end."
    )
    samples: PositiveCount = Field(
        default=256, description="Samples of each evaluation: the same, drawn by the seed."
    )


class SFTHeldOut(HeldOut):
    """Loss on chains that are not trained on and, where asked for, greedy answers."""

    accuracy: bool = Field(
        default=False, description="Whether questions are also answered, greedily, and scored."
    )
    max_completion_tokens: PositiveCount = Field(
        default=1024, description="Longest such answer in tokens."
    )
