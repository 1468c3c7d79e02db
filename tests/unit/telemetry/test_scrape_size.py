"""A scrape of the fullest pod stays below 500 series, however many tasks its data has."""

from __future__ import annotations

import pytest

from m2r_train.telemetry.history import History
from m2r_train.telemetry.metrics import (
    CHECKPOINT_PHASES,
    PHASES,
    STEP_GAUGES,
    STORE_ERRORS,
    STORE_OPERATIONS,
    TOKEN_KINDS,
    MetricSet,
    closed,
)

MOST_SERIES = 500
KEYS = (*STEP_GAUGES, "accuracy", "difficulty", "reward", "reward_std", "ednm", "exact")


def series(metrics: MetricSet) -> int:
    lines = metrics.exposition().decode().splitlines()
    return sum(1 for line in lines if line and not line.startswith("#"))


def full(tasks: int) -> MetricSet:
    """The metrics of an RLVR run that has told everything there is to tell."""
    names = closed([f"task {n}" for n in range(tasks)])
    metrics = MetricSet(label_values={"task": set(names.values())})
    for name in names.values():
        record = dict.fromkeys(KEYS, 0.5) | {"step": 1, "task": name}
        metrics.record_step(History([record]).rows[0])
    for phase in PHASES:
        metrics.observe("m2r_step_phase_seconds", 1.0, phase=phase)
    for phase in CHECKPOINT_PHASES:
        metrics.observe("m2r_checkpoint_seconds", 1.0, phase=phase)
    for kind in TOKEN_KINDS:
        metrics.inc("m2r_tokens_total", kind=kind)
    metrics.set("m2r_model_flops_utilization_ratio", 0.4)
    for operation in STORE_OPERATIONS[:3]:  # a store that fails in every way fails the run
        for error in STORE_ERRORS[:3]:
            metrics.inc("m2r_store_errors_total", operation=operation, error=error)
    return metrics


@pytest.mark.parametrize(("tasks", "least"), [(4, 100), (14, 180), (1000, 300)])
def test_a_scrape_is_bounded(tasks: int, least: int) -> None:
    assert least < series(full(tasks)) <= MOST_SERIES
