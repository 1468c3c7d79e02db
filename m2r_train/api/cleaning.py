"""What a dataset must not hold: questions of benchmarks, and near-duplicates."""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from m2r_train.api.evaljob import PUBLISHED
from m2r_train.api.refs import ColumnField, DatasetRef
from m2r_train.api.schema import (
    ItemName,
    Model,
    Rule,
    cel_list,
    list_map,
    unique_keys,
)

PictureDistance = Annotated[int, Field(ge=0, le=128)]


_IS_PUBLISHED = f"self.name in {cel_list(PUBLISHED)}"
_NO_COLUMNS = "!({})".format(
    " || ".join(f"has(self.dataset.columns.{name})" for name in get_args(ColumnField))
)


class Benchmark(Model):
    """A dataset that must not be trained on."""

    name: ItemName = Field(
        description="Name of the benchmark; the eight of an EvalJob are read as they are published."
    )
    dataset: DatasetRef = Field(
        description="A copy of one of the eight, or any dataset: a columns map where names differ."
    )
    rules = (
        Rule(
            path="dataset.columns",
            cel=f"!({_IS_PUBLISHED}) || !has(self.dataset.columns) || {_NO_COLUMNS}",
            message="has no place in a benchmark that is read as published; remove it, or give "
            "data of your own another name",
            check=lambda b: b.name not in PUBLISHED or not b.dataset.columns,
        ),
        Rule(
            path="dataset.from",
            cel=f"!({_IS_PUBLISHED}) || !has(self.dataset.from)",
            message="is no benchmark as published; give the uri of a copy, or give the run's data "
            "another name",
            check=lambda b: b.name not in PUBLISHED or b.dataset.from_ is None,
        ),
    )


class Decontamination(Model):
    """Samples that a benchmark holds are dropped: never train on the test."""

    against: tuple[Benchmark, ...] = Field(
        min_length=1,
        max_length=32,
        json_schema_extra=list_map("name"),
        description="Benchmarks that no sample may come from.",
    )
    words: Annotated[int, Field(ge=4, le=64)] = Field(
        default=8, description="Questions are compared by their runs of so many words."
    )
    share: Annotated[float, Field(ge=0.1, le=1)] = Field(
        default=0.6,
        description="Share of a benchmark question's runs in a sample that makes it a copy.",
    )
    picture_distance: PictureDistance = Field(
        default=40, description="Most bits (of 256) in which the hash of a copied picture differs."
    )
    rules = (unique_keys("against", "against", "name"),)


class NearDuplicates(Model):
    """Of samples that ask nearly the same with the same answer, the first is kept."""

    similarity: Annotated[float, Field(ge=0.5, le=1)] = Field(
        default=0.8, description="Share of common word runs that makes two questions the same."
    )
    picture_distance: PictureDistance = Field(
        default=40, description="Most bits (of 256) in which the hashes of their pictures differ."
    )
