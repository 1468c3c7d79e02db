"""Equal arguments, equal value: asked before a run begins, as resuming stands on it.

A replayed step is scored again. A reward that draws random numbers, reads a clock or counts its
calls would give the step other rewards than the first time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from m2r_train.ownrewards.process import Limits, RewardFile, RewardProcess

Question = tuple[str, Mapping[str, Any]]
"""A completion and its problem."""


def check_purity(file: RewardFile, limits: Limits, asked: Sequence[Question]) -> None:
    """Ask everything twice in one process, and in another one backwards.

    Raises ``DataError`` where a value differs, and as ``RewardProcess``.
    """
    with RewardProcess(file, limits) as one:
        first, again = ([one(*q) for q in asked] for _ in range(2))
    with RewardProcess(file, limits) as other:
        backwards = [other(*q) for q in reversed(asked)][::-1]
    for (completion, problem), *values in zip(asked, first, again, backwards, strict=True):
        if len(set(values)) > 1:
            raise file.fault(
                f"reward() gave {_several(values)} for the same sample {problem.get('id')!r} and "
                f"completion {completion[:60]!r}; its value may hang on its arguments alone, not "
                "on chance, time or earlier calls"
            )


def _several(values: Sequence[float]) -> str:
    return " and ".join(str(v) for v in dict.fromkeys(values))
