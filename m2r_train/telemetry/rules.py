"""The alerts, declared once: data from which the file of Prometheus rules is made.

A run is identified by the labels that the chart's PodMonitor puts on a scrape: ``namespace``,
``run_kind`` and ``run``. Alerts on one run keep exactly these, so that a new pod of the same run
neither resolves an alert nor doubles it. The time of the last step is 0 until the first one ends:
that is no stall. Thresholds are rules of thumb, not from the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

RUN = "namespace, run_kind, run"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert: ``expression`` in PromQL, true for ``wait`` (a Prometheus duration)."""

    name: str
    expression: str
    wait: str
    severity: Literal["warning", "critical"]
    summary: str


def _by_run(aggregation: str, inner: str) -> str:
    return f"{aggregation} by ({RUN}) ({inner})"


def _sign(sign: str) -> str:
    return _by_run("max", f'm2r_alarm{{sign="{sign}"}}') + " == 1"


ALERTS: tuple[Alert, ...] = (
    Alert("M2RStalled", f"time() - {_by_run('max', 'm2r_last_step_timestamp_seconds > 0')} > 1800",
          "5m", "critical", "No step ended for half an hour."),
    Alert("M2RNonFinite",
          f"{_by_run('sum', 'increase(m2r_nonfinite_steps_total[10m])')} > 0",
          "0m", "critical", "Steps were skipped: loss or gradient was not finite."),
    Alert("M2RDivergence", _sign("Divergence"),
          "5m", "critical", "The trainer sees the policy diverge."),
    Alert("M2RShortChains", _sign("ShortChains"),
          "15m", "warning", "Chains of thought become short."),
    Alert("M2RRepetition", f"{_by_run('max', 'm2r_repetition_ratio')} > 0.2",
          "15m", "warning", "More than a fifth of the completions repeat themselves."),
    Alert("M2RZeroSignal", f"{_by_run('max', 'm2r_zero_signal_groups_ratio')} > 0.9",
          "20m", "warning", "Nine groups in ten teach nothing: all their rewards are equal."),
    Alert("M2RSamplerGap", f"{_by_run('max', 'm2r_sampler_logp_diff')} > 0.2",
          "10m", "warning", "Sampler and trainer disagree on log-probabilities."),
    Alert("M2RSlowStore",
          f"{_by_run('sum', 'increase(m2r_checkpoint_wait_seconds_total[30m])')} > 180",
          "5m", "warning", "Checkpoints waited for the store for a tenth of the time."),
)  # fmt: skip


def rules() -> dict[str, Any]:
    """The content of a Prometheus rules file; also the ``spec`` of a ``PrometheusRule``."""
    alerts = [
        {
            "alert": one.name,
            "expr": one.expression,
            "for": one.wait,
            "labels": {"severity": one.severity},
            "annotations": {"summary": one.summary},
        }
        for one in ALERTS
    ]
    return {"groups": [{"name": "m2r-runs", "rules": alerts}]}
