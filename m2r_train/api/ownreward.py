"""A reward of the user's own: a function in one Python file (docs/own-rewards.md)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from m2r_train.api.schema import ItemName, Model, Quantity, Rule, StoreUri, no_secret

Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$", max_length=64)]


class OwnReward(Model):
    """One file with a function `reward(completion, problem)`, which gives 0 to 1."""

    from_: ClassVar[None] = None  # no run makes it: an input like a dataset, by uri alone

    name: ItemName = Field(description="Name of the reward, in metrics, history and report.")
    uri: StoreUri = Field(description="One Python file in a store: s3://….py or file:///….py")
    sha256: Digest | None = Field(
        default=None,
        description=(
            "Digest that the file must have, as sha256sum prints it. Left out: the one that it "
            "has when the run first starts."
        ),
    )
    use: Literal["Add", "Replace"] = Field(
        default="Add",
        description=(
            "Add to the other rewards, or Replace the task's: then it is the accuracy as well."
        ),
    )
    weight: Annotated[float, Field(ge=0, le=1000)] = Field(
        default=1.0, description="What its value is multiplied by in the total reward."
    )
    timeout_seconds: Annotated[int, Field(ge=1, le=600)] = Field(
        default=10,
        description="Longest CPU time of one completion; ten times as long by the clock.",
    )
    memory: Quantity = Field(
        default="2Gi", description="Address space that the process of the file may have."
    )
    rules = (
        no_secret("uri"),
        Rule(
            path="uri",
            cel="self.uri.endsWith('.py')",
            message="must end with .py; name one Python file with a function reward",
            check=lambda r: r.uri.endswith(".py"),
        ),
    )
