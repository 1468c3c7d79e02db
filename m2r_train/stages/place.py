"""Which of a run's pods this process is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from m2r_train.api.errors import ConfigError

INDEX_VARIABLE: Final = "JOB_COMPLETION_INDEX"  # set by Kubernetes in the pods of an Indexed Job


@dataclass(frozen=True, slots=True)
class Place:
    """Which of how many pods this is."""

    index: int = 0
    nodes: int = 1

    @property
    def helps(self) -> bool:
        """Whether another pod owns the run."""
        return self.index > 0

    def owns(self, number: int) -> bool:
        """Whether the part with this number is this pod's share."""
        return number % self.nodes == self.index


ALONE: Final = Place()


def place_in_job(nodes: int, environment: Mapping[str, str] | None = None) -> Place:
    """This pod's place among ``nodes``, by its index in the Job; without one it is the first.

    Raises ``ConfigError`` for an index that is no number below ``nodes``.
    """
    given = (os.environ if environment is None else environment).get(INDEX_VARIABLE) or "0"
    index = int(given) if given.isascii() and given.isdigit() else nodes
    if index >= nodes:
        raise ConfigError(
            f"{INDEX_VARIABLE}={given!r}: a number below resources.nodes ({nodes}) is expected; "
            "run the stage in an Indexed Job with that many completions"
        )
    return Place(index, nodes)
