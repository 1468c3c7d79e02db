"""When a failed request is made again, and how long to wait before: pure decisions.

Delays double from ``first`` to ``most`` seconds, each scaled by a factor from 0.5 to 1 that depends
on the request, so that many clients do not come back together. A server's own ``Retry-After`` wins
where it asks for more, up to ``most``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from m2r_train.core.rng import derive_seed

FailureKind = Literal["unreachable", "stalled", "rubbish", "status"]

# Worth another try: timeouts, conflicts, "too early", too many requests, and the server's own.
_PASSING_STATUS = frozenset({408, 409, 425, 429})


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request came to nothing: ``status`` (HTTP) and ``retry_after`` (seconds) if known."""

    kind: FailureKind
    message: str
    status: int | None = None
    retry_after: float | None = None

    @property
    def permanent(self) -> bool:
        """Whether the same request can only fail again: a wrong key, name or request."""
        if self.kind != "status" or self.status is None:
            return False
        return self.status < 500 and self.status not in _PASSING_STATUS


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often and how patiently; ``retries`` does not count the first try."""

    retries: int = 8
    first: float = 1.0
    most: float = 60.0

    def delay(self, failure: Failure, failed: int, *path: int | str) -> float | None:
        """Seconds before the next try after ``failed`` tries (>= 1), or None to give up.

        ``path`` names the request (with the run's seed first, if there is one).
        """
        if failure.permanent or failed > self.retries:
            return None
        doubled = min(self.most, self.first * 2.0 ** min(failed - 1, 30))
        share = 0.5 + derive_seed(0, "backoff", failed, *path) / 2**64
        asked = min(failure.retry_after or 0.0, self.most)
        return max(doubled * share, asked)
