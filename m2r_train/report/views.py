"""What a report is made from: plain data, read from the store by the caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PHASES = ("data", "generate", "reward", "train", "sync", "checkpoint", "evaluate")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """One resource's run.

    ``history`` and ``timings`` are the records of `m2r_train.telemetry.history`; ``traces`` are
    ``{step, id, task, question, answer, completions: [{text, extracted, reward_task,
    reward_format, reward, advantage, tokens}], image (data URI or None)}``, of which the first and
    the last step are shown in part, or all in full where they are ``whole_traces``; ``results`` is
    ``eval/results.json``; ``lineage`` lists (kind, name, digest) from the first ancestor to this
    run. ``dataset_stats`` is::

        {stages: [{stage, in, out, dropped: {reason: n}}],   # in order; in = out + sum(dropped)
         splits: {split: n}, tasks: {task: n},
         difficulty: [n, ..]}                                # equal bins over 0..1

    Any part may be missing: the report leaves out what it has no data for.
    """

    kind: str
    name: str
    title: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict)
    status: str | Mapping[str, Any] = ""
    history: Sequence[Mapping[str, Any]] = ()
    timings: Sequence[Mapping[str, Any]] = ()
    traces: Sequence[Mapping[str, Any]] = ()
    whole_traces: bool = False
    results: Mapping[str, Any] | None = None
    dataset_stats: Mapping[str, Any] | None = None
    lineage: Sequence[tuple[str, str, str]] = ()

    @property
    def phase(self) -> str:
        """``Succeeded``, ``Running``, ..; from a status document or a plain word."""
        return self.status if isinstance(self.status, str) else str(self.status.get("phase", ""))

    @property
    def label(self) -> str:
        """The run's short name in tables: its title, else its name less an ``eval-`` prefix."""
        return self.title or self.name.removeprefix("eval-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A paired difference of two models on the same samples, in points of percent.

    ``model`` less ``baseline`` (labels of the table's columns), with its 95 % interval, standard
    error and two-sided p-value.
    """

    benchmark: str
    task: str
    baseline: str
    model: str
    difference: float
    low: float
    high: float
    n: int | None = None
    stderr: float | None = None
    p: float | None = None

    @property
    def is_significant(self) -> bool:
        """Zero lies outside the interval."""
        return self.low > 0 or self.high < 0
