"""The samples of a synthesis job: themselves on disk, and in memory what routing needs of each."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from m2r_train.core.records import Sample
from m2r_train.data.roster import Roster
from m2r_train.data.stash import Stash
from m2r_train.stages.making import chain_fault

Numbers: TypeAlias = "array[int]"  # of samples; eight bytes each: a list would need forty


class Gathered(Stash):
    """A stash whose samples are on a roster, under the same numbers."""

    def __init__(self, folder: Path) -> None:
        """Raises ConfigError where ``folder`` cannot be written."""
        super().__init__(folder)
        self.roster = Roster()

    def put(self, sample: Sample) -> int:
        """See ``Stash.put``."""
        self.roster.add(sample, sound=chain_fault(sample) is None)
        return super().put(sample)

    def put_all(self, samples: Iterable[Sample]) -> range:
        """Puts them, one in memory at a time; their numbers."""
        first = len(self)
        for sample in samples:
            self.put(sample)
        return range(first, len(self))

    def teach(self, number: int, sample: Sample) -> None:
        """Keeps the sample with another chain and its scores; what it asks is the same."""
        self.roster.sound[number] = chain_fault(sample) is None
        self.replace(number, sample)
