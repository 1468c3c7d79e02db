"""How fast and how often: a token bucket, and pauses that grow and are not in step."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field


class TokenBucket:
    """At most ``rate`` requests a second over time, ``burst`` at once."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, float(burst)
        self._tokens, self._filled_at = float(burst), float("-inf")

    async def take(self) -> None:
        """Wait until a request may be sent. Those who wait are served in turn."""
        now = asyncio.get_running_loop().time()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        self._tokens -= 1.0  # may go below zero: the debt is this one's waiting time
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._rate)


@dataclass(slots=True)
class Backoff:
    """Pauses in seconds: doubling from ``first`` to ``most``, each somewhere in its upper half.

    Randomness is of the process's own (`SystemRandom`): replicas must not wake in step.
    """

    first: float = 0.2
    most: float = 30.0
    random: random.Random = field(default_factory=random.SystemRandom)
    _count: int = 0

    def next(self) -> float:
        """The next pause."""
        pause = min(self.most, self.first * 2.0 ** min(self._count, 30))
        self._count += 1
        return pause * self.random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin anew: it worked."""
        self._count = 0

    def __iter__(self) -> Iterator[float]:
        """The pauses of a new series, without end."""
        series = Backoff(self.first, self.most, self.random)
        while True:
            yield series.next()
