"""What there is of an attempt whatever its stage does: its run, its ranks, its records, its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from m2r_train.engine.ranks import ALONE, Ranks
from m2r_train.stages.inputs import Inputs
from m2r_train.stages.stop import StopRequest
from m2r_train.store import Helper, Run
from m2r_train.telemetry.history import History
from m2r_train.telemetry.metrics import MetricSet
from m2r_train.telemetry.server import StatusServer

_LEAVING_SECONDS = 5.0  # of the grace period are kept for the process's own end, but at most
_LEAVING_SHARE = 0.1  # this share of it


@dataclass(kw_only=True)
class Attempt(Inputs):
    """One attempt at one run: what is told of it, noted in it, and asked of it."""

    run: Run | Helper
    metrics: MetricSet
    stop: StopRequest = field(default_factory=StopRequest)
    server: StatusServer | None = None
    ranks: Ranks = ALONE
    started: float = field(default_factory=time.time)  # the run's first attempt, in Unix seconds
    history: History = field(default_factory=History)
    timings: History = field(default_factory=History)
    traces: list[dict[str, Any]] = field(default_factory=list)
    trace_files: dict[str, bytes] = field(default_factory=dict)  # of steps in no checkpoint yet
    probe: Callable[[str], None] = lambda _name: None

    @property
    def owned(self) -> Run:
        """The run, for its owner: who helps commits, publishes and prunes nothing."""
        assert isinstance(self.run, Run)
        return self.run

    def tell(self, **what: Any) -> None:
        """Change what ``GET /status`` says, where it is served."""
        if self.server is not None:
            self.server.update(**what)

    def seconds_left(self) -> float | None:
        """Seconds until the process has to be gone; None while nobody asked, or only Ctrl-C did."""
        if self.stop.asked is None or self.stop.reason != "SIGTERM":
            return None
        grace = self.run_spec.parsed_spec.disruption.termination_grace_period_seconds
        leaving = min(_LEAVING_SECONDS, _LEAVING_SHARE * grace)
        return self.stop.asked + grace - leaving - time.monotonic()
