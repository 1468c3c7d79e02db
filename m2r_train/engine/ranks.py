"""The ranks of a run: which of them this process is, and how they agree. Free of torch.

A rank is a process that takes part in every step. What ranks tell each other are JSON values and
bytes, never pickles. Every method of `Ranks` is called by all of them, in the same order.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from m2r_train.api.errors import ConfigError, M2RError

RANK: Final = "RANK"
SIZE: Final = "WORLD_SIZE"
LOCAL_RANK: Final = "LOCAL_RANK"
MASTER: Final = ("MASTER_ADDR", "MASTER_PORT")


class RanksLostError(M2RError):
    """Another rank has ended, or has not answered in time; what ended it, that rank tells.

    The exit code is a crash's, and tells a launcher that the cause is elsewhere.
    """

    exit_code = 74


@dataclass(frozen=True, slots=True)
class Seat:
    """Which of how many ranks this process is; ``local`` counts those of its node."""

    index: int = 0
    size: int = 1
    local: int = 0


FIRST: Final = Seat()


def seat_here(environment: Mapping[str, str] | None = None) -> Seat | None:
    """This process's seat, as torchrun tells it (None: nobody told).

    Raises ``ConfigError`` for an environment that tells only half of it.
    """
    given = os.environ if environment is None else environment
    if not given.get(RANK):
        return None
    missing = [name for name in (SIZE, *MASTER) if not given.get(name)]
    if missing:
        raise ConfigError(f"{RANK} is set without {', '.join(missing)}; start ranks with torchrun")
    try:
        seat = Seat(int(given[RANK]), int(given[SIZE]), int(given.get(LOCAL_RANK) or given[RANK]))
    except ValueError as error:
        raise ConfigError(f"{RANK}, {SIZE} and {LOCAL_RANK} must be numbers ({error})") from error
    if not (0 <= seat.index < seat.size and seat.local >= 0):
        raise ConfigError(f"{RANK}={seat.index}: a number below {SIZE} ({seat.size}) is expected")
    return seat


class Ranks:
    """One process that works alone: it agrees with itself."""

    def __init__(self, seat: Seat | None = None) -> None:
        self.seat = seat or FIRST

    @property
    def leads(self) -> bool:
        """Whether this rank owns the run: it alone writes to the store."""
        return self.seat.index == 0

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return self.seat.size

    def owns(self, number: int) -> bool:
        """Whether the item with this number is this rank's share."""
        return number % self.seat.size == self.seat.index

    def share_bytes(self, data: bytes | memoryview | None) -> bytes | memoryview | None:
        """What rank 0 has; the others' own ``data`` does not count."""
        return data

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """What every rank has, in their order, told to all of them."""
        return [data]

    def share(self, value: Any) -> Any:
        """The JSON value of rank 0."""
        return value if self.size == 1 else _parsed(self.share_bytes(_text(value)))

    def gather(self, value: Any) -> list[Any]:
        """The JSON value of every rank, in their order."""
        if self.size == 1:
            return [value]
        return [_parsed(data) for data in self.gather_bytes(_text(value))]

    def close(self) -> None:
        """Part from the others."""


ALONE: Final = Ranks()


def shares(weights: Sequence[int], size: int) -> list[list[int]]:
    """Indexes of items for each of ``size`` ranks, so that the sums of their weights are close.

    The heaviest item first, each to the rank that has the least so far (Graham, 1969: at most 4/3
    of the best). Every rank's items are in rising order. A pure function: all ranks agree.
    """
    if size == 1:
        return [list(range(len(weights)))]
    given: list[list[int]] = [[] for _ in range(size)]
    loads = [0] * size
    for index in sorted(range(len(weights)), key=lambda i: (-weights[i], i)):
        rank = min(range(size), key=lambda r: (loads[r], len(given[r]), r))
        given[rank].append(index)
        loads[rank] += weights[index]
    return [sorted(own) for own in given]


def _text(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _parsed(data: bytes | memoryview | None) -> Any:
    assert data is not None
    return json.loads(bytes(data))
